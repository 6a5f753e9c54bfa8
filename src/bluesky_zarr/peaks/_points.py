"""A measured signal put in order: by position, each position once, and its noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Floats", "Points", "noise_of", "points_of"]

Floats = npt.NDArray[np.float64]

#: The median of |r| over the standard deviation of r, for normally distributed r.
MEDIAN_TO_SIGMA = 1 / 0.6744897501960817


@dataclass(frozen=True, eq=False)
class Points:
    """A signal along one axis: positions that increase, all of it finite, all of shape (n,).

    `sigma` is the standard deviation of each value of `y` where it is known, and `counts` how often
    each position was measured.
    """

    x: Floats
    y: Floats
    sigma: Floats | None
    counts: Floats | None = None


def points_of(x: npt.ArrayLike, y: npt.ArrayLike, sigma: npt.ArrayLike | None) -> Points:
    """Put a signal in order.

    Points of which a number is not finite are left out; values at one position become their mean,
    weighted with 1 / sigma**2 where that is known.

    Raises
    ------
    ValueError
        The shapes do not fit, or a sigma is not positive.
    """
    x, y = _column("x", x), _column("y", y)
    if len(x) != len(y):
        raise ValueError(
            f"x has {len(x)} values and y has {len(y)}; give one value for each position"
        )
    if sigma is not None:
        sigma = np.asarray(sigma, dtype=np.float64)
        if sigma.shape not in ((), y.shape):
            raise ValueError(
                f"sigma has the shape {sigma.shape} for {len(y)} values of y; give one number, "
                "or one for each value"
            )
        sigma = np.broadcast_to(sigma, y.shape)
        if (sigma <= 0).any():
            where = int(np.argmax(sigma <= 0))
            raise ValueError(
                f"sigma[{where}] is {sigma[where]:g}, and no value is that exact; give positive "
                "numbers: of counts, np.sqrt(np.maximum(y, 1))"
            )
    finite = np.isfinite(x) & np.isfinite(y)
    if sigma is not None:
        finite &= np.isfinite(sigma)
    if not finite.all():
        x, y = x[finite], y[finite]
        sigma = None if sigma is None else sigma[finite]
    steps = np.diff(x)
    if (steps < 0).any():
        order = np.argsort(x, kind="stable")
        x, y = x[order], y[order]
        sigma = None if sigma is None else sigma[order]
        steps = np.diff(x)
    if (steps > 0).all():
        return Points(x, y, sigma)
    return _merged(x, y, sigma, np.flatnonzero(np.concatenate(([True], steps > 0))))


def noise_of(points: Points) -> Floats:
    """Estimate the standard deviation of each value from the scatter of the signal, shape (n,).

    Each point is compared with the line through its two neighbours, which no slope disturbs; the
    median of the differences is that of the noise as long as peaks take up less than half of the
    points. A signal that is never negative is taken to be like counts, whose noise grows with the
    root of the signal: that of a high peak would otherwise count as peaks of its own.
    """
    x, y = points.x, points.y
    if len(x) < 3:
        return np.zeros_like(y)
    nearer = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    residual = y[1:-1] - nearer * y[:-2] - (1 - nearer) * y[2:]
    variance = np.ones_like(y) if points.counts is None else 1 / points.counts
    residual /= np.sqrt(
        variance[1:-1] + nearer**2 * variance[:-2] + (1 - nearer) ** 2 * variance[2:]
    )
    noise = MEDIAN_TO_SIGMA * _median(np.abs(residual))
    largest = float(np.abs(y).max())
    if noise <= 8 * np.finfo(float).eps * largest:
        # Most points lie on lines exactly: what is left is how finely the signal is resolved.
        steps = np.diff(np.unique(y))
        steps = steps[steps > 8 * np.finfo(float).eps * largest]
        noise = float(steps.min()) / 2 if len(steps) else 0.0
    sigma = noise * np.sqrt(variance)
    if y.min() >= 0 and (level := _median(y)) > 0:
        sigma *= np.sqrt(np.maximum(y / level, 1))
    return sigma


def _column(name: str, values: npt.ArrayLike) -> Floats:
    given = np.asarray(values)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biuf"):
        raise ValueError(
            f"{name} is {given.ndim}-D of type {given.dtype}; give a 1-D sequence of real numbers"
        )
    return given.astype(np.float64, copy=False)


def _merged(x: Floats, y: Floats, sigma: Floats | None, starts: npt.NDArray[np.intp]) -> Points:
    """Make one point of those at one position; `starts` are the first of each position."""
    if not len(x):
        return Points(x, y, sigma)
    counts = np.diff(np.append(starts, len(x))).astype(np.float64)
    # Relative to the smallest sigma, so that no square of a sigma is too small for a float.
    smallest = 1.0 if sigma is None else sigma.min()
    weights = np.ones_like(y) if sigma is None else (smallest / sigma) ** 2
    total = np.add.reduceat(weights, starts)
    y = np.add.reduceat(weights * y, starts) / total
    return Points(x[starts], y, None if sigma is None else smallest / np.sqrt(total), counts)


def _median(values: Floats) -> float:
    """Return the upper median: a tenth of the time that `np.median` takes for 100 values."""
    middle = len(values) // 2
    return float(np.partition(values, middle)[middle])
