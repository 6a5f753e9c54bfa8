"""The maxima of a signal and what can be told of each from its points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ._peak import Peak
from ._points import Floats, Points

__all__ = ["Candidates", "candidates_of"]

Indices = npt.NDArray[np.intp]

#: A side is one of a peak if the signal goes on for so many half widths at least: a slope is at its
#: half after a half.
LEAST_REACH = 4.0

#: Where the side of a peak has lost a quarter, in half widths: 0.64 for a Gaussian, 0.58 for a
#: Lorentzian, 0.5 for two points; but 0.42 for a tail that decays exponentially, and 1 for an edge.
LOST_A_QUARTER = (0.45, 0.8)


@dataclass(frozen=True, eq=False)
class Candidates:
    """Maxima in order of position; of each, arrays of one shape (m,).

    `top` is the index of the highest point (the middle one of a plateau), `left_base` and
    `right_base` those of the lowest points on either side before the signal is higher than the
    candidate, or ends; `top` itself on a side that does not exist. `limit` is -1
    where only the upper side exists, because the candidate is at the lower limit, 1 where only the
    lower side exists, and 0 otherwise; `judged` says whether that one side looks like one of a
    peak.
    """

    points: Points
    top: Indices
    prominence: Floats
    left_base: Indices
    right_base: Indices
    limit: npt.NDArray[np.int64]
    judged: npt.NDArray[np.bool_]

    def base(self) -> Indices:
        """Return the index of the point that each prominence is counted from."""
        left, right = self.left_base, self.right_base
        return np.where(
            self.prominence == self.points.y[self.top] - self.points.y[left], left, right
        )

    def fwhm(self, which: Indices) -> Floats:
        """Return the full widths at half of the prominence of some of the candidates."""
        _, _, left, right = self._halves(which)
        return (right - left) * np.where(self.limit[which], 2, 1)

    def peaks(self, which: Indices) -> tuple[Peak, ...]:
        """Return some of the candidates as peaks."""
        return tuple(map(self._peak, which.tolist(), *(at.tolist() for at in self._halves(which))))

    def _peak(self, k: int, left_at: float, right_at: float, left: float, right: float) -> Peak:
        x, y, top, limit = self.points.x, self.points.y, self.top.item(k), self.limit.item(k)
        prominence = self.prominence.item(k)
        highest = y.item(top)
        fwhm = (right - left) * (2 if limit else 1)
        first, last = math.ceil(left_at), math.floor(right_at)
        if limit or last - first < 2:
            center = _vertex(x, y, top, highest - prominence)
        else:
            # All above half of the prominence, with a point at each crossing.
            outline = np.empty(last - first + 3)
            outline[1:-1] = x[first : last + 1]
            outline[0], outline[-1] = left, right
            above = np.zeros_like(outline)
            above[1:-1] = y[first : last + 1] - (highest - prominence / 2)
            center = _centroid(outline, above)
        # The signal beside the peak, as far as the base and at least past its half.
        low, high = x.searchsorted((center - 2 * fwhm, center + 2 * fwhm)).tolist()
        low = min(max(low, self.left_base.item(k)), math.floor(left_at))
        high = max(min(high - 1, self.right_base.item(k)), math.ceil(right_at))
        below = low + int(y[low : top + 1].argmin())
        beyond = top + int(y[top : high + 1].argmin())
        side = ("", "upper", "lower")[limit]
        if side:
            background = y.item(beyond if side == "lower" else below)
        else:
            along = (center - x.item(below)) / (x.item(beyond) - x.item(below))
            background = y.item(below) + along * (y.item(beyond) - y.item(below))
        return Peak(
            center=center,
            fwhm=fwhm,
            height=highest - background,
            prominence=prominence,
            background=background,
            note=f"at the {side} limit: only one side of it was seen" if side else "",
        )

    def _halves(self, which: Indices) -> tuple[Floats, Floats, Floats, Floats]:
        """Return where the signal is at half of the prominence, left and right: the indices, with
        fractions, and then the positions.
        """
        from scipy.signal import peak_widths

        data = (self.prominence[which], self.left_base[which], self.right_base[which])
        _, _, left, right = peak_widths(self.points.y, self.top[which], 0.5, prominence_data=data)
        return left, right, _between(self.points.x, left), _between(self.points.x, right)


def candidates_of(points: Points, at_limits: bool) -> Candidates:
    """Find the maxima of a signal of 3 points or more; at its limits too if that is asked for."""
    # Imported here: it takes longer than all else that a user of this package imports.
    from scipy.signal import find_peaks

    top, found = find_peaks(points.y, prominence=(None, None))
    prominence, left, right = (found[k] for k in ("prominences", "left_bases", "right_bases"))
    limit = np.zeros(len(top), dtype=np.int64)
    judged = np.ones(len(top), dtype=np.bool_)
    columns: tuple[Any, ...] = (top, prominence, left, right, limit, judged)
    if at_limits:
        x, y, last = points.x, points.y, len(points.y) - 1
        strongest = prominence.max(initial=0.0)
        # One that cannot be judged is only worth telling of if nothing else comes up to it.
        lower = _at_lower_limit(x, y, top, left, right)
        if lower.prominence and (lower.judged or lower.prominence > strongest):
            at, base = lower.top, lower.base
            columns = _with(columns, (at, lower.prominence, at, base, -1, lower.judged))
        # The upper limit is the lower one of the axis turned round.
        mirrored = (last - indices[::-1] for indices in (top, right, left))
        upper = _at_lower_limit(-x[::-1], y[::-1], *mirrored)
        if upper.prominence and (upper.judged or upper.prominence > strongest):
            at, base = last - upper.top, last - upper.base
            columns = _with(columns, (at, upper.prominence, base, at, 1, upper.judged))
    return Candidates(points, *columns)


def _with(columns: tuple[Any, ...], row: tuple[float, ...]) -> tuple[Any, ...]:
    """Return the columns with a row that takes the place of the one with the same top, if any."""
    at = int(np.searchsorted(columns[0], row[0]))
    after = at + int(at < len(columns[0]) and columns[0][at] == row[0])
    return tuple(
        np.concatenate((column[:at], np.array([value], dtype=column.dtype), column[after:]))
        for column, value in zip(columns, row, strict=True)
    )


class _OneSided(NamedTuple):
    """A maximum at the lower limit, as its upper side shows it."""

    top: int
    base: int
    prominence: float
    judged: bool


def _at_lower_limit(x: Floats, y: Floats, top: Indices, left: Indices, right: Indices) -> _OneSided:
    """Return the maximum whose lower side is cut off by the limit; its prominence is 0 if there is
    none.

    That is the first point, or a maximum that is not further from it than half of its width, and
    before which the signal does not fall to half.
    """
    highest = y[top]
    fall = highest - y[right]
    records = highest >= np.maximum(np.maximum.accumulate(highest), y[0])
    cut = records & (highest - y[left] < fall / 2)
    if cut.any():
        one, half = _one_sided(x, y, int(top[np.where(cut, fall, 0).argmax()]))
        if one.judged and x[one.top] - x[0] <= half:
            return one
    return _one_sided(x, y, 0)[0]


def _one_sided(x: Floats, y: Floats, top: int) -> tuple[_OneSided, float]:
    """Return what the upper side of a point says, and half of the width."""
    if y[top + 1] > y[top]:
        return _OneSided(top, top, 0.0, False), 0.0
    higher = y[top:] > y[top]
    end = top + (int(higher.argmax()) or len(higher))
    base = top + int(y[top:end].argmin())
    prominence = float(y[top] - y[base])
    if not prominence:
        return _OneSided(top, top, 0.0, False), 0.0
    half, quarter = (_falls_below(x, y, top, y[top] - part * prominence) for part in (0.5, 0.25))
    least, most = LOST_A_QUARTER
    judged = least * half <= quarter <= most * half and x[end - 1] - x[top] >= LEAST_REACH * half
    return _OneSided(top, base, prominence, bool(judged)), half


def _falls_below(x: Floats, y: Floats, top: int, level: float) -> float:
    """Return how far from `top` the signal first is at `level`, between points on a line."""
    after = top + int((y[top:] <= level).argmax())
    fraction = (y[after - 1] - level) / (y[after - 1] - y[after])
    return float(x[after - 1] + fraction * (x[after] - x[after - 1]) - x[top])


def _between(x: Floats, at: Floats) -> Floats:
    """Return the positions of fractional indices."""
    return np.interp(at, np.arange(len(x)), x)


def _vertex(x: Floats, y: Floats, top: int, base: float) -> float:
    """Return the top of the Gaussian on `base` through a point and its neighbours."""
    if not 0 < top < len(x) - 1:
        return float(x[top])
    a, b, c = x[top - 1 : top + 2].tolist()
    above = y[top - 1 : top + 2] - base
    # A neighbour at the base itself, or below it, has no logarithm.
    first, middle, last = np.log(np.maximum(above / above[1], 0.05)).tolist()
    rise, fall = (middle - first) / (b - a), (last - middle) / (c - b)
    if rise == fall:
        return b
    return (a + b) / 2 + rise / 2 * (c - a) / (rise - fall)


def _centroid(x: Floats, y: Floats) -> float:
    """Return the centre of the area below the line through the points."""
    steps = np.diff(x)
    area = steps @ (y[:-1] + y[1:]) * 3
    moment = steps @ (x[:-1] * (2 * y[:-1] + y[1:]) + x[1:] * (y[:-1] + 2 * y[1:]))
    return float(moment / area)
