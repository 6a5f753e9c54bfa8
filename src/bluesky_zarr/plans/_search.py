"""One search under way: what it has measured, and which of its peaks may be acted on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.peaks import Peak

from ._strategy import Field, Measure, Measured

__all__ = ["SearchState", "checked_pass", "pass_geometry"]

#: How far beyond an end of its axis a point may be by rounding, in ranges.
_ROUNDING = 1e-9


class SearchState:
    """One search: all of a scan, or that of one point of the outer axes.

    What was measured is kept in arrays that have room to spare, so that looking at it after each
    acquisition costs no copy.

    Parameters
    ----------
    parent
        The number of the outer point; None without outer axes.
    outer
        The positions of the outer axes.
    axes
        How many axes are searched.
    """

    def __init__(self, parent: int | None, outer: dict[str, float], axes: int) -> None:
        self.parent = parent
        self.outer = outer
        self.approved: list[Peak] = []
        self.refused: list[Peak] = []
        self.taken = 0
        self.made = 0
        self.why = ""
        self._points = np.empty((64, axes))
        self._values = np.empty(64)
        self._passes = np.empty(64, dtype=np.int64)
        self._count = 0

    def add(self, position: tuple[float, ...], value: float) -> None:
        """Note one acquisition; what is not a number is no measurement."""
        self.taken += 1
        if not math.isfinite(value):
            return
        if self._count == len(self._values):
            self._points = np.concatenate([self._points, np.empty_like(self._points)])
            self._values = np.concatenate([self._values, np.empty_like(self._values)])
            self._passes = np.concatenate([self._passes, np.empty_like(self._passes)])
        self._points[self._count] = position
        self._values[self._count] = value
        self._passes[self._count] = self.made
        self._count += 1

    def measured(self) -> Measured:
        """All of it; later acquisitions do not change what was given."""
        n = self._count
        return Measured(self._points[:n], self._values[:n], self._passes[:n])

    def to_act_on(self, peaks: Sequence[Peak], field: Field) -> list[Peak]:
        """Those of the final peaks that were approved when less was known of them.

        Each approved peak has become the final peak nearest to it, unless that one is nearer to a
        peak that was refused.
        """
        became: set[int] = set()
        for approved in self.approved:
            left = [n for n in range(len(peaks)) if n not in became]
            nearest = min(left, key=lambda n: _apart(peaks[n], approved, field), default=None)
            if nearest is None:
                continue
            distance = _apart(peaks[nearest], approved, field)
            other = min((_apart(peaks[nearest], r, field) for r in self.refused), default=math.inf)
            if distance <= 1 and distance <= other:
                became.add(nearest)
        return [peak for n, peak in enumerate(peaks) if n in became]


def _apart(peak: Peak, other: Peak, field: Field) -> float:
    """How far two peaks are from each other on the worst axis, in widths of the second."""
    return max(
        abs(a - b) / max(width, axis.narrowest)
        for a, b, width, axis in zip(
            peak.centers, other.centers, other.fwhms, field.axes, strict=True
        )
    )


def checked_pass(wanted: Measure, field: Field, strategy: object) -> Measure:
    """A pass whose points are in the range that was asked for.

    Raises
    ------
    ValueError
        For a pass without points, points with another number of axes, or points outside of the
        range.
    """
    points = wanted.points
    if not points.size:
        raise ValueError(
            f"{strategy!r} asks for a pass '{wanted.label}' without a point: give one or more."
        )
    if points.ndim != 2 or points.shape[1] != len(field.axes):
        raise ValueError(
            f"{strategy!r} asks for points of shape {points.shape} in the pass '{wanted.label}': "
            f"give (number of points, {len(field.axes)})."
        )
    low = np.array([axis.low for axis in field.axes])
    high = np.array([axis.high for axis in field.axes])
    slack = _ROUNDING * (high - low)
    good = ((points >= low - slack) & (points <= high + slack)).all(axis=1)
    if not good.all():
        worst = points[int(np.argmin(good))]
        at = ", ".join(f"{a.name} = {v:.6g}" for a, v in zip(field.axes, worst, strict=True))
        ranges = ", ".join(f"{a.name} from {a.low:g} to {a.high:g}" for a in field.axes)
        raise ValueError(
            f"{strategy!r} asks for a point at {at}, outside of the range: {ranges}. Nothing is "
            "measured there: clip the points to it."
        )
    return wanted


def pass_geometry(axes: Sequence[str], wanted: Measure, count: int) -> ScanGeometry:
    """The geometry of the first `count` points of a pass: a grid, or a list of points."""
    if wanted.grid is not None and count == len(wanted.points):
        return ScanGeometry(
            tuple(
                Dim(axis, len(values), n > 0, (Coordinate(axis, np.asarray(values, float)),))
                for n, (axis, values) in enumerate(zip(axes, wanted.grid, strict=True))
            )
        )
    line = tuple(Coordinate(axis, wanted.points[:count, n]) for n, axis in enumerate(axes))
    return ScanGeometry((Dim("_".join(axes), count, False, line),))
