"""A step scan of raw messages over given points: what a RunEngine costs without any decision."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg
from ophyd_async.core import AsyncStatus, StandardReadable, init_devices, soft_signal_r_and_setter
from ophyd_async.sim import SimMotor

from .simulation import Done, Motor


class Counter(Motor):
    """A point detector that answers at once."""

    def trigger(self) -> Done:
        self.position += 1
        return Done()


class SoftCounter(StandardReadable):
    """A point detector of ophyd-async, whose reading is a soft signal."""

    def __init__(self, name: str = "") -> None:
        with self.add_children_as_readables():
            self.counts, self._set = soft_signal_r_and_setter(float)
        self._count = 0
        super().__init__(name=name)

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        self._count += 1
        self._set(float(self._count))


def plain_devices(axes: int) -> tuple[list[Any], Any]:
    """Motors and a detector without any delay and without an event loop of their own."""
    return [Motor(f"x{k}") for k in range(axes)], Counter("det")


def soft_devices(axes: int) -> tuple[list[Any], Any]:
    """Those of ophyd-async: simulated motors that need no time to move, and a soft detector."""
    with init_devices():
        motors = [SimMotor(f"soft{k}", instant=True) for k in range(axes)]
        detector = SoftCounter("soft_det")
    return motors, detector


def seconds(RE: RunEngine, motors: Sequence[Any], detector: Any, points: np.ndarray) -> float:
    """How long the RunEngine takes for the points, from the first to the last; nothing else."""
    took: list[float] = []

    def plan() -> Iterator[Msg]:
        devices = (detector, *motors)
        for device in devices:
            yield Msg("stage", device)
        yield Msg("open_run")
        # The first event describes the devices, which is no matter of the points.
        yield from step(points[0])
        started = time.perf_counter()
        for point in points:
            yield from step(point)
        took.append(time.perf_counter() - started)
        yield Msg("close_run")
        for device in devices:
            yield Msg("unstage", device)

    def step(point: np.ndarray) -> Iterator[Msg]:
        yield Msg("checkpoint")
        for motor, value in zip(motors, point.tolist(), strict=True):
            yield Msg("set", motor, value, group="set")
        yield Msg("wait", None, group="set")
        yield Msg("trigger", detector, group="trigger")
        yield Msg("wait", None, group="trigger")
        yield Msg("create", name="primary")
        yield Msg("read", detector)
        for motor in motors:
            yield Msg("read", motor)
        yield Msg("save")

    RE(plan())
    return took[0]
