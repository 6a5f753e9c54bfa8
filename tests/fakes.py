"""Devices for tests: motors that are there at once, cameras whose pictures say where they were."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorTriggerLogic,
    StandardReadable,
    StandardReadableFormat,
    soft_signal_r_and_setter,
)
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace, Spec

from bluesky_zarr.devices import FrameFormat, FrameSource, WritableDevice

POSITIONS_PER_AXIS = 64


def code_of(positions: Sequence[float]) -> int:
    """One number for a place in a scan whose motors stand at whole numbers."""
    code = 0
    for position in positions:
        code = code * POSITIONS_PER_AXIS + round(position) + 1
    return code


def frame_of(code: int, shape: tuple[int, ...], offset: int = 0) -> np.ndarray:
    """The picture taken at a place: the first pixel is its code, no two pixels are alike."""
    pixels = np.arange(int(np.prod(shape)), dtype="uint32").reshape(shape)
    return pixels + np.uint32(code + offset)


class _Source(FrameSource):
    fresh_frames = True

    def __init__(self, format: FrameFormat) -> None:
        self.format = format

    async def frame_format(self) -> FrameFormat:
        return self.format


class _Trigger(DetectorTriggerLogic):
    number = 1

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.number = num


class _Acquire(DetectorAcquireLogic):
    def __init__(self, camera: PositionCamera, source: _Source, trigger: _Trigger) -> None:
        self._camera = camera
        self._source = source
        self._trigger = trigger
        self._task: asyncio.Task[None] | None = None

    async def start_acquiring(self) -> None:
        self._task = asyncio.create_task(self._expose())

    async def _expose(self) -> None:
        for number in range(self._trigger.number):
            if self._camera.exposure:
                await asyncio.sleep(self._camera.exposure)
            positions = [await m.user_readback.get_value() for m in self._camera.motors]
            code = code_of(positions) + number
            frame = self._camera.picture(code)
            self._camera.taken.append(code)
            self._source.deliver(frame)

    async def wait_for_idle(self) -> None:
        if self._task is not None:
            await self._task

    async def ensure_stopped(self) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


class PositionCamera(WritableDevice):
    """A camera whose frames tell where its motors stood.

    `wrong` replaces the next frame, for tests of bad ones; `exposure` is in seconds.
    """

    def __init__(
        self,
        motors: Sequence[SimMotor] = (),
        shape: tuple[int, ...] = (3, 4),
        *,
        offset: int = 0,
        exposure: float = 0.0,
        name: str = "",
        **kwargs: Any,
    ) -> None:
        self.motors = list(motors)
        self.shape = shape
        self.offset = offset
        self.exposure = exposure
        self.taken: list[int] = []
        self.wrong: np.ndarray | None = None
        source = _Source(FrameFormat(shape, "uint32", units="counts"))
        self.source = source
        trigger = _Trigger()
        self.add_detector_logics(trigger, _Acquire(self, source, trigger))
        self.add_frame_source(source, **kwargs)
        super().__init__(name=name)

    def picture(self, code: int) -> np.ndarray:
        """The frame at a place, or the wrong one that a test asked for."""
        if self.wrong is not None:
            wrong, self.wrong = self.wrong, None
            return wrong
        return frame_of(code, self.shape, self.offset)


def instant_motor(name: str, position: float = 0.0) -> SimMotor:
    """A motor that is where it was sent at once."""
    return SimMotor(name=name, instant=True, initial_value=position)


def spec_of(motors: Sequence[SimMotor], sizes: Sequence[int], snaked: Sequence[bool]) -> Spec[Any]:
    """A scan over whole numbers, slowest motor first, as deep as `snaked` is long."""
    spec: Any = None
    for motor, size, snake in zip(motors, sizes, snaked, strict=False):
        line: Any = Linspace(motor, 0, size - 1, size)
        line = ~line if snake else line
        spec = line if spec is None else spec * line
    return spec


class Diode(StandardReadable):
    """A detector with one reading: a function of where its motors stand.

    `fail_at` makes the exposure of that number raise, counted from 0.
    """

    def __init__(
        self,
        motors: Sequence[SimMotor],
        signal: Callable[..., float],
        name: str = "",
        *,
        fail_at: int | None = None,
        error: Exception | None = None,
    ) -> None:
        self.motors = list(motors)
        self.signal = signal
        self.exposures = 0
        self.fail_at = fail_at
        self.error = error or TimeoutError("the diode did not answer within 10 s")
        with self.add_children_as_readables(StandardReadableFormat.HINTED_SIGNAL):
            self.value, self._set_value = soft_signal_r_and_setter(float, units="counts")
        super().__init__(name)

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name the reading like the device."""
        super().set_name(name, child_name_separator=child_name_separator)
        self.value.set_name(name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Take one reading."""
        number, self.exposures = self.exposures, self.exposures + 1
        if number == self.fail_at:
            raise self.error
        positions = [await motor.user_readback.get_value() for motor in self.motors]
        self._set_value(float(self.signal(*positions)))
