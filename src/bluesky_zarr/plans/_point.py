"""One point of a scan, as raw messages: motors move, detectors are triggered, and all is read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky.protocols import Movable, Triggerable
from bluesky.utils import Msg, MsgGenerator, separate_devices, short_uid

__all__ = ["Exposure", "Mover", "settle_times"]

# Messages are made by hand: a stub costs a stack trace, ten of them a point. Each is a new one:
# bluesky's plan_mutator lets a message that it has seen before pass unseen.


class Mover:
    """Sends motors to points, each one only where it is not there already.

    Parameters
    ----------
    motors
        By the names of the axes.
    settle
        Seconds to wait after a motor moved, by the same names.
    """

    def __init__(self, motors: Mapping[str, Movable], settle: Mapping[str, float]) -> None:
        self.motors = motors
        self._settle = settle
        self._last: dict[str, float] = {}

    def __call__(self, point: Mapping[str, float]) -> MsgGenerator[None]:
        """Move, and wait until all have arrived."""
        moved = [axis for axis, value in point.items() if self._last.get(axis) != value]
        if not moved:
            return
        group = short_uid("set")
        for axis in moved:
            yield Msg("set", self.motors[axis], point[axis], group=group)
        yield Msg("wait", None, group=group)
        self._last.update(point)
        if pause := max((self._settle.get(axis, 0.0) for axis in moved), default=0.0):
            yield Msg("sleep", None, pause)


class Exposure:
    """Triggers what can be triggered, and reads everything into one event.

    Parameters
    ----------
    devices
        Detectors, motors, and whatever else the events shall hold.
    """

    def __init__(self, devices: Sequence[Any]) -> None:
        self.devices = separate_devices(devices)
        self._triggered = [device for device in self.devices if isinstance(device, Triggerable)]

    def __call__(self, stream: str) -> MsgGenerator[None]:
        """Take one event of a stream."""
        if self._triggered:
            group = short_uid("trigger")
            for device in self._triggered:
                yield Msg("trigger", device, group=group)
            yield Msg("wait", None, group=group)
        yield Msg("create", name=stream)
        try:
            for device in self.devices:
                yield Msg("read", device)
        except Exception:
            yield Msg("drop")
            raise
        yield Msg("save")


def settle_times(
    settle: Mapping[str, float] | None, motors: Mapping[str, Movable]
) -> dict[str, float]:
    """Check the times to wait, by the names of the axes.

    Raises
    ------
    ValueError
        For a name that is no axis, or a negative time.
    """
    waits = dict(settle or {})
    for axis, seconds in waits.items():
        if axis not in motors:
            raise ValueError(
                f"settle names '{axis}', which this scan does not move. Axes: {', '.join(motors)}."
            )
        if not 0 <= seconds < math.inf:
            raise ValueError(
                f"settle['{axis}'] is {seconds} s: give a time to wait, not negative and finite."
            )
    return waits
