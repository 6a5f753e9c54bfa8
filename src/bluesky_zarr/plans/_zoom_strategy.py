"""`Zoom`: passes around each peak, each finer than the one before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks import Peak, find_peaks, find_peaks_nd, fit_peaks, fit_peaks_nd
from bluesky_zarr.peaks._noise import Noise

from ._strategy import Field, Found, Measure, Measured, Outcome, Search, snaked

__all__ = ["Zoom"]

Floats = npt.NDArray[np.float64]

#: A window reaches so many FWHMs to either side of a peak: a Gaussian has 0.2 % left there.
_REACH = 1.5
#: So many points over the FWHM describe a peak if its fit is good.
_OVER_FWHM = 4
#: So many do without a fit.
_WITHOUT_FIT = 10
#: Finer than this over the FWHM, no pass makes a peak better known.
_FINEST = 60


@dataclass(frozen=True)
class Zoom:
    """A coarse pass over the whole range, then passes around each peak, each `factor` times finer.

    The coarse pass has a point at both ends and steps of half of the narrowest FWHM. A pass around
    a peak reaches 1.5 FWHM to either side, leaves out what was measured before, and goes over all
    peaks that are not resolved yet. A peak is resolved with four points over its FWHM on each axis
    and a fit whose errors, as fractions of the FWHM, are below `center_error` and `fwhm_error`;
    or, where no formula describes it, with ten points over its FWHM. `prominence` is the least that
    a peak must have, by default what noise alone does not reach.

    Raises
    ------
    ValueError
        For a factor that does not make a pass finer, or errors that are not positive.

    Examples
    --------
    >>> from bluesky_zarr.plans._strategy import Field, ScanAxis
    >>> search = Zoom(2).search(Field((ScanAxis("x", 0, 10, narrowest=2),)))
    >>> next(search).points.ravel().tolist()
    [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
    """

    factor: float = 2.0
    center_error: float = 0.04
    fwhm_error: float = 0.1
    prominence: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.factor) and self.factor > 1):
            raise ValueError(
                f"factor={self.factor:g}: each pass is finer by this factor, so it is above 1, "
                "for example 2."
            )
        for name in ("center_error", "fwhm_error"):
            value = getattr(self, name)
            if not value > 0:
                raise ValueError(f"{name}={value:g}: give a fraction of the FWHM above 0.")

    def search(self, field: Field) -> Search:
        """Begin one search."""
        return (yield from _Zooming(self, field).run())


@dataclass(eq=False)
class _Spot:
    """A peak while it is being resolved; `passes` is how often it was zoomed in on."""

    peak: Peak
    passes: int = 0
    asked: bool = False
    approved: bool = False
    seen: bool = False

    @property
    def open(self) -> bool:
        """Whether there is more to be done."""
        return self.approved and not self.peak.resolved and not self.peak.note


class _Zooming:
    def __init__(self, settings: Zoom, field: Field) -> None:
        self.settings = settings
        self.field = field
        self.start = np.array([axis.start for axis in field.axes], dtype=np.float64)
        self.span = np.array([axis.stop - axis.start for axis in field.axes])
        self.floor = np.array([axis.step_floor for axis in field.axes])
        self.intervals = np.array(
            [_intervals(a.high - a.low, a.narrowest, a.step_floor) for a in field.axes]
        )
        self.points = np.empty((0, len(field.axes)))
        self.values = np.empty(0)
        self.taken = self.points
        self.spots: list[_Spot] = []
        self.passes = 0
        self.stopped = ""
        self.why = ""

    def run(self) -> Search:
        size = int(np.prod(self.intervals + 1))
        if size > self.field.max_points:
            raise ValueError(
                f"The coarse pass takes {size} points, more than max_points="
                f"{self.field.max_points}: allow more points, or give a larger narrowest."
            )
        yield from self._measure(
            Measure(grid=tuple(at.tolist() for at in self._lattice(0)), label="coarse")
        )
        while True:
            self._find()
            if new := [spot for spot in self.spots if not spot.asked]:
                answer: Iterable[Peak] = (yield Found(tuple(spot.peak for spot in new))) or ()
                for spot in new:
                    spot.asked = True
                    spot.approved = any(spot.peak is one or spot.peak == one for one in answer)
                    if not spot.approved:
                        spot.peak = replace(spot.peak, note="not approved")
            self._resolve()
            points = self._next()
            if not len(points):
                break
            if self.passes >= self.field.max_passes:
                self.stopped = f"max_passes={self.field.max_passes} reached"
                break
            room = self.field.max_points - len(self.taken)
            if len(points) > room:
                self.stopped = f"max_points={self.field.max_points} reached"
                if room < 1:
                    break
                points = points[:room]
                for spot in self.spots:
                    # This pass is not all of its level.
                    spot.passes -= spot.open
            open_ = tuple(spot.peak for spot in self.spots if spot.open)
            yield from self._measure(Measure(points, label="zoom", peaks=open_))
        return self._outcome()

    def _measure(self, measure: Measure) -> Search:
        measured: Measured = yield measure
        self.passes += 1
        self.taken = np.concatenate([self.taken, measure.points])
        self.points, self.values = measured.points, measured.values
        return Outcome(())

    def _lattice(self, level: int) -> tuple[Floats, ...]:
        """The positions of a level along each axis, from start to stop."""
        lattice = []
        for start, span, step in zip(self.start, self.span, self._steps(level), strict=True):
            count = math.floor(abs(span) / step + 1e-6)
            lattice.append(start + math.copysign(step, span) * np.arange(count + 1))
        return tuple(lattice)

    def _steps(self, level: int) -> Floats:
        coarse = np.abs(self.span) / self.intervals
        return np.maximum(coarse / self.settings.factor**level, self.floor)

    # -- what is known

    def _find(self) -> None:
        """Look for peaks in all that was measured, and renew what is known of each."""
        noise = Noise.of(self.values)
        sigma = np.sqrt(noise.variance(self.values)) if noise.counts else None
        least = self.settings.prominence
        if len(self.span) == 1:
            found = find_peaks(self.points[:, 0], self.values, sigma, prominence=least)
        else:
            found = find_peaks_nd(self.points, self.values, sigma, prominence=least)
        self.why = found.why
        left = self._renew(list(found), min)
        # A blend that has come apart was as wide as both.
        left = self._renew(left, max)
        self.spots = [spot for spot in self.spots if spot.seen or not spot.open]
        self.spots += [_Spot(peak) for peak in left]
        for spot in self.spots:
            spot.seen = False

    def _renew(self, found: list[Peak], of: Callable[[float, float], float]) -> list[Peak]:
        """Give each peak its new estimate, and return those that are of none."""
        left = []
        for peak in found:
            free = (s for s in self.spots if not s.seen and _same(s.peak, peak, of))
            spot = next(free, None)
            if spot is None:
                left.append(peak)
                continue
            spot.seen = True
            if spot.open:
                spot.peak = peak
        return left

    def _resolve(self) -> None:
        for spot in self.spots:
            if not spot.open:
                continue
            step = self._steps(spot.passes)
            over = float((np.array(spot.peak.fwhms) / step).min())
            if over < _OVER_FWHM:
                continue
            fit = self._fit(spot)
            if fit is None:
                continue
            peak, good = fit
            if good and self._small(peak):
                spot.peak = replace(peak, prominence=spot.peak.prominence, resolved=True)
            elif not good and over >= _WITHOUT_FIT:
                # The position of an edge between two points is known to their distance.
                known = (step / math.sqrt(12)).tolist()
                error = tuple(known) if len(known) > 1 else float(known[0])
                spot.peak = replace(spot.peak, center_error=error, fwhm_error=error, resolved=True)
            elif over >= _FINEST:
                spot.peak = replace(spot.peak, note="its errors do not become smaller")

    def _small(self, peak: Peak) -> bool:
        fwhm = np.array(peak.fwhms)
        return bool(
            (np.atleast_1d(peak.center_error) <= self.settings.center_error * fwhm).all()
            and (np.atleast_1d(peak.fwhm_error) <= self.settings.fwhm_error * fwhm).all()
        )

    def _fit(self, spot: _Spot) -> tuple[Peak, bool] | None:
        """The fitted peak, and whether the fit is good; None where there can be no fit."""
        beside = [
            other
            for other in self.spots
            if other is not spot and _near(other.peak, spot.peak, 2 * _REACH)
        ]
        windows = [self._window(each) for each in (spot, *beside)]
        low = np.min([window[0] for window in windows], axis=0)
        high = np.max([window[1] for window in windows], axis=0)
        inside = ((self.points >= low) & (self.points <= high)).all(axis=1)
        points, values = self.points[inside], self.values[inside]
        starting = [spot.peak, *(other.peak for other in beside)]
        try:
            if len(self.span) == 1:
                fit = fit_peaks(points[:, 0], values, peaks=starting)
            else:
                fit = fit_peaks_nd(
                    points, values, peaks=starting, shape="pseudo-voigt", background="linear"
                )
        except ValueError:
            return None
        degrees = fit.degrees_of_freedom
        good = degrees > 0 and fit.chi_squared < 1 + 4 * math.sqrt(2 / degrees)
        return fit.peaks[0], good and _same(fit.peaks[0], spot.peak)

    # -- what comes next

    def _window(self, spot: _Spot) -> tuple[Floats, Floats]:
        center = np.array(spot.peak.centers)
        reach = np.maximum(_REACH * np.array(spot.peak.fwhms), self._steps(spot.passes))
        return center - reach, center + reach

    def _next(self) -> Floats:
        """The points of the next pass: all windows, each point once, in the order of travel."""
        while windows := self._windows():
            points = self._unmeasured(windows)
            # A factor near 1, or the floor, may leave a level without a point of its own.
            if len(points):
                return self._travel(points)
        return np.empty((0, len(self.span)))

    def _windows(self) -> dict[int, list[tuple[Floats, Floats]]]:
        """The windows around the peaks that are not resolved, by the level of the next pass."""
        windows: dict[int, list[tuple[Floats, Floats]]] = {}
        for spot in self.spots:
            if not spot.open:
                continue
            if (self._steps(spot.passes + 1) >= self._steps(spot.passes)).all():
                floors = " x ".join(f"{floor:g}" for floor in self.floor)
                spot.peak = replace(spot.peak, note=f"step_floor={floors} reached")
                continue
            window = self._window(spot)
            spot.passes += 1
            windows.setdefault(spot.passes, []).append(window)
        return windows

    def _unmeasured(self, windows: dict[int, list[tuple[Floats, Floats]]]) -> Floats:
        """The points of some windows that are not measured yet."""
        taken = self.taken
        new: list[Floats] = []
        for level in sorted(windows):
            near = np.maximum(0.3 * self._steps(level), (1 - 1e-9) * self.floor)
            for low, high in windows[level]:
                cut = [
                    line[(line >= a) & (line <= b)].tolist()
                    for line, a, b in zip(self._lattice(level), low, high, strict=True)
                ]
                if not all(cut):
                    continue
                points = snaked(cut)
                points = points[_away(points, taken, near)]
                new.append(points)
                taken = np.concatenate([taken, points])
        return np.concatenate([np.empty((0, len(self.span))), *new])

    def _travel(self, points: Floats) -> Floats:
        """The points row by row, from start to stop, every second row turned round."""
        ahead = points * np.sign(self.span)
        order = np.lexsort(ahead.T[::-1])
        if ahead.shape[1] == 1:
            return points[order]
        rows = np.cumsum(np.r_[False, np.any(np.diff(ahead[order, :-1], axis=0) != 0, axis=1)])
        along = np.where(rows % 2 == 1, -ahead[order, -1], ahead[order, -1])
        return points[order][np.lexsort((along, rows))]

    def _outcome(self) -> Outcome:
        why = [self.stopped] if self.stopped else []
        for spot in self.spots:
            if spot.open:
                spot.peak = replace(spot.peak, note=self.stopped or "not resolved")
        peaks = sorted((spot.peak for spot in self.spots), key=lambda peak: -peak.prominence)
        left = [peak for peak in peaks if not peak.resolved]
        if not peaks:
            why.append(self.why or "no peak")
        elif left:
            notes = "; ".join(f"at {_words(peak)}: {peak.note}" for peak in left[:3])
            why.append(f"{len(left)} of {len(peaks)} peaks not resolved: {notes}")
        return Outcome(tuple(peaks), "; ".join(why))


def _intervals(length: float, narrowest: float, floor: float) -> int:
    """How many steps of at most half of the narrowest FWHM there are, none below the floor."""
    count = math.ceil(2 * length / narrowest - 1e-9)
    if floor > 0:
        count = min(count, math.floor(length / floor + 1e-9))
    return max(count, 1)


def _near(one: Peak, other: Peak, reach: float, of: Callable[[float, float], float] = max) -> bool:
    """Whether two peaks are less than so many FWHMs apart, on all axes, by default the wider's."""
    return all(
        abs(a - b) < reach * of(u, v)
        for a, b, u, v in zip(one.centers, other.centers, one.fwhms, other.fwhms, strict=True)
    )


def _same(one: Peak, other: Peak, of: Callable[[float, float], float] = max) -> bool:
    """Whether two estimates are of one peak."""
    return _near(one, other, 0.5, of)


def _away(points: Floats, taken: Floats, near: Floats) -> npt.NDArray[np.bool_]:
    """Which points have not been measured yet; those nearer than `near` on all axes have."""
    close = np.ones((len(points), len(taken)), dtype=bool)
    for k, least in enumerate(near):
        close &= np.abs(points[:, k, None] - taken[:, k]) < least
    return np.logical_not(close.any(axis=1))


def _words(peak: Peak) -> str:
    return "(" + ", ".join(f"{center:.5g}" for center in peak.centers) + ")"
