"""The coarse grid, how wide something is on it, and points without their doubles."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

__all__ = ["coarse", "distinct", "extent"]

Floats = npt.NDArray[np.float64]

#: Distance of the outermost points from the ends, in spacings: a peak at an edge has fewer
#: points around it than one inside, so they are nearer.
_MARGIN = 0.4


def coarse(start: float, stop: float, spacing: float, floor: float) -> Floats:
    """Evenly spaced positions from start to stop, the outermost a margin inside."""
    length = abs(stop - start)
    count = max(3, math.ceil(length / spacing + 1 - 2 * _MARGIN - 1e-9))
    count = max(min(count, math.floor(length / floor + 1 - 2 * _MARGIN)), 2)
    step = (stop - start) / (count - 1 + 2 * _MARGIN)
    return np.asarray(start + step * (_MARGIN + np.arange(count)), dtype=np.float64)


def extent(rest: Floats, at: int) -> Floats:
    """How many steps of the grid a maximum is wide at half of its height, along each axis."""
    index = np.unravel_index(at, rest.shape)
    wide = np.empty(rest.ndim)
    for k in range(rest.ndim):
        line = rest[tuple(slice(None) if j == k else i for j, i in enumerate(index))]
        below = np.flatnonzero(~(line >= rest[index] / 2))
        left, right = below[below < index[k]], below[below > index[k]]
        first = left[-1] + 1 if len(left) else 0
        last = right[0] - 1 if len(right) else len(line) - 1
        wide[k] = last - first
    return wide


def distinct(points: Floats, floor: Floats) -> Floats:
    """The points without those that are one with another before them."""
    close = (np.abs(points[:, None] - points) < floor).all(axis=2)
    return points[~np.tril(close, -1).any(axis=1)]
