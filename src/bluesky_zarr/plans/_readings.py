"""What a trigger sees: the latest readings, those before them, and the peaks found so far."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from bluesky_zarr.peaks import Peak

__all__ = ["Readings"]


@dataclass(frozen=True, eq=False)
class Readings:
    """What a trigger sees: the latest acquisition, and the one before it in the same pass.

    Parameters
    ----------
    values
        The latest readings by name, for instance `{"cam-sum": 1523.0}`.
    position
        Where they were taken, one number for each axis.
    previous, previous_position
        The same of the acquisition before; None at the start of a pass.
    signal
        The name of the reading that peaks are looked for in.
    find
        Finds the peaks among all that has been measured so far; called when a trigger first asks
        for `peaks`, and never twice. Leave maxima at the limits out while a pass is under way
        (`find_peaks(..., at_limits=False)`): where a signal rises, the latest point is its highest.

    Examples
    --------
    >>> Readings({"det": 1200.0}, (0.1,), find=lambda: []).peaks
    ()
    """

    values: Mapping[str, Any]
    position: tuple[float, ...] = ()
    previous: Mapping[str, Any] | None = None
    previous_position: tuple[float, ...] | None = None
    signal: str = ""
    find: Callable[[], Iterable[Peak]] = field(default=tuple, repr=False)

    @cached_property
    def peaks(self) -> tuple[Peak, ...]:
        """The peaks found so far."""
        return tuple(self.find())

    def number(self, name: str) -> float:
        """Return the latest reading of that name, NaN if there is none.

        Raises
        ------
        TypeError
            It is not a number.
        """
        return _number(name, self.values)

    def derivative(self, name: str) -> float:
        """Return how much a reading has changed since the acquisition before, per unit of the axis.

        Along one axis that is the slope, whichever way the axis moves; along several it is the
        change per distance moved. NaN at the start of a pass, and where nothing has moved.

        Raises
        ------
        TypeError
            The reading is not a number.

        Examples
        --------
        >>> Readings({"det": 7.0}, (0.1,), {"det": 5.0}, (0.2,)).derivative("det")
        -20.0
        """
        now = self.number(name)
        if self.previous is None or self.previous_position is None:
            return math.nan
        if len(self.position) == 1:
            moved = self.position[0] - self.previous_position[0]
        else:
            moved = math.dist(self.position, self.previous_position)
        change = now - _number(name, self.previous)
        return change / moved if moved else math.nan


def _number(name: str, values: Mapping[str, Any]) -> float:
    if name not in values:
        return math.nan
    value = values[name]
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    if isinstance(value, (Real, np.bool_)):
        return float(value)
    raise TypeError(
        f"the reading {name!r} is {value!r:.60} of type {type(value).__name__}; a condition needs "
        "a single number: give the name of one"
    )
