"""What stands out of a signal along one axis, and where it most likely is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import Noise, median, total

__all__ = ["Bump", "bumps", "locate", "matches", "prominences"]

Floats = npt.NDArray[np.float64]

_LN16 = 4 * math.log(2)
#: The widths that a peak of few readings may have, in units of the most likely one.
_WIDTHS = (0.45, 0.7, 1.0, 1.4, 2.0)
#: Above so many values of Gaussians, those without a chance are left out first.
_MANY = 1_000


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


def prominences(
    x: Floats, rest: Floats, noise: Noise, peaks: Floats, least: float
) -> Iterator[Bump]:
    """The local maxima whose prominence is at least `least` standard deviations, the most
    prominent first.

    A prominence says how far a reading rises above what lies on both sides of it, so a step or a
    slope has none. `rest` is the signal without the peaks already known, `peaks` these.
    """
    tops, valleys = _maxima(rest, noise, peaks, least)
    if not tops:
        return
    heights, lowest = rest[tops], np.array(valleys)
    known = peaks[tops]
    spread = noise.variance(heights + known, known) + noise.variance(lowest + known, known)
    significance = (heights - lowest) / np.sqrt(spread)
    ordered = sorted(zip(significance.tolist(), tops, valleys, strict=True), reverse=True)
    at, line = x.tolist(), rest.tolist()
    end = len(line) - 1
    for significant, top, valley in ordered:
        if not significant >= least:
            return
        half = (line[top] + valley) / 2
        left = top
        while left > 0 and line[left] > half:
            left -= 1
        right = top
        while right < end and line[right] > half:
            right += 1
        # Between the last reading above the half and the first below, the middle.
        start = _crossing(at, line, left, left + 1, half) if left < top else at[top]
        stop = _crossing(at, line, right, right - 1, half) if right > top else at[top]
        if left == top or line[left] > half:
            start = at[top] - (stop - at[top])
        if right == top or line[right] > half:
            stop = at[top] + (at[top] - start)
        center, fwhm = (start + stop) / 2, stop - start
        low, high = at[max(top - 1, 0)], at[min(top + 1, end)]
        yield Bump(center, fwhm, line[top] - valley, significant, low, high)


def _maxima(
    rest: Floats, noise: Noise, peaks: Floats, least: float
) -> tuple[list[int], list[float]]:
    """The local maxima that may be prominent enough, and the levels that they are prominent from.

    As in `scipy.signal.find_peaks`, the middle of a plateau is its maximum. That finds all maxima;
    here most are none to look at: what is not far enough above the lowest reading of each side has
    not the prominence either.
    """
    # One reading more on either side, so that the first and the last may be maxima.
    whole = np.empty(rest.size + 2)
    whole[1:-1] = rest
    whole[0], whole[-1] = _beyond(*rest[:4].tolist()), _beyond(*rest[:-5:-1].tolist())
    lowest = np.minimum.accumulate(whole[::-1])[::-1]
    far = rest - np.maximum(np.minimum.accumulate(whole), lowest)[1:-1]
    candidates = np.flatnonzero(far * far >= least**2 * noise.variance(rest + peaks, peaks))
    line = whole.tolist() if candidates.size else []
    end = len(line) - 1
    tops = []
    for k in candidates.tolist():
        first = last = k + 1
        if line[k] < line[first]:
            while last < end and line[last + 1] == line[first]:
                last += 1
            if last < end and line[last + 1] < line[first]:
                tops.append((first + last) // 2)
    return [top - 1 for top in tops], [_valley(line, top) for top in tops]


def _valley(line: list[float], top: int) -> float:
    """The level that a maximum is prominent from: of the lowest on either side, as far as nothing
    is higher than the maximum, the higher one.
    """
    height = line[top]
    lowest = []
    for side in (range(top - 1, -1, -1), range(top + 1, len(line))):
        least = height
        for k in side:
            value = line[k]
            if value < least:
                least = value
            elif value > height:
                break
        lowest.append(least)
    return max(lowest)


def _beyond(end: float, second: float, third: float, fourth: float | None = None) -> float:
    """What stands for the other side of a peak at an end: readings there that only go on falling
    as they do further inside are a slope. The top may be between the last two.
    """
    inside = max(second - third, 0.0)
    if fourth is not None:
        if abs(end - second) < 0.35 * (max(end, second) - third):
            return end - max(end - third - max(third - fourth, 0.0), 0.0)
        # The side of a peak is over after two readings, a slope is not.
        inside = min(inside, 2 * max(third - fourth, 0.0))
    return end - max(end - second - inside, 0.0)


def _crossing(x: list[float], y: list[float], outer: int, inner: int, level: float) -> float:
    rise = y[inner] - y[outer]
    part = (level - y[outer]) / rise if rise > 0 else 0.5
    return x[outer] + min(max(part, 0.0), 1.0) * (x[inner] - x[outer])


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
    first, last, start, stop = _windows(n)
    sums = np.concatenate(([0.0], np.cumsum(rest)))
    spread = noise.gain * peaks + (noise.shape_error * peaks) ** 2
    spreads = np.concatenate(([0.0], np.cumsum(spread)))
    # Among points that lie close, the flanks reach as far as among those that do not.
    start = np.minimum(start, x.searchsorted(x - reach)[first])
    stop = np.maximum(stop, x.searchsorted(x + reach, side="right")[last - 1])
    edges = np.concatenate(([2 * x[0] - x[1]], x, [2 * x[-1] - x[-2]]))
    # What is narrower than the narrowest peak is noise: its neighbours say so.
    valid = (first - start >= 2) & (stop - last >= 2)
    valid &= edges[last + 1] - edges[first] >= 1.2 * narrowest
    which = np.flatnonzero(valid)
    first, last, start, stop = first[which], last[which], start[which], stop[which]
    size = last - first
    inner = (sums[last] - sums[first]) / size
    # Beside a huge peak, rounding alone may make it negative.
    known = np.maximum(spreads[last] - spreads[first], 0.0) / size
    # Most runs are not above the plain mean of both sides, and the level is never below that.
    of = stop - start - size
    level = (sums[stop] - sums[start] - size * inner) / of
    one = np.maximum(noise.gain * level + noise.offset, noise.floor)
    worth = np.flatnonzero(
        inner - level >= 0.999 * least * np.sqrt((one + known) / size + one / of)
    )
    first, last, start, stop = first[worth], last[worth], start[worth], stop[worth]
    size, inner, known = size[worth], inner[worth], known[worth]
    one = np.maximum(noise.gain * inner + noise.offset, noise.floor)
    left = _level(sums, start, (start + first) // 2, first, one)
    right = _level(sums, last, (last + stop + 1) // 2, stop, one)
    level, of = _joined(left, first - start, right, stop - last, one)
    one = np.maximum(noise.gain * level + noise.offset, noise.floor)
    z = (inner - level) / np.sqrt((one + known) / size + one / of)
    above = z >= least
    columns = z[above], first[above], last[above], (inner - level)[above]
    places = list(zip(*(column.tolist() for column in columns), strict=True))
    places.sort(reverse=True)
    taken = bytearray(n)
    found = []
    for significance, begin, end, height in places:
        if any(taken[max(begin - 1, 0) : end + 1]):
            continue
        taken[begin:end] = b"\x01" * (end - begin)
        low, high = float(x[max(begin - 1, 0)]), float(x[min(end, n - 1)])
        inside = rest[begin:end] - rest[begin:end].min() + abs(height)
        center = float(x[begin:end].dot(inside) / inside.sum())
        width = 0.5 * (high - low) if end - begin < 3 else 0.8 * float(x[end - 1] - x[begin])
        found.append(Bump(center, width, height, significance, low, high))
    return found


@lru_cache(maxsize=4)
def _windows(n: int) -> tuple[Any, Any, Any, Any]:
    """Runs of n readings: where they and their flanks begin and end, for all that `bumps` tries."""
    sizes = [1]
    while (size := sizes[-1] + (1 if sizes[-1] < 4 else sizes[-1] // 2)) <= n // 3:
        sizes.append(size)
    counts = [n - size + 1 for size in sizes]
    size = np.repeat(sizes, counts)
    first = np.arange(size.size) - np.repeat(np.cumsum([0, *counts[:-1]]), counts)
    last = first + size
    flank = np.maximum(2 * size, 5)
    return first, last, np.maximum(first - flank, 0), np.minimum(last + flank, n)


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
    weight = 1.0 / sigma
    scaled = rest * weight
    basis = np.empty((degree + 1, x.size))
    for power, row in enumerate(basis):
        row[:] = weight
        if power:
            row *= (x - total(x) / x.size) ** power
            for other in basis[:power]:
                row -= other.dot(row) * other
        row /= math.sqrt(row.dot(row))
        scaled -= row.dot(scaled) * row
    centers, fwhms, steep, ends = _places(float(x[0]), float(x[-1]), narrowest, widest)
    if centers.size * x.size > _MANY:
        # No Gaussian stands out where the readings around it, taken together, do not.
        above = np.maximum(scaled, 0.0)
        above *= above
        sums = np.zeros(x.size + 1)
        np.add.accumulate(above, out=sums[1:])
        first, last = sums[x.searchsorted(ends)]
        worth = np.flatnonzero(last - first > (0.8 * least) ** 2)
        if not worth.size:
            return []
        centers, fwhms, steep = centers[worth], fwhms[worth], steep[worth]
    curves = x - centers[:, None]
    curves *= curves
    curves *= steep[:, None]
    np.exp(curves, out=curves)
    curves *= weight
    overlap = curves.dot(scaled)
    # What of each is not background.
    shares = curves.dot(basis.T)
    curves *= curves
    shares *= shares
    squared = curves.dot(np.ones(x.size)) - np.add.reduce(shares, axis=1)
    norm = np.sqrt(np.maximum(squared, 1e-12 * float(np.maximum.reduce(weight)) ** 2))
    z = overlap / norm
    bumps: list[Bump] = []
    while z.size and z[top := int(z.argmax())] >= least:
        center, fwhm = float(centers[top]), float(fwhms[top])
        height = float(z[top] / norm[top])
        low, high = center - 0.6 * fwhm, center + 0.6 * fwhm
        bumps.append(Bump(center, fwhm, height, float(z[top]), low, high))
        z[np.abs(centers - center) <= 0.8 * (fwhms + fwhm)] = -math.inf
    return bumps


@lru_cache(maxsize=4)
def _places(low: float, high: float, narrowest: float, widest: float) -> tuple[Floats, ...]:
    """Centres and FWHMs of all Gaussians that are compared with the readings, what they fall with,
    and from where to where readings count for each.
    """
    centers, fwhms = [np.empty(0)], [np.empty(0)]
    fwhm = narrowest
    while fwhm <= widest:
        count = max(int((high - low) / (0.35 * fwhm)), 2) + 1
        centers.append(np.linspace(low, high, count))
        fwhms.append(np.full(count, fwhm))
        fwhm *= 1.6
    at, wide = np.concatenate(centers), np.concatenate(fwhms)
    return at, wide, -_LN16 / (wide * wide), np.array([at - 1.1 * wide, at + 1.1 * wide])


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
    share = np.minimum(np.maximum(differ - 1.0, 0.0), 1.0)
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
    near = slice(int(x.searchsorted(low - reach)), int(x.searchsorted(high + reach, "right")))
    xs, ys = x[near], y[near]
    outside = np.concatenate((ys[: xs.searchsorted(low)], ys[xs.searchsorted(high, "right") :]))
    under = median(outside) if outside.size >= 2 else float(ys.min())
    begin, end = max(low, float(x[0])), min(high, float(x[-1]))
    centers = begin + (end - begin) / 24 * np.arange(25.0)
    widths = np.array(sorted({max(width * part, 0.9 * narrowest) for part in _WIDTHS}))
    away = xs - centers[:, None]
    away *= away
    # One row for each centre and width.
    steep = -_LN16 / (widths * widths)
    curves = np.exp(away[:, None] * steep[:, None]).reshape(-1, xs.size)
    above = ys - under
    weight = 1.0 / noise.variance(np.maximum(ys, under), np.maximum(above, 0.0) * 5)
    capped = 4 * max(bump.height, float(np.maximum.reduce(above)))
    if not capped > 0:
        return bump.center, 0.5 * (high - low), width, 0.0
    overlap = curves.dot(weight * above)
    curves *= curves
    norm = curves.dot(weight)
    norm += 1e-12 * float(np.maximum.reduce(weight))
    heights = np.minimum(np.maximum(overlap / norm, 0.0), capped)
    gain = heights * (2 * overlap - heights * norm)
    gain -= np.maximum.reduce(gain)
    gain *= 0.5
    chance = np.exp(gain)
    chance /= np.maximum(heights, 1e-3 * capped)
    chance /= np.add.reduce(chance)
    by_center = np.add.reduce(chance.reshape(centers.size, -1), axis=1)
    center = float(by_center.dot(centers))
    centers -= center
    deviation = math.sqrt(float(by_center.dot(centers * centers)))
    by_width = np.add.reduce(chance.reshape(centers.size, -1), axis=0)
    fwhm = math.exp(float(by_width.dot(np.log(widths))))
    return center, deviation, fwhm, float(chance.dot(heights))
