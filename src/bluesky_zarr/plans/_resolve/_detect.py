"""What stands out of a signal along one axis, and where it most likely is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import Noise

__all__ = ["Bump", "bumps", "locate", "matches", "prominences"]

Floats = npt.NDArray[np.float64]

_LN16 = 4 * math.log(2)


@dataclass
class Bump:
    """Readings that stand out: where, how wide and how high, by how many standard deviations.

    `low` and `high` bound where the peak may be that makes them.
    """

    center: float
    fwhm: float
    height: float
    significance: float
    low: float
    high: float


def prominences(x: Floats, rest: Floats, noise: Noise, peaks: Floats, least: float) -> list[Bump]:
    """The local maxima whose prominence is at least `least` standard deviations, the most
    prominent first.

    A prominence says how far a reading rises above what lies on both sides of it, so a step or a
    slope has none. `rest` is the signal without the peaks already known, `peaks` these.
    """
    from scipy.signal import find_peaks

    padded = np.concatenate(([_beyond(rest[:3])], rest, [_beyond(rest[:-4:-1])]))
    tops, facts = find_peaks(padded, prominence=0.0, plateau_size=0)
    found = []
    prominence = facts["prominences"]
    tops = np.minimum(np.maximum(tops - 1, 0), rest.size - 1)
    valley = rest[tops] - prominence
    known = peaks[tops]
    spread = noise.variance(rest[tops] + known, known) + noise.variance(valley + known, known)
    significance = prominence / np.sqrt(spread)
    for k in np.flatnonzero(significance >= least)[
        np.argsort(-significance[significance >= least])
    ]:
        top = int(tops[k])
        half = rest[top] - prominence[k] / 2
        left = top
        while left > 0 and rest[left] > half:
            left -= 1
        right = top
        while right < rest.size - 1 and rest[right] > half:
            right += 1
        # Between the last reading above the half and the first below, the middle.
        start = _crossing(x, rest, left, left + 1, half) if left < top else x[top]
        stop = _crossing(x, rest, right, right - 1, half) if right > top else x[top]
        if left == top or rest[left] > half:
            start = x[top] - (stop - x[top])
        if right == top or rest[right] > half:
            stop = x[top] + (x[top] - start)
        found.append(
            Bump(
                float((start + stop) / 2),
                float(stop - start),
                float(prominence[k]),
                float(significance[k]),
                float(x[max(top - 1, 0)]),
                float(x[min(top + 1, x.size - 1)]),
            )
        )
    return found


def _beyond(end: Floats) -> float:
    """What stands for the other side of a peak at an end: readings there that only go on falling
    as they do further inside are a slope.
    """
    return float(end[0] - max(end[0] - end[1] - max(end[1] - end[2], 0.0), 0.0))


def _crossing(x: Floats, y: Floats, outer: int, inner: int, level: float) -> float:
    rise = y[inner] - y[outer]
    part = (level - y[outer]) / rise if rise > 0 else 0.5
    return float(x[outer] + min(max(part, 0.0), 1.0) * (x[inner] - x[outer]))


def bumps(
    x: Floats,
    rest: Floats,
    noise: Noise,
    peaks: Floats,
    least: float,
    narrowest: float,
    reach: float,
) -> list[Bump]:
    """Runs of readings that lie above those on both sides by `least` standard deviations.

    Means over 1, 2, 3, 4, 6, ... readings are compared with the means of the readings left and
    right of them: a matched filter (G. L. Turin, IRE Trans. Inf. Theory 6, 311 (1960)) with boxes
    for templates, which needs no background to be known and costs one running sum. Where left and
    right differ by more than their noise, the higher one counts: a step is no peak.
    """
    n = x.size
    if n < 5:
        return []
    sums = np.concatenate(([0.0], np.cumsum(rest)))
    spread = noise.gain * peaks + (noise.shape_error * peaks) ** 2
    spreads = np.concatenate(([0.0], np.cumsum(spread)))
    places: list[tuple[float, int, int, float]] = []
    near_left = np.searchsorted(x, x - reach)
    near_right = np.searchsorted(x, x + reach, side="right")
    edges = np.concatenate(([2 * x[0] - x[1]], x, [2 * x[-1] - x[-2]]))
    size = 1
    while size <= max(1, n // 3):
        first = np.arange(n - size + 1)
        last = first + size
        flank = max(5, 2 * size)
        # Among points that lie close, the flanks reach as far as among those that do not.
        start = np.minimum(np.maximum(first - flank, 0), near_left[first])
        stop = np.maximum(np.minimum(last + flank, n), near_right[last - 1])
        lefts, rights = first - start, stop - last
        # What is narrower than the narrowest peak is noise: its neighbours say so.
        valid = (lefts >= 2) & (rights >= 2)
        valid &= edges[last + 1] - edges[first] >= 1.2 * narrowest
        if valid.any():
            first, last, start, stop = first[valid], last[valid], start[valid], stop[valid]
            lefts, rights = lefts[valid], rights[valid]
            inner = (sums[last] - sums[first]) / size
            one = np.maximum(noise.gain * inner + noise.offset, noise.floor)
            left = _level(sums, start, (start + first) // 2, first, one)
            right = _level(sums, last, (last + stop + 1) // 2, stop, one)
            level, of = _joined(left, lefts, right, rights, one)
            one = np.maximum(noise.gain * level + noise.offset, noise.floor)
            known = (spreads[last] - spreads[first]) / size
            variance = (one + known) / size + one / of
            z = (inner - level) / np.sqrt(variance)
            for k in np.flatnonzero(z >= least):
                places.append(
                    (float(z[k]), int(first[k]), int(last[k]), float(inner[k] - level[k]))
                )
        size = size + 1 if size < 4 else size + size // 2
    places.sort(reverse=True)
    taken = np.zeros(n, dtype=bool)
    found = []
    for z, first, last, height in places:
        if taken[max(first - 1, 0) : last + 1].any():
            continue
        taken[first:last] = True
        low, high = x[max(first - 1, 0)], x[min(last, n - 1)]
        inside = rest[first:last] - rest[first:last].min() + abs(height)
        center = float(np.average(x[first:last], weights=inside))
        width = 0.5 * float(high - low) if last - first < 3 else 0.8 * float(x[last - 1] - x[first])
        found.append(Bump(center, width, height, z, float(low), float(high)))
    return found


def matches(
    x: Floats,
    rest: Floats,
    sigma: Floats,
    degree: int,
    least: float,
    narrowest: float,
    widest: float,
) -> list[Bump]:
    """Where Gaussians of some width describe what a straight background and the known peaks leave.

    The score test for one more peak at each place and of each width, the background's level and
    slope left free. `rest` is what they leave, `sigma` its standard deviation, each of the shape
    (n,). Needs that background to be right, and is then twice as sharp as `bumps`.
    """
    found: list[tuple[float, float, float, float]] = []
    weight = 1.0 / sigma
    powers = [weight * (x - x.mean()) ** power for power in range(degree + 1)]
    basis, _ = np.linalg.qr(np.stack(powers, axis=1))
    scaled = rest * weight
    scaled = scaled - basis @ (basis.T @ scaled)
    fwhm = narrowest
    while fwhm <= widest:
        count = max(int((x[-1] - x[0]) / (0.35 * fwhm)), 2) + 1
        centers = np.linspace(x[0], x[-1], count)
        t = (x - centers[:, None]) / fwhm
        curves = np.exp(-_LN16 * t * t) * weight
        curves -= (curves @ basis) @ basis.T
        norm = np.sqrt(np.maximum((curves * curves).sum(axis=1), 1e-12 * weight.max() ** 2))
        z = (curves @ scaled) / norm
        tops = np.flatnonzero(z >= least)
        found += [(float(z[k]), float(centers[k]), fwhm, float(z[k] / norm[k])) for k in tops]
        fwhm *= 1.6
    found.sort(reverse=True)
    bumps: list[Bump] = []
    for z, center, fwhm, height in found:
        if all(abs(center - one.center) > 0.8 * (fwhm + one.fwhm) for one in bumps):
            bumps.append(Bump(center, fwhm, height, z, center - 0.6 * fwhm, center + 0.6 * fwhm))
    return bumps


def _level(sums: Floats, start: Any, middle: Any, stop: Any, variance: Floats) -> Floats:
    """The level of readings beside others: of their two halves the higher one, if they differ."""
    first, second = np.maximum(middle - start, 1), np.maximum(stop - middle, 1)
    outer = (sums[middle] - sums[start]) / first
    inner = (sums[stop] - sums[middle]) / second
    outer = np.where(middle > start, outer, inner)
    inner = np.where(stop > middle, inner, outer)
    return _joined(outer, first, inner, second, variance)[0]


def _joined(
    one: Floats, ones: Any, other: Floats, others: Any, variance: Floats
) -> tuple[Floats, Floats]:
    """Two means as one, and of how many readings it is; the higher one, if they differ."""
    both = ones + others
    mean = (one * ones + other * others) / both
    differ = np.abs(one - other) / np.sqrt(variance * (1 / ones + 1 / others))
    share = np.clip(differ - 1.0, 0.0, 1.0)
    higher = one > other
    top = np.where(higher, one, other)
    return mean + share * (top - mean), both + share * (np.where(higher, ones, others) - both)


def locate(
    x: Floats, y: Floats, noise: Noise, bump: Bump, narrowest: float, reach: float
) -> tuple[float, float, float, float]:
    """Centre, its uncertainty, FWHM and height of a Gaussian, from a few readings.

    The likelihood on a grid of centres and widths, each with its best height on the median of the
    readings around: with one or two readings on a peak there is no fit, but some places are much
    likelier than others.
    """
    width = max(bump.fwhm, narrowest)
    low, high = min(bump.low, bump.center - 0.5 * width), max(bump.high, bump.center + 0.5 * width)
    near = (x >= low - reach) & (x <= high + reach)
    xs, ys = x[near], y[near]
    outside = (xs < low) | (xs > high)
    under = float(np.median(ys[outside])) if outside.sum() >= 2 else float(ys.min())
    centers = np.linspace(max(low, x[0]), min(high, x[-1]), 25)
    widths = np.unique(np.maximum(width * np.array([0.45, 0.7, 1.0, 1.4, 2.0]), 0.9 * narrowest))
    t = (xs - centers[:, None, None]) / widths[:, None]
    curves = np.exp(-_LN16 * t * t)
    above = ys - under
    weight = 1.0 / noise.variance(np.maximum(ys, under), np.maximum(above, 0.0) * 5)
    norm = (curves * curves) @ weight + 1e-12 * weight.max()
    heights = np.maximum(curves @ (weight * above) / norm, 0.0)
    capped = 4 * max(bump.height, float(above.max()))
    if not capped > 0:
        return bump.center, 0.5 * (high - low), width, 0.0
    heights = np.minimum(heights, capped)
    gain = 2 * heights * (curves @ (weight * above)) - heights**2 * norm
    chance = np.exp(0.5 * np.minimum(gain - gain.max(), 0.0))
    chance /= np.maximum(heights, 1e-3 * capped)
    chance /= chance.sum()
    by_center = chance.sum(axis=1)
    center = float(by_center @ centers)
    deviation = math.sqrt(max(float(by_center @ (centers - center) ** 2), 0.0))
    fwhm = float(math.exp(chance.sum(axis=0) @ np.log(widths)))
    return center, deviation, fwhm, float((chance * heights).sum())
