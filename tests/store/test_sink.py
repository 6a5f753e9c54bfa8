"""What goes into a sink is what is read, from wherever, in whatever order it came."""

from __future__ import annotations

import errno
import itertools
import logging
import math
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import (
    FrameError,
    FrameSink,
    Layout,
    SourceInfo,
    ZarrWriter,
    inspect,
    publish,
)
from bluesky_zarr.store import _frames as frames_module
from bluesky_zarr.store import _open_shards as open_shards_module
from bluesky_zarr.store import _progress as progress_module
from bluesky_zarr.store import _queue as queue_module
from bluesky_zarr.store import _sink as sink_module
from bluesky_zarr.store._shard import ShardFile
from tests.store.reading import READERS, zarr_python

MakeSink = Callable[..., FrameSink]


def grid(*sizes: int, snaked: tuple[int, ...] = ()) -> ScanGeometry:
    return ScanGeometry(
        tuple(
            Dim(f"d{axis}", n, axis in snaked, (Coordinate(f"d{axis}", np.arange(n)),))
            for axis, n in enumerate(sizes)
        )
    )


@pytest.fixture
def make(tmp_path: Path) -> MakeSink:
    numbers = itertools.count()

    def make(
        shape: tuple[int, ...] = (10, 10),
        dtype: str = "uint16",
        geometry: ScanGeometry | None = None,
        capacity: int = 0,
        **options: Any,
    ) -> FrameSink:
        writer = ZarrWriter(tmp_path / f"s{next(numbers)}.zarr", **options)
        return writer.prepare(
            SourceInfo("cam", dtype, shape, geometry=geometry), key="primary/cam", capacity=capacity
        )

    return make


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small frames go through the workers, as large ones do."""
    monkeypatch.setattr(sink_module, "INLINE_BYTES", 0)


def store_of(sink: FrameSink) -> Path:
    return Path(sink.uri.removeprefix("file://localhost").removesuffix("/" + sink.key))


def read(sink: FrameSink) -> np.ndarray:
    return zarr_python(store_of(sink), sink.key)


def frame(k: int, shape: tuple[int, ...] = (10, 10), dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(k).integers(1, 100, shape)
    return np.asarray(values).astype(dtype)


# ---------------------------------------------------------------------- what is written is read


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd-3", "blosc-lz4-5", "blosc-zstd-1"])
@pytest.mark.parametrize("layout", ["frames", "balanced", "series"])
def test_every_codec_and_layout_is_read_by_zarr_python_and_tensorstore(
    make: MakeSink, codec: str, layout: str
) -> None:
    shape = (300, 140)
    sink = make(shape, geometry=grid(2, 3), codec=codec, layout=layout)
    expected = np.zeros((2, 3, *shape), "uint16")
    for k in (4, 0, 5, 2):
        expected[divmod(k, 3)] = frame(k, shape)
        sink.write(expected[divmod(k, 3)], k)
    sink.drain()
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), sink.key), expected)
    sink.close()
    publish(store_of(sink))
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), sink.key), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", ">u2", "uint64", "float32", ">f8", "complex64"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (1, 2, 3, 4)])
def test_every_dtype_and_rank_is_read_as_it_was(
    make: MakeSink, dtype: str, shape: tuple[int, ...], small_is_large: None
) -> None:
    sink = make(shape, dtype)
    for k in range(3):
        sink.write(frame(k, shape, dtype))
    sink.close()
    found = read(sink)
    assert found.shape == (3, *shape)
    assert found.dtype == np.dtype(dtype).newbyteorder("<")
    for k in range(3):
        np.testing.assert_array_equal(found[k], frame(k, shape, dtype))


def test_python_numbers_are_frames_of_scalars(make: MakeSink) -> None:
    sink = make((), "float64")
    sink.write(1.5)
    sink.write(np.float64(2.5))
    sink.close()
    assert read(sink).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("copy", [True, False])
def test_views_of_larger_frames_are_stored_right(
    make: MakeSink, monkeypatch: pytest.MonkeyPatch, inline: bool, copy: bool
) -> None:
    monkeypatch.setattr(sink_module, "INLINE_BYTES", 10**6 if inline else 0)
    sink = make(capacity=2)
    whole = frame(1, (20, 30))
    sink.write(whole[5:15, 3:23:2], copy=copy)
    sink.write(frame(2).T, copy=copy)
    sink.drain()
    np.testing.assert_array_equal(read(sink)[0], whole[5:15, 3:23:2])
    np.testing.assert_array_equal(read(sink)[1], frame(2).T)


def test_a_buffer_can_be_filled_again_as_soon_as_write_returns(
    make: MakeSink, small_is_large: None
) -> None:
    sink = make((200, 300), capacity=50)
    buffer = np.empty((200, 300), "uint16")
    for k in range(50):
        buffer[:] = k
        sink.write(buffer)
    sink.drain()
    np.testing.assert_array_equal(read(sink)[:50, 7, 9], np.arange(50))


def test_a_frame_without_an_index_goes_to_the_next_place_in_order_of_acquisition(
    make: MakeSink,
) -> None:
    geometry = grid(3, 2, 4, snaked=(1, 2))
    sink = make((), "int64", geometry)
    for k in range(10):
        sink.write(k)
    # After a frame that was placed, the next one goes where the scan goes on from there.
    sink.write(100, geometry.position(5))
    for k in range(6, 24):
        sink.write(k)
    sink.close()
    for k in range(24):
        assert read(sink)[geometry.position(k)] == (100 if k == 5 else k)


def test_threads_that_write_without_an_index_do_not_overwrite_each_other(make: MakeSink) -> None:
    sink = make((), "int64", capacity=400)
    threads = [
        threading.Thread(target=lambda base=base: [sink.write(base + k) for k in range(100)])
        for base in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert sorted(read(sink).tolist()) == list(range(400))


# ---------------------------------------------------------------------- written again


@pytest.mark.parametrize("layout", ["frames", "series"])
def test_the_last_frame_at_a_position_wins(
    make: MakeSink, small_is_large: None, layout: str
) -> None:
    sink = make((200, 130), geometry=grid(4), layout=layout)
    numbers = [sink.write(frame(k, (200, 130)), k % 3) for k in range(60)]
    sink.drain()
    assert numbers == list(range(1, 61))
    for position in range(3):
        np.testing.assert_array_equal(read(sink)[position], frame(57 + position, (200, 130)))
    assert sink.written.tolist() == [20, 20, 20, 0]
    assert (sink.readable, sink.completed) == (3, 60)


def test_an_older_frame_that_is_stored_late_does_not_win(make: MakeSink) -> None:
    sink = make(geometry=grid(2), codec="none")
    sink._files.store(frame(2), 1, number=2, time=0.0)
    sink._files.store(frame(1), 1, number=1, time=0.0)
    np.testing.assert_array_equal(read(sink)[1], frame(2))
    assert sink.written.tolist() == [0, 2]
    assert sink.dead_bytes == 64 + 256  # 200 bytes and a checksum, filled up to 64s


def test_bytes_of_frames_written_again_are_counted_as_dead(make: MakeSink) -> None:
    sink = make(codec="none")
    for _ in range(3):
        sink.write(frame(0), 0)
    assert sink.dead_bytes == 2 * (64 + 256)
    sink.close()
    assert inspect(store_of(sink)).dead_bytes == sink.dead_bytes


@pytest.mark.parametrize("layout", ["frames", "series"])
def test_a_frame_taken_back_gives_way_to_the_one_before(make: MakeSink, layout: str) -> None:
    shape = (150, 140)
    sink = make(shape, geometry=grid(2, 2), layout=layout)
    for k in range(3):
        sink.write(frame(k, shape), (1, 0))
    for k in (1, 0):
        sink.retract((1, 0))
        np.testing.assert_array_equal(read(sink)[1, 0], frame(k, shape))
        assert sink.written.tolist() == [[0, 0], [k + 1, 0]]
    sink.retract((1, 0))
    assert not read(sink).any()
    assert sink.readable == 0
    with pytest.raises(FrameError, match=r"index \(1, 0\) for 'cam': there is no frame to take"):
        sink.retract((1, 0))
    sink.write(frame(9, shape), (1, 0))
    np.testing.assert_array_equal(read(sink)[1, 0], frame(9, shape))
    assert sink.written.tolist() == [[0, 0], [1, 0]]


def test_a_frame_taken_back_stays_so_after_a_crash(make: MakeSink) -> None:
    sink = make(geometry=grid(2))
    sink.write(frame(0), 0)
    sink.write(frame(1), 0)
    sink.retract(0)
    with ShardFile(store_of(sink) / "primary/cam/c/0/0/0", 2, writable=False) as shard:
        assert [(r.number, r.retracted) for r in shard.records()] == [(1, False), (2, True)]


def test_a_damaged_frame_is_not_given_back(make: MakeSink) -> None:
    sink = make(geometry=grid(1), codec="none")
    for k in range(3):
        sink.write(frame(k), 0)
    path = store_of(sink) / "primary/cam/c/0/0/0"
    with ShardFile(path, 1) as shard:
        second = list(shard.records())[1]
        shard.write([b"\xff"], second.offset + 10)
    sink.retract(0)
    np.testing.assert_array_equal(read(sink)[0], frame(0))


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (
            np.zeros((10, 12), "uint16"),
            r"frame for 'cam' has shape \(10, 12\), expected \(10, 10\); check the camera's region",
        ),
        (np.zeros(100, "uint16"), r"has shape \(100,\), expected \(10, 10\)"),
        (
            np.zeros((10, 10)),
            "uint16 expected, got float64; convert it explicitly: no silent wrap",
        ),
        (np.zeros((10, 10), "int16"), "uint16 expected, got int16"),
        (np.zeros((10, 10), ">u2"), r"uint16 \(<u2\) expected, got uint16 \(>u2\), the other byte"),
        (None, "uint16 expected, got object"),
    ],
)
def test_a_wrong_frame_is_refused_and_the_sink_goes_on(
    make: MakeSink, wrong: Any, words: str
) -> None:
    sink = make()
    sink.write(frame(0))
    with pytest.raises(FrameError, match=words):
        sink.write(wrong)
    sink.write(frame(1))
    sink.close()
    assert sink.shape == (2, 10, 10)
    np.testing.assert_array_equal(read(sink), [frame(0), frame(1)])


@pytest.mark.parametrize(
    ("index", "words"),
    [
        (6, r"index 6 for 'cam' is out of bounds: the scan has 6 positions, the dims d0: 2, d1: 3"),
        (-1, "index -1 for 'cam' is out of bounds"),
        ((0, 3), r"index \(0, 3\) for 'cam' is out of bounds in 'd1'; the scan has the dims d0: 2"),
        ((-1, 0), "out of bounds in 'd0'"),
        ((0,), "has 1 entries; the scan has the dims d0: 2, d1: 3"),
        (1.5, "neither a whole number nor a tuple"),
        ((0, "x"), "neither a whole number nor a tuple"),
    ],
)
def test_a_position_outside_of_the_scan_is_refused(make: MakeSink, index: Any, words: str) -> None:
    sink = make(geometry=grid(2, 3))
    with pytest.raises(FrameError, match=words):
        sink.write(frame(0), index)
    sink.write(frame(0), (np.int64(1), 2))
    assert sink.written.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_one_frame_too_many_is_refused(make: MakeSink) -> None:
    sink = make(geometry=grid(2))
    sink.write(frame(0))
    sink.write(frame(1))
    with pytest.raises(FrameError, match="frame 2 for 'cam' is out of bounds: the scan has 2 pos"):
        sink.write(frame(2))
    sink.write(frame(2), 0)


@pytest.mark.parametrize("index", [None, 3, (3,)])
def test_capacity_limits_a_growing_array(make: MakeSink, index: Any) -> None:
    sink = make(capacity=3)
    for k in range(3):
        sink.write(frame(k))
    with pytest.raises(FrameError, match="index 3 for 'cam' is past the capacity of 3 frames; "):
        sink.write(frame(3), index)
    sink.close()
    assert sink.shape == (3, 10, 10)


def test_a_mistaken_index_does_not_ask_for_terabytes(make: MakeSink) -> None:
    sink = make()
    with pytest.raises(FrameError, match="is past the 2147483648 positions that an array can"):
        sink.write(frame(0), 10**12)


def test_a_closed_sink_takes_no_more(make: MakeSink) -> None:
    sink = make()
    sink.close()
    sink.close()
    with pytest.raises(RuntimeError, match="the sink of 'primary/cam' is closed"):
        sink.write(frame(0))


# ---------------------------------------------------------------------- growing


def test_a_growing_array_is_long_enough_for_every_frame_and_trimmed_at_the_end(
    make: MakeSink,
) -> None:
    sink = make(layout=Layout((1, 10, 10), (4, 10, 10)), codec="none")
    lengths = []
    for k in range(50):
        sink.write(frame(k))
        lengths.append(len(read(sink)))
        assert sink.shape[0] >= lengths[-1] > k
        np.testing.assert_array_equal(read(sink)[k], frame(k))
    # Few rewritings of the metadata, however many frames come.
    assert len(set(lengths)) < 8
    sink.write(frame(60), 60)
    sink.close()
    assert read(sink).shape == (61, 10, 10)
    assert sink.written.shape == (61,)
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [1] * 50 + [0] * 10 + [1]


def test_counts_that_a_full_disk_refused_are_written_once_there_is_room(
    make: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make(geometry=grid(4))
    sink.write(frame(0))
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(OSError, match="No space left"):
        sink._files.progress.flush()
    monkeypatch.undo()
    sink.close()
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [1, 0, 0, 0]


def test_an_array_without_a_frame_ends_empty(make: MakeSink) -> None:
    sink = make()
    sink.close()
    publish(store_of(sink))
    assert read(sink).shape == (0, 10, 10)


def test_an_array_of_known_size_keeps_it(make: MakeSink) -> None:
    sink = make(geometry=grid(4))
    sink.write(frame(0))
    sink.close()
    assert read(sink).shape == (4, 10, 10)
    assert sink.expected == 4


# ---------------------------------------------------------------------- progress


def test_readable_says_what_a_reader_finds_and_notify_when(
    make: MakeSink, small_is_large: None
) -> None:
    sink = make(geometry=grid(20))
    seen: list[tuple[int, int]] = []
    sink.notify = lambda completed: seen.append((completed, sink.readable))
    for k in range(20):
        sink.write(frame(k))
    sink.drain()
    assert len(seen) == 20
    assert max(seen) == (20, 20)
    assert sink.readable == sink.completed == 20


def test_a_failing_callback_harms_nobody(make: MakeSink, caplog: pytest.LogCaptureFixture) -> None:
    sink = make()
    sink.notify = lambda completed: 1 // 0
    with caplog.at_level(logging.ERROR):
        sink.write(frame(0))
    sink.close()
    assert "the notify callback of the sink of 'primary/cam' failed" in caplog.text
    np.testing.assert_array_equal(read(sink)[0], frame(0))


def test_a_small_frame_is_readable_when_write_returns(make: MakeSink) -> None:
    sink = make()
    for k in range(5):
        sink.write(frame(k))
        assert sink.readable == k + 1


def test_collect_gives_each_range_once(make: MakeSink) -> None:
    sink = make(geometry=grid(10))
    for k in (3, 2, 4, 8, 9, 0):
        sink.write(frame(k), k)
    assert sink.collect() == [(0, 1), (2, 5), (8, 10)]
    assert sink.collect() == []
    for k in (4, 5, 6):
        sink.write(frame(k), k)
    sink.retract(5)
    assert sink.collect() == [(4, 5), (6, 7)]


@pytest.mark.parametrize("shape", [(5, 7), (3, 200, 150), (2, 3, 20000)])
def test_counts_are_in_the_store_after_close(make: MakeSink, shape: tuple[int, ...]) -> None:
    sink = make((), "uint8", grid(*shape))
    expected = np.zeros(shape, "uint32")
    rng = np.random.default_rng(0)
    for _ in range(100):
        position = tuple(int(rng.integers(n)) for n in shape)
        expected[position] += 1
        sink.write(np.uint8(1), position)
    np.testing.assert_array_equal(sink.written, expected)
    sink.close()
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), "primary/cam_written"), expected)


def test_counts_are_in_the_store_while_frames_come(
    make: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "FLUSH_SECONDS", 0.0)
    sink = make(geometry=grid(3))
    for k in (1, 1, 2):
        sink.write(frame(k), k)
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [0, 2, 1]


# ---------------------------------------------------------------------- the queue


@pytest.mark.parametrize(("workers", "most"), [(2, 4), (8, 5)])
def test_write_waits_while_the_queue_is_full_or_has_more_than_keeps_the_workers_busy(
    make: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch, workers: int, most: int
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 1000)
    monkeypatch.setattr(queue_module, "worker_count", lambda: workers)
    sink = make()
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
    make: MakeSink, monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    pieces: list[int] = []
    write = ShardFile.write

    def counted(file: ShardFile, buffers: Any, offset: int) -> None:
        pieces.append(sum(memoryview(buffer).nbytes for buffer in buffers))
        write(file, buffers, offset)

    monkeypatch.setattr(ShardFile, "write", counted)
    monkeypatch.setattr(frames_module, "LATE_SECONDS", late)
    monkeypatch.setattr(frames_module._Pieces, "busy_until", 0.0)
    sink = make(shape=(1024, 1024), dtype="uint16", codec="none", capacity=2)
    frames = np.random.default_rng(0).integers(0, 4096, (2, 1024, 1024)).astype("uint16")
    for frame in frames:
        sink.write(frame)
    sink.close()
    assert max(pieces) > 2**21 if late == 0.0 else max(pieces) < 2**20
    np.testing.assert_array_equal(read(sink), frames)


def test_a_frame_larger_than_the_queue_is_taken(
    make: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 10)
    sink = make()
    for k in range(5):
        sink.write(frame(k))
    sink.close()
    np.testing.assert_array_equal(read(sink), [frame(k) for k in range(5)])


@pytest.mark.filterwarnings("ignore:the layout")
def test_many_shards_need_few_open_files(make: MakeSink, small_is_large: None) -> None:
    sink = make(geometry=grid(100), layout=Layout((1, 10, 10), (1, 10, 10)), codec="none")
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
    make: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(ShardFile, "sync", lambda self: synced.append(self.path.name))
    sink = make()
    sink.write(frame(0))
    sink.drain()
    assert not synced
    sink.sync()
    sink.sync()
    assert len(synced) == 1


# ---------------------------------------------------------------------- a disk that refuses


def full_disk(fd: int, buffers: Any, offset: int) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


WORDS = (
    r"array 'primary/cam' in '.*s0.zarr': a frame could not be written "
    r"\(No space left on device\); the 2 positions that are readable stay so.*primary/cam"
)


@pytest.mark.parametrize("size", [10, 300])
def test_an_error_of_the_disk_comes_out_and_keeps_coming(
    make: MakeSink, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    shape = (size, size)
    sink = make(shape)
    notified = []
    sink.notify = notified.append
    for k in range(2):
        sink.write(frame(k, shape))
    sink.drain()
    monkeypatch.setattr(os, "pwritev", full_disk)

    def write_another() -> None:
        sink.write(frame(2, shape))
        sink.drain()

    with pytest.raises(OSError, match=WORDS) as raised:
        write_another()
    assert raised.value.errno == errno.ENOSPC
    assert len(notified) == 3
    for call in (
        lambda: sink.write(frame(0, shape)),
        sink.drain,
        sink.sync,
        lambda: sink.retract(0),
        sink.close,
    ):
        with pytest.raises(OSError, match=WORDS):
            call()
    monkeypatch.undo()
    sink.close()
    assert read(sink).shape == (2, *shape)
    publish(store_of(sink), status="failed", reason="disk full")
    for k in range(2):
        np.testing.assert_array_equal(read(sink)[k], frame(k, shape))


def test_who_waits_for_room_hears_of_the_error(
    make: MakeSink, small_is_large: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "QUEUE_BYTES", 10)
    monkeypatch.setattr(os, "pwritev", full_disk)
    sink = make()

    def write_three() -> None:
        for k in range(3):
            sink.write(frame(k))

    with pytest.raises(OSError, match="No space left"):
        write_three()


def test_a_failed_sync_is_an_error_of_the_sink(
    make: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShardFile) -> None:
        raise OSError(errno.EIO, "Input/output error", str(self.path))

    monkeypatch.setattr(ShardFile, "sync", broken)
    sink = make()
    sink.write(frame(0))
    with pytest.raises(OSError, match="Input/output error"):
        sink.sync()
    with pytest.raises(OSError, match="Input/output error"):
        sink.write(frame(1))


# ---------------------------------------------------------------------- against a model


class SinkAgainstNumpy(RuleBasedStateMachine):
    """Whatever is written, in whatever order, the store is what a numpy array would be."""

    @initialize(
        scan=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        growing=st.booleans(),
        codec=st.sampled_from(["none", "blosc-zstd-1", "zstd-1"]),
        layout=st.sampled_from(["frames", "tiles"]),
        inline=st.booleans(),
        published=st.booleans(),
    )
    def begin(
        self, scan: list[int], growing: bool, codec: str, layout: str, inline: bool, published: bool
    ) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.published = published
        scan = scan[:1] if growing else scan
        shape = (3, 5)
        own = Layout((1,) * len(scan) + (2, 2), (2,) * len(scan) + (4, 4))
        writer = ZarrWriter(
            Path(self.directory.name) / "s.zarr",
            codec=codec,
            layout="frames" if layout == "frames" else own,
        )
        source = SourceInfo("cam", "int32", shape, geometry=None if growing else grid(*scan))
        self.sink = writer.prepare(source, key="a/cam")
        self.sink._inline = inline
        self.growing = growing
        self.size = 30 if growing else math.prod(scan)
        self.versions: dict[int, list[np.ndarray]] = {}
        self.number = 0

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        flat = data.draw(st.integers(0, self.size - 1))
        self.number += 1
        value = np.full((3, 5), self.number, "int32")
        value[1, 2] = -1
        assert self.sink.write(value, flat, copy=data.draw(st.booleans())) == self.number
        self.versions.setdefault(flat, []).append(value)

    @rule()
    def wrong(self) -> None:
        with pytest.raises(FrameError):
            self.sink.write(np.zeros((3, 5)), 0)
        with pytest.raises(FrameError):
            self.sink.write(np.zeros((3, 5), "int32"), -1)

    @precondition(lambda self: any(self.versions.values()))
    @rule(data=st.data())
    def retract(self, data: st.DataObject) -> None:
        flat = data.draw(st.sampled_from(sorted(k for k, v in self.versions.items() if v)))
        self.sink.retract(flat)
        self.versions[flat].pop()

    @invariant()
    def what_is_read_is_the_model(self) -> None:
        if hasattr(self, "sink"):
            self.sink.drain()
            self.compare(read(self.sink))
            assert self.sink.readable == sum(map(bool, self.versions.values()))

    def compare(self, found: np.ndarray) -> None:
        found = found.reshape(-1, 3, 5)
        counts = self.sink.written.ravel()
        # A growing array has room for whole shards, and is as long as its frames need.
        assert len(found) == len(counts) or (self.growing and len(found) < len(counts))
        assert not counts[len(found) :].any()
        for flat in range(len(found)):
            versions = self.versions.get(flat, [])
            assert counts[flat] == len(versions)
            expected = versions[-1] if versions else np.zeros((3, 5))
            np.testing.assert_array_equal(found[flat], expected)

    def teardown(self) -> None:
        if not hasattr(self, "sink"):
            return
        self.sink.close()
        if self.published:
            publish(store_of(self.sink))
        self.compare(read(self.sink))
        if self.growing:
            used = [flat for flat, versions in self.versions.items() if versions]
            assert self.sink.shape[0] == max(used, default=-1) + 1
        self.directory.cleanup()


ignoring = pytest.mark.filterwarnings("ignore:the layout")


@ignoring
class TestSinkAgainstNumpy(SinkAgainstNumpy.TestCase):
    settings = settings(max_examples=8, stateful_step_count=10, deadline=None)


@ignoring
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestSinkAgainstNumpyForLong(SinkAgainstNumpy.TestCase):
    settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
