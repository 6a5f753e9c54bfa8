"""Peaks of a signal along one axis, straight from its points: no curve is fitted."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from ._candidates import Candidates, candidates_of
from ._found import FoundPeaks, Rejected
from ._peak import Peak
from ._points import Floats, Points, noise_of, points_of

__all__ = ["Peaks", "find_peaks"]

#: A least value, or the least and the most, either of which may be None.
Range = float | tuple[float | None, float | None] | None

#: How probable it may be that noise alone makes a peak somewhere among the points.
FALSE_ALARM = 1e-3

#: How much more is asked of a peak where the noise itself is estimated, from few points.
UNCERTAINTY = 8.0

_ANYTHING = (None, None)

# What became of a candidate: plain numbers, as arrays are compared with them.
_PEAK, _PROMINENCE, _HEIGHT, _WIDTH, _DISTANCE, _LIMIT = range(6)


@dataclass(frozen=True)
class Peaks(FoundPeaks):
    """The peaks of a signal, most prominent first: a sequence, false when it is empty.

    `positions` are where each was measured highest, in the same order.

    >>> peaks = find_peaks([0, 1, 2, 3, 4], [1, 2, 5, 2, 1], prominence=9)
    >>> bool(peaks), len(peaks.rejected), peaks.rejected[0].why
    (False, 1, 'prominence 4 is below the 9 asked for')
    >>> peaks.why
    'no peak: the strongest candidate, at 2: prominence 4 is below the 9 asked for'
    """

    found: tuple[Peak, ...] = ()
    positions: tuple[float, ...] = ()
    _survey: _Survey | None = field(default=None, repr=False, compare=False)
    _empty: str = field(default="", repr=False, compare=False)

    @cached_property
    def rejected(self) -> tuple[Rejected, ...]:
        """The maxima that were not taken for peaks, most prominent first."""
        if self._survey is None:
            return ()
        return self._survey.rejections(self._survey.rejects)

    @cached_property
    def why(self) -> str:
        """Why there is no peak: a sentence that names the strongest candidate; "" if there is."""
        if self.found:
            return ""
        if self._survey is None or not len(self._survey.rejects):
            return f"no peak: {self._empty}"
        (strongest,) = self._survey.rejections(self._survey.rejects[:1])
        return f"no peak: the strongest candidate, at {strongest.peak.center:.6g}: {strongest.why}"


def find_peaks(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    *,
    prominence: Range = None,
    height: Range = None,
    width: Range = None,
    distance: float | None = None,
    at_limits: bool = True,
) -> Peaks:
    """Find the peaks of a signal along one axis.

    What a peak, its prominence and its width are is that of `scipy.signal.find_peaks`, here in the
    units of the signal and of the axis, and in its order: height, distance, prominence, width.
    Positions may be uneven and in any order; values at one position become their mean, and points
    that are not finite are left out. `center` is the centroid of what is above half of the
    prominence, or where that is two points or fewer the top of a Gaussian through three; `fwhm` is
    the width at half of the prominence; `background` is the line through the lowest points within
    two widths on either side, and `height` what the highest point has above it.

    A signal that is highest at its first or last point, or that does not fall to half before it,
    has one side only: prominence and width then come from that, and `note` says so. If that side
    does not look like one of a peak (a slope, an edge, a tail), it is not taken.

    Parameters
    ----------
    x, y
        Positions, shape (n,), and the signal there, shape (n,).
    sigma
        The standard deviation of `y`: one number, or shape (n,). Estimated from the scatter of the
        signal if it is not given.
    prominence
        The least, or (least, most) with None for no bound, in the units of the signal. Where no
        least prominence is given, it is what noise alone reaches once in a thousand signals; give
        0 for every maximum.
    height
        As `prominence`, of the signal itself at the peak, background included.
    width
        As `prominence`, of the full width at half of the prominence, in the units of the axis.
    distance
        Of two peaks that are closer, in the units of the axis, the higher one is kept.
    at_limits
        Whether a peak may have one side only. Not while points are still being added at an end:
        where a signal has just begun to rise, its last point is its highest.

    Returns
    -------
    Peaks
        Most prominent first, with the candidates that were rejected, and why.

    Raises
    ------
    ValueError
        The shapes do not fit, a sigma is not positive, or what is asked for is not possible.

    Examples
    --------
    >>> x = np.linspace(0, 10, 51)
    >>> peaks = find_peaks(x, 10 + 300 * np.exp(-(((x - 7) / 0.6) ** 2)))
    >>> [(round(peak.center, 3), round(peak.fwhm, 2)) for peak in peaks]
    [(7.0, 1.01)]
    """
    if isinstance(distance, (tuple, list)):
        raise ValueError(f"distance is {distance}; give the least one alone, as one number")
    asked = _Asked(
        _range("prominence", prominence),
        _range("height", height, negative=True),
        _range("width", width),
        _range("distance", distance)[0],
    )
    points = points_of(x, y, sigma)
    if reason := _hopeless(points, len(np.asarray(x))):
        return Peaks(_empty=reason)
    candidates = candidates_of(points, at_limits)
    survey = _survey(points, candidates, asked)
    order = survey.ordered(survey.verdict == _PEAK)
    return Peaks(
        candidates.peaks(order),
        tuple(points.x[candidates.top[order]].tolist()),
        survey,
        "the signal has no maximum between its ends",
    )


@dataclass(frozen=True)
class _Asked:
    """What a peak must have: (least, most) of each."""

    prominence: tuple[float | None, float | None]
    height: tuple[float | None, float | None]
    width: tuple[float | None, float | None]
    distance: float | None


@dataclass(frozen=True, eq=False)
class _Survey:
    """All candidates, and what became of each.

    `least` is the least prominence asked of each; `noise` its standard deviation, where `least`
    comes from that.
    """

    candidates: Candidates
    asked: _Asked
    verdict: npt.NDArray[np.int64]
    least: Floats
    noise: Floats | None

    def ordered(self, which: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        """Return the indices of some of the candidates, most prominent first."""
        indices = np.flatnonzero(which)
        return indices[np.argsort(-self.candidates.prominence[indices], kind="stable")]

    @cached_property
    def rejects(self) -> npt.NDArray[np.intp]:
        """The candidates that are no peaks, most prominent first."""
        return self.ordered(self.verdict != _PEAK)

    def rejections(self, which: npt.NDArray[np.intp]) -> tuple[Rejected, ...]:
        """Say of some of the candidates why they are no peaks."""
        peaks = self.candidates.peaks(which)
        return tuple(
            Rejected(*both) for both in zip(peaks, map(self._why, which, peaks), strict=True)
        )

    def _why(self, k: int, peak: Peak) -> str:
        asked, verdict = self.asked, self.verdict[k]
        if verdict == _HEIGHT:
            return _outside("height", peak.height + peak.background, asked.height)
        if verdict == _DISTANCE:
            return f"a higher one is closer than the {asked.distance:.4g} asked for"
        if verdict == _PROMINENCE and self.noise is not None and peak.prominence < self.least[k]:
            return (
                f"prominence {peak.prominence:.4g} is below {self.least[k]:.4g}, which "
                f"noise of {self.noise[k]:.4g} alone may reach"
            )
        if verdict == _PROMINENCE:
            return _outside("prominence", peak.prominence, asked.prominence)
        if verdict == _WIDTH:
            return _outside("width", peak.fwhms[0], asked.width)
        return (
            f"{peak.note}, which does not look like that of a peak; scan further to see "
            "whether the signal falls there"
        )


def _survey(points: Points, candidates: Candidates, asked: _Asked) -> _Survey:
    """Judge the candidates, in the order of scipy."""
    top, prominence = candidates.top, candidates.prominence
    least, most = asked.prominence
    noise = None
    if least is None:
        sigma = noise_of(points) if points.sigma is None else points.sigma
        noise = np.hypot(sigma[top], sigma[candidates.base()])
        thresholds = _multiple(len(points.x), points.sigma is not None) * noise
    else:
        thresholds = np.full(len(top), least)
    verdict = np.zeros(len(top), dtype=np.int64)
    if asked.height != _ANYTHING:
        verdict[_misses(points.y[top], asked.height)] = _HEIGHT
    if asked.distance is not None:
        among = np.flatnonzero((verdict == _PEAK) & candidates.judged)
        crowded = _crowded(points.x[top[among]], points.y[top[among]], asked.distance)
        verdict[among[crowded]] = _DISTANCE
    verdict[(verdict == _PEAK) & (prominence < thresholds)] = _PROMINENCE
    if most is not None:
        verdict[(verdict == _PEAK) & (prominence > most)] = _PROMINENCE
    if asked.width != _ANYTHING:
        left = np.flatnonzero(verdict == _PEAK)
        verdict[left[_misses(candidates.fwhm(left), asked.width)]] = _WIDTH
    verdict[(verdict == _PEAK) & ~candidates.judged] = _LIMIT
    return _Survey(candidates, asked, verdict, thresholds, noise)


def _multiple(n: int, known: bool) -> float:
    """Return how often its standard deviation the highest of all differences of n values may be.

    Of two values each, there are fewer than n**2 differences: the bound of Bonferroni.
    """
    multiple = -NormalDist().inv_cdf(FALSE_ALARM / n**2)
    return multiple if known else multiple * (1 + UNCERTAINTY / n)


def _crowded(positions: Floats, heights: Floats, distance: float) -> npt.NDArray[np.bool_]:
    """Return which of the maxima, in order of position, are too close to a higher one."""
    crowded = np.zeros(len(positions), dtype=np.bool_)
    for k in np.argsort(heights)[::-1]:
        if not crowded[k]:
            first = np.searchsorted(positions, positions[k] - distance, "right")
            last = np.searchsorted(positions, positions[k] + distance, "left")
            crowded[first:last] = True
            crowded[k] = False
    return crowded


def _misses(values: Floats, asked: tuple[float | None, float | None]) -> npt.NDArray[np.bool_]:
    least, most = asked
    misses = np.zeros(len(values), dtype=np.bool_)
    if least is not None:
        misses |= values < least
    if most is not None:
        misses |= values > most
    return misses


def _outside(what: str, value: float, asked: tuple[float | None, float | None]) -> str:
    least, most = asked
    if least is not None and value < least:
        return f"{what} {value:.4g} is below the {least:.4g} asked for"
    return f"{what} {value:.4g} is above the {most:.4g} asked for"


def _hopeless(points: Points, given: int) -> str:
    """Return why there can be no peak, whatever is asked for; "" if there can be."""
    n = len(points.x)
    if given and not n:
        return f"none of the {given} points is finite"
    if n < 3:
        return f"a peak needs 3 positions, and there are {n}"
    if points.y.min() == points.y.max():
        return f"the signal is constant, {points.y[0]:.6g}"
    return ""


def _range(name: str, asked: Range, negative: bool = False) -> tuple[float | None, float | None]:
    """Return (least, most)."""
    least, most = asked if isinstance(asked, (tuple, list)) else (asked, None)
    for bound in (least, most):
        if bound is not None and (math.isnan(bound) or (bound < 0 and not negative)):
            raise ValueError(f"{name} is {asked}; give a number that is not negative")
    if least is not None and most is not None and least > most:
        raise ValueError(f"{name} is {asked}; give the smaller number first")
    return least, most
