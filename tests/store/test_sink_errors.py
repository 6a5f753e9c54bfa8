"""A sink refuses what does not fit, says what the disk refuses, and keeps what it has."""

from __future__ import annotations

import errno
import os
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.store import FrameError, publish
from bluesky_zarr.store._shard import ShardFile
from tests.store.sinks import MakeSink, frame, full_disk, grid, read, store_of

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
    make_sink: MakeSink, wrong: Any, words: str
) -> None:
    sink = make_sink()
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
def test_a_position_outside_of_the_scan_is_refused(
    make_sink: MakeSink, index: Any, words: str
) -> None:
    sink = make_sink(geometry=grid(2, 3))
    with pytest.raises(FrameError, match=words):
        sink.write(frame(0), index)
    sink.write(frame(0), (np.int64(1), 2))
    assert sink.written.tolist() == [[0, 0, 0], [0, 0, 1]]


def test_one_frame_too_many_is_refused(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(2))
    sink.write(frame(0))
    sink.write(frame(1))
    with pytest.raises(FrameError, match="frame 2 for 'cam' is out of bounds: the scan has 2 pos"):
        sink.write(frame(2))
    sink.write(frame(2), 0)


@pytest.mark.parametrize("index", [None, 3, (3,)])
def test_capacity_limits_a_growing_array(make_sink: MakeSink, index: Any) -> None:
    sink = make_sink(capacity=3)
    for k in range(3):
        sink.write(frame(k))
    with pytest.raises(FrameError, match="index 3 for 'cam' is past the capacity of 3 frames; "):
        sink.write(frame(3), index)
    sink.close()
    assert sink.shape == (3, 10, 10)


def test_a_mistaken_index_does_not_ask_for_terabytes(make_sink: MakeSink) -> None:
    sink = make_sink()
    with pytest.raises(FrameError, match="is past the 2147483648 positions that an array can"):
        sink.write(frame(0), 10**12)


def test_a_closed_sink_takes_no_more(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.close()
    sink.close()
    with pytest.raises(RuntimeError, match="the sink of 'primary/cam' is closed"):
        sink.write(frame(0))


# ---------------------------------------------------------------------- a disk that refuses


WORDS = (
    r"array 'primary/cam' in '.*s0.zarr': a frame could not be written "
    r"\(No space left on device\); the 2 positions that are readable stay so.*primary/cam"
)


@pytest.mark.parametrize("size", [10, 300])
def test_an_error_of_the_disk_comes_out_and_keeps_coming(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    shape = (size, size)
    sink = make_sink(shape)
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


def test_a_failed_sync_is_an_error_of_the_sink(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShardFile) -> None:
        raise OSError(errno.EIO, "Input/output error", str(self.path))

    monkeypatch.setattr(ShardFile, "sync", broken)
    sink = make_sink()
    sink.write(frame(0))
    with pytest.raises(OSError, match="Input/output error"):
        sink.sync()
    with pytest.raises(OSError, match="Input/output error"):
        sink.write(frame(1))
