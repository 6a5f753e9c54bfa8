"""Frames wait for the workers in little memory and with few open files, and go out in time."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.store import Layout
from bluesky_zarr.store import _frames as frames_module
from bluesky_zarr.store import _open_shards as open_shards_module
from bluesky_zarr.store import _queue as queue_module
from bluesky_zarr.store._shard import ShardFile
from tests.store.sinks import MakeSink, frame, full_disk, grid, read


@pytest.mark.parametrize(("workers", "most"), [(2, 4), (8, 5)])
def test_write_waits_while_the_queue_is_full_or_has_more_than_keeps_the_workers_busy(
    make_sink: MakeSink,
    small_is_large: None,
    monkeypatch: pytest.MonkeyPatch,
    workers: int,
    most: int,
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 1000)
    monkeypatch.setattr(queue_module, "worker_count", lambda: workers)
    sink = make_sink()
    gate = threading.Event()
    store = sink._files.store

    def slow(*args: Any) -> None:
        gate.wait(10)
        store(*args)

    monkeypatch.setattr(sink._files, "store", slow)
    taken = []
    source = threading.Thread(target=lambda: [taken.append(sink.write(frame(k))) for k in range(9)])
    source.start()
    time.sleep(0.1)
    # 200 bytes each.
    assert len(taken) == most
    gate.set()
    source.join(10)
    sink.close()
    np.testing.assert_array_equal(read(sink), [frame(k) for k in range(9)])


@pytest.mark.parametrize("late", [math.inf, 0.0], ids=["free", "busy"])
def test_large_frames_go_out_in_small_pieces_only_while_the_interpreter_is_free(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    pieces: list[int] = []
    write = ShardFile.write

    def counted(file: ShardFile, buffers: Any, offset: int) -> None:
        pieces.append(sum(memoryview(buffer).nbytes for buffer in buffers))
        write(file, buffers, offset)

    monkeypatch.setattr(ShardFile, "write", counted)
    monkeypatch.setattr(frames_module, "LATE_SECONDS", late)
    monkeypatch.setattr(frames_module._Pieces, "busy_until", 0.0)
    sink = make_sink(shape=(1024, 1024), dtype="uint16", codec="none", capacity=2)
    frames = np.random.default_rng(0).integers(0, 4096, (2, 1024, 1024)).astype("uint16")
    for one in frames:
        sink.write(one)
    sink.close()
    assert max(pieces) > 2**21 if late == 0.0 else max(pieces) < 2**20
    np.testing.assert_array_equal(read(sink), frames)


def test_a_frame_larger_than_the_queue_is_taken(
    make_sink: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 10)
    sink = make_sink()
    for k in range(5):
        sink.write(frame(k))
    sink.close()
    np.testing.assert_array_equal(read(sink), [frame(k) for k in range(5)])


@pytest.mark.filterwarnings("ignore:the layout")
def test_many_shards_need_few_open_files(make_sink: MakeSink, small_is_large: None) -> None:
    sink = make_sink(geometry=grid(100), layout=Layout((1, 10, 10), (1, 10, 10)), codec="none")
    before = len(os.listdir("/proc/self/fd"))
    most = 0
    for k in [*range(100), *range(100)]:
        sink.write(frame(k), k)
        most = max(most, len(os.listdir("/proc/self/fd")))
    sink.drain()
    assert most - before <= open_shards_module.MAX_OPEN_SHARDS + 4
    np.testing.assert_array_equal(read(sink), [frame(k) for k in range(100)])
    sink.sync()
    sink.close()
    assert len(os.listdir("/proc/self/fd")) <= before


def test_data_goes_to_disk_with_sync(
    make_sink: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(ShardFile, "sync", lambda self: synced.append(self.path.name))
    sink = make_sink()
    sink.write(frame(0))
    sink.drain()
    assert not synced
    sink.sync()
    sink.sync()
    assert len(synced) == 1


def test_who_waits_for_room_hears_of_the_error(
    make_sink: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 10)
    monkeypatch.setattr(os, "pwritev", full_disk)
    sink = make_sink()

    def write_three() -> None:
        for k in range(3):
            sink.write(frame(k))

    with pytest.raises(OSError, match="No space left"):
        write_three()
