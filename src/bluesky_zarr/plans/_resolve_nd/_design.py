"""Where the next points tell most about peaks: optimal design of experiments."""

from __future__ import annotations

import itertools
import math
from functools import cache

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import Noise
from bluesky_zarr.peaks._surface import SurfaceFit

__all__ = ["best_points", "far_from", "in_order"]

Floats = npt.NDArray[np.float64]

#: The least distance of two points on a peak, in FWHMs: nearer ones tell the same.
_APART = 0.12


def best_points(
    fit: SurfaceFit,
    noise: Noise,
    peak: int,
    tolerance: tuple[float, float],
    *,
    most: int,
    bounds: Floats,
    taken: Floats,
    floor: Floats,
) -> Floats:
    """Choose points, one after the other, each where it lowers the errors most.

    The error of an estimate after another point with derivatives j is known before it is measured:
    its covariance C becomes ``C - C j j' C / (1 + j' C j)`` (V. V. Fedorov, Theory of
    Optimal Experiments, 1972). Choosing ends when all errors are below their tolerance.

    Parameters
    ----------
    fit
        What is known so far.
    noise
        The noise of the values to come.
    peak
        Which peak of the fit matters.
    tolerance
        The errors wanted of the centre and of the FWHM along each axis, as fractions of the FWHM.
    most
        At most so many points.
    bounds
        Lowest and highest position on each axis, shape (axes, 2).
    taken
        Points measured already, shape (n, axes).
    floor
        On each axis the least distance between two points.

    Returns
    -------
    array
        The points, shape (k, axes), k <= `most`.
    """
    d = fit.surface.axes
    center, widths = fit.center(peak)[0], fit.fwhm(peak)[0]
    # An inclined peak reaches farther along some line than along the axes.
    across = np.linalg.inv(np.linalg.cholesky(fit.form(peak)))
    offsets = _offsets(d, bool(fit.surface.flat)).dot(across) * widths
    every = np.minimum(np.maximum(center + offsets, bounds[:, 0]), bounds[:, 1])
    reach = np.maximum(floor, _APART * widths)
    low, high = every.min(axis=0) - reach, every.max(axis=0) + reach
    taken = taken[((taken > low) & (taken < high)).all(axis=1)]
    where = every[:0]
    spacing = floor
    # The coarse grid alone may be denser than that on a wide peak.
    for apart in (_APART, _APART / 2, _APART / 4):
        if not len(where):
            spacing = np.maximum(floor, apart * widths)
            where = every[far_from(every, taken, spacing)]
    at = fit.surface.at(peak).start
    wanted = slice(at + 1, at + 1 + 2 * d)
    weights = np.concatenate([1 / (tolerance[0] * widths) ** 2, np.full(d, tolerance[1] ** -2)])
    part, curve, rows = fit.surface.evaluate(fit.params, where)
    rows /= np.sqrt(noise.variance(curve, part))
    # What a reading would tell, kept up to date: of each parameter asked for, and altogether.
    covariance = fit.covariance.copy()
    spread = covariance.dot(rows)
    tells = spread[wanted].copy()
    # One at least, but for rounding.
    total = np.maximum(1 + np.einsum("ij,ij->j", rows, spread), 1.0)
    left = covariance.diagonal()[wanted]
    chosen: list[int] = []
    free = np.ones(len(where), dtype=bool)
    # The points that lie closer to each other than that, on all axes.
    near = np.ones((len(where), len(where)), dtype=bool)
    for column, gap in zip(where.T, spacing.tolist(), strict=True):
        near &= np.abs(column[:, None] - column) < gap
    while len(chosen) < most and free.any():
        if chosen and np.maximum.reduce(left * weights) < 1:
            break
        gain = weights.dot(tells * tells)
        gain /= total
        best = int(np.where(free, gain, -1.0).argmax())
        chosen.append(best)
        moved = covariance.dot(rows[:, best]) / math.sqrt(total[best])
        covariance -= moved[:, None] * moved
        along = moved.dot(rows)
        tells -= moved[wanted, None] * along
        total = np.maximum(total - along * along, 1.0)
        left = covariance.diagonal()[wanted]
        free[near[best]] = False
    return where[chosen]


@cache
def _offsets(axes: int, flat: bool) -> Floats:
    """Where points are chosen from, in FWHMs from the centre: nearer ones for steep flanks."""
    steps = (21 if flat else 11) if axes == 2 else (9 if flat else 7)
    offsets = np.array(list(itertools.product(np.linspace(-1.0, 1.0, steps), repeat=axes)))
    return offsets[(offsets**2).sum(axis=1) < 1.2]


def far_from(points: Floats, taken: Floats, least: Floats) -> npt.NDArray[np.bool_]:
    """Which points are, on some axis, at least so far from each that is taken; shape (n,)."""
    if not len(taken):
        return np.ones(len(points), dtype=bool)
    close = np.ones((len(points), len(taken)), dtype=bool)
    for k, gap in enumerate(least):
        close &= np.abs(points[:, k, None] - taken[:, k]) < gap
    return np.logical_not(close.any(axis=1))


def in_order(points: Floats, start: Floats, scale: Floats) -> Floats:
    """The points in a short way from `start`: always the nearest of those that are left.

    `scale` is the length on each axis that takes as long as on the others.
    """
    if not len(points):
        return points
    left = points / scale
    # From each to each, and in the last row from the start.
    far = np.zeros((len(points) + 1, len(points)))
    for column, at in zip(left.T, start / scale, strict=True):
        away = np.append(column, at)[:, None] - column
        far += away * away
    order: list[int] = []
    for _ in range(len(points)):
        order.append(int(far[order[-1] if order else -1].argmin()))
        far[:, order[-1]] = np.inf
    return points[order]
