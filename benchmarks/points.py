"""Milliseconds per point of plans, on the same devices, in one process and in turn.

    python benchmarks/points.py [--points 400] [--repeats 5]

Step scans over two soft motors with a soft diode, without a session and with storage attached; and
flown lines of 1000 points whose camera gives its frames at once. Medians of the repeats, and ratios
to bp.grid_scan.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import bluesky.plans as bp
import numpy as np
from bluesky.run_engine import RunEngine
from ophyd_async.core import (
    AsyncStatus,
    DetectorAcquireLogic,
    DetectorTriggerLogic,
    init_devices,
)
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace

from bluesky_zarr import Storage
from bluesky_zarr.devices import FrameFormat, FrameSource, WritableDevice
from bluesky_zarr.plans import nested_scan

FRAME = np.arange(64 * 64, dtype="uint16").reshape(64, 64)


class _Source(FrameSource):
    async def frame_format(self) -> FrameFormat:
        return FrameFormat(FRAME.shape, "uint16")


class _Trigger(DetectorTriggerLogic):
    number = 1

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.number = num


class _Acquire(DetectorAcquireLogic):
    def __init__(self, source: _Source, trigger: _Trigger, together: int) -> None:
        self._source, self._trigger, self._together = source, trigger, together
        self._block = np.repeat(FRAME[None], together, axis=0)

    async def start_acquiring(self) -> None:
        if self._together > 1:
            for first in range(0, self._trigger.number, self._together):
                self._source.deliver_many(self._block[: self._trigger.number - first])
            return
        for _ in range(self._trigger.number):
            self._source.deliver(FRAME)

    async def wait_for_idle(self) -> None:
        await asyncio.sleep(0)

    async def ensure_stopped(self) -> None:
        await asyncio.sleep(0)


class ReadyCamera(WritableDevice):
    """A camera whose frames are there before they are asked for; without live scalars.

    It delivers them one by one, or so many `together`.
    """

    def __init__(self, together: int = 1, name: str = "") -> None:
        source, trigger = _Source(), _Trigger()
        self.add_detector_logics(trigger, _Acquire(source, trigger, together))
        self.add_frame_source(source, scalars=())
        super().__init__(name=name)


class InstantFlyer(SimMotor):
    """A motor that flies in no time: what is left is the plan's own."""

    def prepare(self, value: Any) -> AsyncStatus:
        """Go to where the line begins."""
        return self.set(value.start_position)

    def kickoff(self) -> AsyncStatus:
        """Be at speed."""
        return self.set(self.target)

    def complete(self) -> AsyncStatus:
        """Be at the end."""
        return self.set(self.target)

    target = 1.0


def engine(attached: bool) -> tuple[RunEngine, Storage | None]:
    """A RunEngine that says nothing, with or without a session."""
    RE = RunEngine({})
    RE.log.setLevel("CRITICAL")
    if not attached:
        return RE, None
    storage = Storage(tempfile.mkdtemp())
    storage.attach(RE)
    return RE, storage


def timed(RE: RunEngine, plan: Any, points: int) -> float:
    """Milliseconds per point."""
    begin = time.perf_counter()
    RE(plan)
    return (time.perf_counter() - begin) / points * 1e3


def main() -> int:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    rows = max(2, options.points // 20)
    size = rows * 20
    bare, _ = engine(False)
    attached, storage = engine(True)
    assert storage is not None
    with init_devices():
        y, x, diode = SimMotor(), SimMotor(), SimMotor()
        flown_y, flown_x = SimMotor(), InstantFlyer()
        cam, single, many = ReadyCamera(), ReadyCamera(), ReadyCamera(together=100)
    storage.inject(cam, single, many)

    def grid(detector: Any) -> Any:
        return bp.grid_scan([detector], y, 0, 1, rows, x, 0, 1, 20)

    def nested(detector: Any) -> Any:
        return nested_scan([detector], Linspace(y, 0, 1, rows) * Linspace(x, 0, 1, 20))

    def flown(camera: ReadyCamera, lines: int) -> Any:
        spec = Linspace(flown_y, 0, 1, lines) * Linspace(flown_x, 0, 1, 1000)
        return nested_scan([camera], spec, fly=True, exposure=1e-6)

    contenders: dict[str, Callable[[], float]] = {
        "bp.grid_scan": lambda: timed(bare, grid(diode), size),
        "nested_scan": lambda: timed(bare, nested(diode), size),
        "bp.grid_scan, attached": lambda: timed(attached, grid(diode), size),
        "nested_scan, attached": lambda: timed(attached, nested(diode), size),
        "bp.grid_scan, attached, camera": lambda: timed(attached, grid(cam), size),
        "nested_scan, attached, camera": lambda: timed(attached, nested(cam), size),
        "nested_scan, flown, 2 lines": lambda: timed(attached, flown(single, 2), 2000),
        "nested_scan, flown, 10 lines": lambda: timed(attached, flown(single, 10), 10_000),
        "the same, 100 frames together": lambda: timed(attached, flown(many, 10), 10_000),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for run in (contenders[name] for name in contenders):
        run()  # imports, first calls
    for _ in range(options.repeats):
        for name, run in contenders.items():
            taken[name].append(run())
    median = {name: statistics.median(times) for name, times in taken.items()}
    print(f"{'plan':36}{'ms/point':>10}{'to grid_scan':>14}")
    for name, value in median.items():
        base = (
            median["bp.grid_scan" + name.removeprefix("nested_scan")]
            if (name.startswith("nested_scan") and "flown" not in name)
            else median["bp.grid_scan"]
        )
        print(f"{name:36}{value:10.3f}{value / base:14.2f}")
    ratio = median["nested_scan"] / median["bp.grid_scan"]
    flight = median["nested_scan, flown, 2 lines"] * 1e3
    print(f"{'pass' if ratio <= 0.6 else 'FAIL'}  nested_scan <= 0.6 bp.grid_scan: {ratio:.2f}")
    print(
        f"{'pass' if flight <= 80 else 'FAIL'}  a flown point of 2 lines <= 80 us: {flight:.0f} us"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
