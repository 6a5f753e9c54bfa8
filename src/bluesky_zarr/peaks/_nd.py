"""Peaks of a signal over several axes, straight from its points: no surface is fitted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ._find import FALSE_ALARM
from ._flood import neighbours_of, prominences
from ._found import FoundPeaks, Rejected
from ._models import Floats
from ._peak import Peak

__all__ = ["PeaksND", "find_peaks_nd"]


@dataclass(frozen=True)
class PeaksND(FoundPeaks):
    """The peaks of a signal over several axes, most prominent first: false when it is empty.

    `rejected` are the maxima that were not taken for peaks, most prominent first; `why` is a
    sentence on the strongest of them where there is no peak.
    """

    found: tuple[Peak, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    why: str = ""


def find_peaks_nd(
    points: npt.ArrayLike,
    values: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    *,
    prominence: float | None = None,
    height: float | None = None,
    width: float | Sequence[float] | None = None,
    distance: float | Sequence[float] | None = None,
) -> PeaksND:
    """Find the peaks of a signal over several axes, on a grid or on scattered points.

    A peak is a point that is higher than its neighbours: on a full grid those around it, otherwise
    those that a Delaunay triangulation joins it with. Its prominence is how far one has to descend
    from it on the way to a higher one, as `find_peaks` has it along one axis; the highest is
    measured from the lowest value. `center` is the centroid of what is connected with it above half
    of the prominence, `fwhm` the extent of an ellipsoid with the same second moments.

    Parameters
    ----------
    points, values
        Positions, shape (n, number of axes), and the signal there, shape (n,). Points that are not
        finite are left out; no two are at the same position.
    sigma
        The standard deviation of `values`: one number, or shape (n,). Estimated from the scatter
        among neighbours if it is not given.
    prominence
        The least, in the units of the signal. If it is not given, what noise alone reaches once in
        a thousand signals.
    height
        The least of the signal itself at the peak, background included.
    width
        The least FWHM, in the units of the axes: one number for all, or one for each.
    distance
        Of two peaks that are closer than this on all axes, the higher one is kept.

    Returns
    -------
    PeaksND
        Most prominent first, with what was rejected, and why.

    Raises
    ------
    ValueError
        For shapes that do not fit, one axis only, or a sigma that is not positive.

    Examples
    --------
    >>> y, x = np.mgrid[0:10:1, 0:10:1].reshape(2, -1)
    >>> signal = 90 * np.exp(-((y - 4.2) ** 2 + (x - 6) ** 2) / 3)
    >>> peaks = find_peaks_nd(np.column_stack([y, x]), signal, prominence=5)
    >>> [[round(center, 1) for center in peak.centers] for peak in peaks]
    [[4.2, 6.0]]
    """
    at, signal, error = checked(points, values, sigma)
    least_width = _per_axis("width", width, at.shape[1])
    apart = _per_axis("distance", distance, at.shape[1])
    if len(signal) < at.shape[1] + 2:
        return PeaksND(
            why=f"no peak: it needs {at.shape[1] + 2} points, and there are {len(signal)}"
        )
    if signal.min() == signal.max():
        return PeaksND(why=f"no peak: the signal is constant, {signal[0]:.6g}")
    neighbours = neighbours_of(at)
    found = prominences(signal, neighbours)
    if error is None:
        error = _scatter(signal, neighbours)
    multiple = -NormalDist().inv_cdf(FALSE_ALARM / len(signal) ** 2)
    kept: list[tuple[Peak, int]] = []
    rejected: list[tuple[Rejected, float]] = []
    # The highest first: of two that are close, it is the one that stays.
    for top in sorted(found, key=lambda k: -signal[k]):
        rise, saddle = found[top]
        noise = math.hypot(error[top], error[saddle])
        least = multiple * noise if prominence is None else prominence
        peak = _peak(at, signal, neighbours, top, rise)
        why = ""
        if height is not None and signal[top] < height:
            why = f"height {signal[top]:.4g} is below the {height:.4g} asked for"
        elif apart is not None and any((abs(at[top] - at[k]) < apart).all() for _, k in kept):
            why = f"a higher one is closer than the {distance} asked for"
        elif rise < least and prominence is None:
            why = (
                f"prominence {rise:.4g} is below {least:.4g}, which noise of {noise:.4g} "
                "alone may reach"
            )
        elif rise < least:
            why = f"prominence {rise:.4g} is below the {least:.4g} asked for"
        elif _one_sided(at, top, peak):
            why = (
                "it is at the end of an axis and falls slowly from there, which does not look like "
                "a side of a peak; scan further to see whether the signal falls there"
            )
        elif least_width is not None and (np.array(peak.fwhms) < least_width).any():
            why = f"width {_words(peak.fwhms)} is below the {_words(least_width)} asked for"
        if why:
            rejected.append((Rejected(peak, why), rise))
        else:
            kept.append((peak, top))
    peaks = tuple(sorted((peak for peak, _ in kept), key=lambda peak: -peak.prominence))
    others = tuple(item for item, _ in sorted(rejected, key=lambda pair: -pair[1]))
    return PeaksND(peaks, others, "" if peaks else _nothing(others))


def checked(
    points: npt.ArrayLike, values: npt.ArrayLike, sigma: npt.ArrayLike | None
) -> tuple[Floats, Floats, Floats | None]:
    """Return points, values and errors as arrays that fit, without what is not finite.

    Raises
    ------
    ValueError
        For shapes that do not fit, one axis only, or a sigma that is not positive.
    """
    at = np.asarray(points, dtype=np.float64)
    signal = np.asarray(values, dtype=np.float64)
    if at.ndim != 2 or at.shape[1] < 2 or signal.shape != at.shape[:1]:
        raise ValueError(
            f"points have the shape {at.shape} and values {signal.shape}: give points of the shape "
            "(n, axes) with 2 axes or more, and values of the shape (n,); along one axis there "
            "are find_peaks and fit_peaks"
        )
    finite = np.isfinite(at).all(axis=1) & np.isfinite(signal)
    if sigma is None:
        return at[finite], signal[finite], None
    error = np.asarray(sigma, dtype=np.float64)
    if error.shape not in ((), signal.shape):
        raise ValueError(
            f"sigma has the shape {error.shape} for {len(signal)} values; give one number, or one "
            "for each value"
        )
    if not (error > 0).all():
        raise ValueError(
            f"sigma is {error.min():g} somewhere, and no value is that exact; give positive "
            "numbers: of counts, np.sqrt(np.maximum(values, 1))"
        )
    return at[finite], signal[finite], np.broadcast_to(error, signal.shape)[finite]


def _peak(
    points: Floats, values: Floats, neighbours: list[list[int]], top: int, rise: float
) -> Peak:
    """What the points above half of the prominence say of a peak."""
    half = values[top] - rise / 2
    island, edge = {top}, [top]
    while edge:
        for near in neighbours[edge.pop()]:
            if near not in island and values[near] > half:
                island.add(near)
                edge.append(near)
    inside = sorted(island)
    weights = values[inside] - half
    center = weights @ points[inside] / weights.sum()
    # Each point stands for a cell, as wide as the way to its neighbours.
    cell = np.abs(points[neighbours[top]] - points[top]).max(axis=0)
    axes = points.shape[1]
    spread = ((points[inside] - center) ** 2).mean(axis=0) + cell**2 / 12
    # An ellipsoid of the full width f has the variance (f / 2)**2 / (axes + 2) along it.
    fwhm = 2 * np.sqrt((axes + 2) * spread)
    return Peak(
        center=tuple(map(float, center)),
        fwhm=tuple(map(float, fwhm)),
        height=float(rise),
        prominence=float(rise),
        background=float(values[top] - rise),
    )


def _one_sided(points: Floats, top: int, peak: Peak) -> bool:
    """Whether a maximum is at the end of an axis and as wide as a slope, not as a peak."""
    low, high = points.min(axis=0), points.max(axis=0)
    at_end = (points[top] == low) | (points[top] == high)
    return bool((at_end & (np.array(peak.fwhms) > 0.25 * (high - low))).any())


def _scatter(values: Floats, neighbours: list[list[int]]) -> Floats:
    """The standard deviation of each value, from how far it is from the mean of its neighbours.

    A signal that is never negative is taken to be like counts, whose noise grows with its root.
    """
    sizes = np.array([len(near) for near in neighbours])
    flat = np.concatenate([np.array(near, dtype=np.intp) for near in neighbours])
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    means = np.add.reduceat(values[flat], starts) / sizes
    apart = np.abs(values - means) / np.sqrt(1 + 1 / sizes)
    noise = 1.4826 * float(np.median(apart))
    noise = max(noise, 1e-9 * float(np.ptp(values)))
    level = float(np.median(values))
    if values.min() >= 0 and level > 0:
        return noise * np.sqrt(np.maximum(values / level, 1.0))
    return np.full(len(values), noise)


def _per_axis(name: str, given: float | Sequence[float] | None, axes: int) -> Floats | None:
    if given is None:
        return None
    numbers = np.asarray(given, dtype=np.float64)
    if numbers.shape not in ((), (axes,)) or not (numbers >= 0).all():
        raise ValueError(
            f"{name} is {given}; give one number that is not negative, or one for each of the "
            f"{axes} axes"
        )
    return np.broadcast_to(numbers, (axes,))


def _words(numbers: Sequence[float] | Floats) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)


def _nothing(rejected: tuple[Rejected, ...]) -> str:
    strongest = rejected[0]
    where = ", ".join(f"{c:.6g}" for c in strongest.peak.centers)
    return f"no peak: the strongest candidate, at ({where}): {strongest.why}"
