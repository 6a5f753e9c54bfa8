"""Lines of a nested scan that are flown: one prepare, kickoff and complete a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bluesky.protocols import Collectable, Flyable, Preparable
from bluesky.utils import Msg, MsgGenerator, short_uid
from ophyd_async.core import FlyMotorInfo, TriggerInfo

from bluesky_zarr.geometry import ScanGeometry

from ._point import Mover

__all__ = ["FlownLines"]

#: Seconds between two collections of documents while a line is flown.
_FLUSH_PERIOD = 0.5
#: How far positions may be from an even spacing, in steps.
_UNEVEN = 1e-6


class FlownLines:
    """Flies the innermost axis of a scan, and steps the others.

    Motors move with constant speed, from half a step before the first position to half a step
    behind the last: each exposure is centred on its position. Detectors take all frames of a line
    by themselves, one every `exposure` seconds.

    Parameters
    ----------
    detectors
        All that is flown along; each can be prepared, kicked off and collected.
    geometry
        The scan; its innermost dim is flown.
    movers
        The motors by the names of the axes.
    settle
        Seconds to wait after a motor stepped, by the same names.
    exposure
        Seconds for each point.

    Raises
    ------
    ValueError
        For a detector or a motor that cannot be flown, positions that are not evenly spaced, or a
        time that is not positive.
    """

    def __init__(
        self,
        detectors: Sequence[Any],
        geometry: ScanGeometry,
        movers: Mapping[str, Any],
        settle: Mapping[str, float],
        exposure: float | None,
    ) -> None:
        if exposure is None or not (exposure > 0 and math.isfinite(exposure)):
            raise ValueError(
                f"exposure={exposure}: a flown line needs the seconds for each point, for example "
                "nested_scan(..., fly=True, exposure=0.1)."
            )
        inner = geometry.dims[-1]
        if not inner.coordinates or inner.size < 2:
            raise ValueError(
                f"The innermost dim '{inner.name}' has {inner.size} points and the axes "
                f"{[c.name for c in inner.coordinates]}: there is no line to fly. Scan it step by "
                "step, fly=False."
            )
        for coordinate in inner.coordinates:
            steps = np.diff(coordinate.values)
            if not np.allclose(steps, steps[0], rtol=0, atol=_UNEVEN * abs(steps[0])):
                raise ValueError(
                    f"The positions of '{coordinate.name}' are not evenly spaced: only a line with "
                    "equal steps can be flown. Scan it step by step, fly=False."
                )
        for motor in (movers[c.name] for c in inner.coordinates):
            if not (isinstance(motor, Flyable) and isinstance(motor, Preparable)):
                raise ValueError(
                    f"The motor '{motor.name}' cannot be flown: it has no prepare and kickoff. "
                    "Scan it step by step, fly=False."
                )
        for detector in detectors:
            if not (
                isinstance(detector, Flyable)
                and isinstance(detector, Preparable)
                and isinstance(detector, Collectable)
            ):
                raise ValueError(
                    f"The detector '{detector.name}' cannot be flown: it takes no frames by "
                    "itself. Leave it out, or scan step by step, fly=False."
                )
        if not detectors:
            raise ValueError("A flown scan needs a detector that takes frames by itself.")
        self._detectors = list(detectors)
        self._geometry = geometry
        self._inner = [(c.name, movers[c.name]) for c in inner.coordinates]
        self._move = Mover({n: m for n, m in movers.items()}, settle)
        self._exposure = exposure

    def __call__(self) -> MsgGenerator[None]:
        """Fly all lines."""
        geometry, length = self._geometry, self._geometry.dims[-1].size
        flown = [name for name, _ in self._inner]
        for line, first in enumerate(range(0, geometry.size, length)):
            yield Msg("checkpoint")
            start, stop = geometry.setpoints(first), geometry.setpoints(first + length - 1)
            yield from self._move({n: at for n, at in start.items() if n not in flown})
            group = short_uid("prepare")
            for name, motor in self._inner:
                half = (stop[name] - start[name]) / (length - 1) / 2
                path = FlyMotorInfo(
                    start_position=start[name] - half,
                    end_position=stop[name] + half,
                    time_for_move=length * self._exposure,
                )
                yield Msg("prepare", motor, path, group=group)
            for detector in self._detectors:
                info = TriggerInfo(number_of_events=length, livetime=self._exposure)
                yield Msg("prepare", detector, info, group=group)
            yield Msg("wait", None, group=group)
            if not line:
                yield Msg("declare_stream", None, *self._detectors, name="primary", collect=True)
            yield from self._fly()

    def _fly(self) -> MsgGenerator[None]:
        # Motors first: they are done with this when they have reached their speed.
        for devices in ([motor for _, motor in self._inner], self._detectors):
            group = short_uid("kickoff")
            for device in devices:
                yield Msg("kickoff", device, group=group)
            yield Msg("wait", None, group=group)
        group = short_uid("complete")
        for device in [*self._detectors, *(motor for _, motor in self._inner)]:
            yield Msg("complete", device, group=group)
        done = False
        while not done:
            done = yield Msg(
                "wait", None, group=group, timeout=_FLUSH_PERIOD, error_on_timeout=False
            )
            yield Msg("collect", self._detectors[0], *self._detectors[1:], name="primary")
