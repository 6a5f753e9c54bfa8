"""What a strategy of an adaptive scan is: it says where to measure, and sees what was measured."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks import Peak

__all__ = [
    "NOT_REFINED",
    "Field",
    "Found",
    "Measure",
    "Measured",
    "Outcome",
    "ScanAxis",
    "Search",
    "Strategy",
]

#: The note of a peak that was found, and that the scan was not to go on with.
NOT_REFINED = "not approved"

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ScanAxis:
    """One axis of an adaptive scan.

    Nothing is measured outside of `start` and `stop`, which may be in either order: the axis is
    scanned from one to the other. `narrowest` is the FWHM of the narrowest peak that must be found;
    two points closer than `step_floor` are one point.
    """

    name: str
    start: float
    stop: float
    narrowest: float
    step_floor: float = 0.0

    @property
    def low(self) -> float:
        """The lower end."""
        return min(self.start, self.stop)

    @property
    def high(self) -> float:
        """The upper end."""
        return max(self.start, self.stop)


@dataclass(frozen=True)
class Field:
    """Where an adaptive scan may measure, and how often: axes slowest first."""

    axes: tuple[ScanAxis, ...]
    max_points: int = 10_000
    max_passes: int = 100


@dataclass(frozen=True, eq=False)
class Measured:
    """All that an adaptive scan has measured so far, in order of acquisition.

    `points` are positions, shape (n, number of axes); `values` the signal, shape (n,); `passes` the
    number of the pass of each, shape (n,), from 0. Points whose signal was NaN are not in it.
    """

    points: Floats
    values: Floats
    passes: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Measure:
    """A strategy asks for one pass; the answer is `Measured`, of this pass and all before it.

    `points` have the shape (n, number of axes), or (n,) along one axis, and are taken in this
    order; give them in the order of travel. A pass over a grid says so with `grid`, the positions
    along each axis, slowest first: then `points` is made from it, each row but the first in the
    opposite direction of the one before. `label` is a word or two on what the pass is for
    ("coarse", "zoom"), `peaks` those that it is for.

    >>> Measure(grid=([0.0, 1.0], [5.0, 6.0]), label="coarse").points.tolist()
    [[0.0, 5.0], [0.0, 6.0], [1.0, 6.0], [1.0, 5.0]]
    """

    points: Floats = field(default_factory=lambda: np.empty((0, 0)))
    label: str = "zoom"
    peaks: tuple[Peak, ...] = ()
    grid: tuple[Sequence[float], ...] | None = None

    def __post_init__(self) -> None:
        if self.grid is not None:
            object.__setattr__(self, "points", snaked(self.grid))
        points = np.asarray(self.points, dtype=np.float64)
        # A plain list of positions is one along one axis.
        object.__setattr__(self, "points", points[:, None] if points.ndim == 1 else points)


@dataclass(frozen=True, eq=False)
class Found:
    """A strategy has found peaks and asks which of them it shall go on with.

    The answer is a tuple of those: what the user's condition let through and what was approved.
    A strategy asks once for each peak, when it would first spend points on it.
    """

    peaks: tuple[Peak, ...]

    def __post_init__(self) -> None:
        if isinstance(self.peaks, Peak):
            raise TypeError("Found(peak): give a tuple of peaks, Found((peak,)).")
        object.__setattr__(self, "peaks", tuple(self.peaks))


@dataclass(frozen=True)
class Outcome:
    """What a strategy returns: the peaks, most prominent first, and why it ended.

    `why` is a sentence where there is no peak, or where one is not resolved: the strongest
    candidate, and what was asked of it.
    """

    peaks: tuple[Peak, ...]
    why: str = ""


#: Yields what it wants, is sent the answer, and returns the outcome.
Search = Generator[Measure | Found, Any, Outcome]


@runtime_checkable
class Strategy(Protocol):
    """Decides where an adaptive scan measures.

    A strategy is a small object with settings; `search` is a generator, as a plan is: it yields
    `Measure` and is sent `Measured`, it yields `Found` and is sent the peaks that it may go on
    with, and it returns an `Outcome`. It never moves anything, and may be run on data alone.

    >>> class Twice:
    ...     "The whole range, and then its middle again."
    ...
    ...     def search(self, field):
    ...         axis = field.axes[0]
    ...         line = np.linspace(axis.start, axis.stop, 11)
    ...         yield Measure(line[:, None], "coarse")
    ...         yield Measure(line[3:8, None], "again")
    ...         return Outcome(())
    >>> isinstance(Twice(), Strategy)
    True
    """

    def search(self, field: Field) -> Search:
        """Begin one search."""
        ...


def snaked(grid: Sequence[Sequence[float]]) -> Floats:
    """The points of a grid in order of travel, shape (n, number of axes)."""
    sizes = [len(values) for values in grid]
    points = np.empty((math.prod(sizes), len(sizes)))
    for k, step in enumerate(np.ndindex(*sizes)):
        before = 0
        for axis, (index, size) in enumerate(zip(step, sizes, strict=True)):
            # A row is turned round each time that the axes around it have moved on by one.
            at = size - 1 - index if before % 2 else index
            points[k, axis] = grid[axis][at]
            before = before * size + index
    return points
