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
from bluesky_zarr.store import SourceInfo, ZarrWriter
from tests.store.reading import zarr_python

PACKAGE = str(Path(bluesky_zarr.__file__).parent)
WATCHED = (PACKAGE, threading.__file__)
#: Lines before which no signal is looked at.
UNSEEN = ("with ", "free.append(")


def interrupted_at(step: int, call: Callable[[], object]) -> bool:
    """Whether Ctrl-C came: before the `step`-th line that the call runs on this thread."""
    left = step

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal left
        name = frame.f_code.co_filename
        if not name.startswith(WATCHED):
            return None
        line = linecache.getline(name, frame.f_lineno).lstrip()
        # The interpreter looks at signals where something is called: never between a lock's
        # `__enter__` and its block, nor between that and its `__exit__`, which both count as the
        # line of the `with`, unless the lock is a class of Python. A `Turn` is given up (`UNSEEN`)
        # in a `finally`, which no call comes right before.
        if (event == "line" and "(" in line and not line.startswith(UNSEEN)) or (
            event == "return" and frame.f_code.co_name == "__enter__"
        ):
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(
    ("shape", "flown"), [((10, 10), False), ((200, 200), False), ((10, 10), True)]
)
def test_ctrl_c_anywhere_in_a_write_leaves_a_sink_that_goes_on_and_can_be_closed(
    tmp_path: Path, shape: tuple[int, ...], flown: bool
) -> None:
    def frame(value: int) -> np.ndarray:
        return np.full(shape, value, "uint16")

    step, came = 0, True
    while came:
        writer = ZarrWriter(tmp_path / f"{step}.zarr", codec="none")
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
