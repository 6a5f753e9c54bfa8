"""A frame that is given up, and comes late."""

from __future__ import annotations

import asyncio
import threading
import time
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
import zarr

from bluesky_zarr.store import _sink as sink_module
from bluesky_zarr.store._frames import FrameFiles
from tests.fakes import code_of


def test_a_frame_that_comes_late_is_not_announced_as_the_one_that_was_taken_again(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, let_go, number = threading.Event(), threading.Event(), [0]
    store = FrameFiles.store

    def slowly(self: FrameFiles, frame: Any, *args: Any, **kwargs: Any) -> None:
        if frame.ndim == 2 and frame.shape == lab.cam.shape:
            number[0] += 1
            if number[0] == 1:
                began.set()
                assert let_go.wait(10)
            else:
                time.sleep(0.3)  # the late one is told of long before
        store(self, frame, *args, **kwargs)

    monkeypatch.setattr(FrameFiles, "store", slowly)
    monkeypatch.setattr(sink_module, "INLINE_BYTES", 0)
    seen: list[int] = []

    def look(name: str, doc: Any) -> None:
        if name == "event":
            array = zarr.open_array(lab.storage.last_path / "primary/cam", mode="r")
            seen.append(int(np.asarray(array[0]).flat[0]))

    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.trigger(lab.cam, group="first")
        yield from bps.wait_for([lambda: asyncio.to_thread(began.wait, 10)])
        lab.cam.offset = 1000
        threading.Timer(0.2, let_go.set).start()
        yield from bps.trigger_and_read([lab.cam])  # given up, and taken again

    lab.RE.subscribe(look)
    lab.RE(plan())
    assert seen == [1000 + code_of((0, 0))]
