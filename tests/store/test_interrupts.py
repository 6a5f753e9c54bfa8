"""Ctrl-C anywhere in a write: the sink goes on, and can be closed."""

from __future__ import annotations

import linecache
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import bluesky_zarr
from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter, validate
from tests.store.reading import zarr_python

PACKAGE = str(Path(bluesky_zarr.__file__).parent)
WATCHED = (PACKAGE, threading.__file__)
#: Lines before which no signal is looked at.
UNSEEN = ("with ", "free.append(", "os.close(fd)")


def interrupted_at(
    step: int, call: Callable[[], object], *, watched: tuple[str, ...] = WATCHED
) -> bool:
    """Whether Ctrl-C came: before the `step`-th line that the call runs on this thread."""
    left = step
    before = ("", 0)

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left, before
        name = frame.f_code.co_filename
        if not name.startswith(watched):
            return None
        if event == "line":
            here = (name, frame.f_lineno)
            if here == before:  # the next turn of a comprehension
                return trace
            before = here
        line = linecache.getline(name, frame.f_lineno).lstrip()
        # The interpreter looks at signals where something is called: never between a lock's
        # `__enter__` and its block, nor between that and its `__exit__`, which both count as the
        # line of the `with`, unless the lock is a class of Python. A `Turn` and a `flock` are
        # given up (`UNSEEN`) in a `finally`, which no call comes right before.
        if (event == "line" and "(" in line and not line.startswith(UNSEEN)) or (
            event == "return" and frame.f_code.co_name == "__enter__"
        ):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    tracing = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    except RuntimeError as error:
        # As `Condition.wait` takes its lock back: the `with` around it has nothing to give up then.
        assert str(error) == "release unlocked lock"  # noqa: PT017
        return True
    finally:
        sys.settrace(tracing)
    return False


@pytest.mark.parametrize(
    ("shape", "flown", "durability"),
    [
        ((10, 10), False, "page"),
        ((10, 10), False, "flush-1-frames"),
        ((200, 200), False, "page"),
        ((10, 10), True, "page"),
    ],
)
def test_ctrl_c_anywhere_in_a_write_leaves_a_sink_that_goes_on_and_can_be_closed(
    tmp_path: Path, shape: tuple[int, ...], flown: bool, durability: str
) -> None:
    def frame(value: int) -> np.ndarray:
        return np.full(shape, value, "uint16")

    step, came = 0, True
    while came:
        writer = ZarrWriter(tmp_path / f"{step}.zarr", codec="none", durability=durability)
        sink = writer.prepare(SourceInfo("cam", "uint16", shape, flown=flown), capacity=8)
        sink.write(frame(1), 0)
        came = interrupted_at(step, lambda s=sink: s.write(frame(2), 1))
        sink.write(frame(3), 2)
        closing = threading.Thread(target=sink.close, daemon=True)
        closing.start()
        closing.join(10)
        assert not closing.is_alive(), f"close() waits for ever after Ctrl-C at line {step}"
        found = zarr_python(writer.path, "cam")[:, 0, 0].tolist()
        # The one that was interrupted may be there or not.
        assert (found[0], found[2]) == (1, 3), f"at line {step}"
        assert found[1] in ((0, 2) if came else (2,)), f"at line {step}"
        step += 1
    assert step > 5


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
@pytest.mark.parametrize("what", ["write", "write_many", "flush", "drain"])
def test_ctrl_c_as_small_frames_go_out_together_loses_none_that_was_taken_before(
    tmp_path: Path, codec: str, what: str
) -> None:
    def frame(value: int) -> np.ndarray:
        return np.full((10, 10), value, "uint16")

    step, came = 0, True
    while came:
        writer = ZarrWriter(
            tmp_path / f"{step}.zarr",
            codec=codec,
            layout=Layout((4, 10, 10), (32, 10, 10)),
            group_seconds=3600,
        )
        sink = writer.prepare(SourceInfo("cam", "uint16", (10, 10), flown=True), capacity=32)
        calls = {
            "write": lambda s=sink: s.write(frame(4), 3),
            "write_many": lambda s=sink: s.write_many(frame(4)[np.newaxis], 3),
            "flush": sink.flush,
            "drain": sink.drain,
        }
        for value in (1, 2, 3):
            sink.write(frame(value))
        came = interrupted_at(step, calls[what])
        # Enough for blocks to be used again.
        for value in range(5, 33):
            sink.write(frame(value), value - 1)
        sink.close()
        found = zarr_python(writer.path, "cam")[:, 0, 0].tolist()
        fourth = (0, 4) if came or what in ("flush", "drain") else (4,)
        assert found[:3] + found[4:] == [1, 2, 3, *range(5, 33)], f"at line {step}"
        assert found[3] in fourth, f"at line {step}"
        counts = sink.written.tolist()
        assert counts == [int(value > 0) for value in found], f"at line {step}"
        step += 1
    assert step > 5


@pytest.mark.parametrize("what", ["close", "complete", "publish"])
@pytest.mark.parametrize("flown", [False, True])
def test_ctrl_c_anywhere_at_the_end_leaves_what_can_be_ended_again(
    tmp_path: Path, what: str, flown: bool
) -> None:
    step, came = 0, True
    while came:
        writer = ZarrWriter(tmp_path / f"{step}.zarr")
        sink = writer.prepare(SourceInfo("cam", "uint16", (4, 4), flown=flown), key="primary/cam")
        for value in (1, 2, 3):
            sink.write(np.full((4, 4), value, "uint16"))
        calls = {"close": sink.close, "complete": writer.complete, "publish": writer.publish}
        # Not in `threading`, where zarr-python waits for its own loop.
        came = interrupted_at(step, calls[what], watched=(PACKAGE,))
        writer.complete()
        writer.publish()
        report = validate(writer.path, deep=True)
        assert report, f"at line {step}: {report}"
        assert report.status == "complete"
        assert zarr_python(writer.path, "primary/cam")[:, 0, 0].tolist() == [1, 2, 3]
        assert zarr_python(writer.path, "primary/cam_written")[:].tolist() == [1, 1, 1]
        # There are hundreds of lines to an end, and some two thousand to a publication.
        step += {"close": 43, "complete": 71, "publish": 149}[what]
    assert step > 5
