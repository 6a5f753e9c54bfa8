"""A camera whose frames are ready before they are asked for, in a ring, and plans that fly it."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bluesky.utils import Msg
from ophyd_async.core import DetectorAcquireLogic, DetectorTriggerLogic, TriggerInfo

from bluesky_zarr.devices import FrameFormat, FrameSource, WritableDevice

PATIENCE = 120.0
"""Seconds that ophyd-async waits for a frame."""


def ring_of(number: int, shape: tuple[int, ...]) -> np.ndarray:
    """Frames of 12-bit counts with the noise of photons, over a slope."""
    mean = np.linspace(200, 3000, int(np.prod(shape))).reshape(shape)
    counts = [np.random.default_rng(seed).poisson(mean) for seed in range(number)]
    return np.clip(counts, 0, 4095).astype("uint16")


class RingSource(FrameSource):
    """The frames of a ring, in turn; nobody writes into them, so that they need no copy."""

    def __init__(self, ring: np.ndarray, *, fresh: bool) -> None:
        self.ring = ring
        self.fresh_frames = fresh

    async def frame_format(self) -> FrameFormat:
        return FrameFormat(self.ring.shape[1:], self.ring.dtype.name)


class _Trigger(DetectorTriggerLogic):
    number = 1

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.number = num


class _Acquire(DetectorAcquireLogic):
    def __init__(self, source: RingSource, trigger: _Trigger) -> None:
        self._source, self._trigger = source, trigger
        self._stopped = threading.Event()
        self._thread = threading.Thread()

    async def start_acquiring(self) -> None:
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="driver")
        self._thread.start()

    def _run(self) -> None:
        ring = list(self._source.ring)
        for number in range(self._trigger.number):
            if self._stopped.is_set():
                return
            self._source.deliver(ring[number % len(ring)])

    async def wait_for_idle(self) -> None:
        if self._thread.ident:
            await asyncio.to_thread(self._thread.join)

    async def ensure_stopped(self) -> None:
        self._stopped.set()
        await self.wait_for_idle()


class RingCamera(WritableDevice):
    """Delivers its frames from a thread of its own, as fast as they are taken."""

    def __init__(self, ring: np.ndarray, *, fresh: bool = True, name: str = "") -> None:
        source, trigger = RingSource(ring, fresh=fresh), _Trigger()
        self._driver = _Acquire(source, trigger)
        self.add_detector_logics(trigger, self._driver)
        self.add_frame_source(source, scalars=())
        super().__init__(name=name)

    async def end(self) -> None:
        """Deliver no more frames."""
        await self._driver.ensure_stopped()


def prepared(cameras: Sequence[RingCamera], frames: Sequence[int], stream: str) -> Iterator[Msg]:
    """Make all ready to fly into one stream."""
    for camera, number in zip(cameras, frames, strict=True):
        yield Msg("null", None, place=(stream, 0))
        info = TriggerInfo(number_of_events=number, exposure_timeout=PATIENCE)
        yield Msg("prepare", camera, info, group="prepared")
    yield Msg("wait", None, group="prepared")
    yield Msg("declare_stream", None, *cameras, name=stream, collect=True)


def kicked_off(cameras: Sequence[RingCamera]) -> Iterator[Msg]:
    """Start all of them, and wait for none."""
    for camera in cameras:
        yield Msg("kickoff", camera, group="started")
    yield Msg("wait", None, group="started")


def ended(cameras: Sequence[RingCamera]) -> Iterator[Msg]:
    """End flights that were prepared for more frames than anybody waits for."""
    yield Msg("wait_for", None, [camera.end for camera in cameras])


def completed(cameras: Sequence[RingCamera], stream: str) -> Any:
    """Collect documents until all frames are there."""
    for camera in cameras:
        yield Msg("complete", camera, group="flown")
    done = False
    while not done:
        done = yield Msg("wait", None, group="flown", timeout=0.5, error_on_timeout=False)
        yield Msg("collect", cameras[0], *cameras[1:], name=stream)


class Heartbeat:
    """The longest time for which an event loop did nothing else, in seconds."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.worst = 0.0
        self._going = False

    def __enter__(self) -> Heartbeat:
        self._going = True
        self._loop.call_soon_threadsafe(self._beat, time.perf_counter())
        return self

    def _beat(self, due: float) -> None:
        now = time.perf_counter()
        self.worst = max(self.worst, now - due)
        if self._going:
            self._loop.call_later(0.001, self._beat, now + 0.001)

    def __exit__(self, *_: object) -> None:
        self._going = False
