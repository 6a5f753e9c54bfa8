"""The search for peaks along one axis, pass by pass."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from bluesky_zarr.peaks import Peak
from bluesky_zarr.peaks._models import FLAT_TOP, MIXED
from bluesky_zarr.peaks._noise import extent
from bluesky_zarr.plans._strategy import Field, Found, Measure, Measured, Outcome, Search

from ._design import between, fill, informative
from ._evidence import LEAST, Evidence
from ._explain import Floats
from ._spot import Spot

if TYPE_CHECKING:
    from ._strategy import Resolve

__all__ = ["search_line"]

#: So many intervals are enough for a search that saw nothing.
_ENOUGH = 36
#: A peak that is not resolved after so many passes of its own will not be.
_MOST_ROUNDS = 12
#: So often points are taken to tell shapes apart, so many at a time, if the widths that they give
#: differ by more than this part of the error asked for.
_SETTLED, _DECIDING, _MATTERS = 5, 3, 0.6
#: With a chi-squared per degree of freedom above this, errors say little, however small.
_MISFIT = 5.0
#: A variance larger than what is asked for by this factor is none: the fit does not depend on it.
_UNKNOWN = 1e8
#: The most points for one peak in one pass.
_MOST_POINTS = 60


def search_line(settings: Resolve, field: Field) -> Search:
    """Find and resolve the peaks along the only axis of a field."""
    line = _Line(settings, field)
    yield from line.measure(line.coarse(), "coarse")
    while not line.stopped:
        if new := [spot for spot in line.found.spots if not (spot.asked or spot.background)]:
            yield from line.ask(new)
        points, label, spots = line.next()
        if not len(points):
            # Without what turned out to be none, another peak may need more points.
            if line.found.conclude():
                continue
            points, label, spots = line.denser()
        if not len(points):
            break
        yield from line.measure(points, label, spots)
    return line.outcome()


class _Line:
    """One search: what was measured, what is known, and what comes next."""

    def __init__(self, settings: Resolve, field: Field) -> None:
        self.settings = settings
        self.field = field
        self.axis = field.axes[0]
        self.low, self.high = self.axis.low, self.axis.high
        self.span = self.high - self.low
        self.narrowest = min(self.axis.narrowest, self.span)
        self.found = Evidence(self.narrowest, self.low, self.high, settings.significance)
        self.intervals = 0
        self.passes = self.asked = self.readings = 0
        self.stopped = ""

    def coarse(self) -> Floats:
        """Points over the whole range, so close that no strong peak fits between."""
        intervals = math.ceil(self.span / (self.settings.spacing * self.narrowest) - 1e-9)
        # Few points do not tell peaks from background; 6 and 12 intervals can be halved evenly.
        if intervals <= 12:
            intervals = 6 if intervals <= 6 else 12
        if self.axis.step_floor > 0:
            intervals = max(min(intervals, int(self.span / self.axis.step_floor)), 1)
        self.intervals = intervals
        return np.linspace(self.axis.start, self.axis.stop, intervals + 1)

    def measure(self, points: Floats, label: str, spots: Iterable[Spot] = ()) -> Search:
        """One pass, as long as the limits allow it, and what follows from it."""
        left = self.field.max_points - self.asked
        if self.passes >= self.field.max_passes:
            self.stopped = f"max_passes={self.field.max_passes} is reached"
            return Outcome(())
        if left < len(points):
            self.stopped = f"max_points={self.field.max_points} is reached"
            if left <= 0:
                return Outcome(())
            points = points[np.unique(np.linspace(0, len(points) - 1, left).round().astype(int))]
        peaks = tuple(self._peak(spot) for spot in spots)
        measured: Measured = yield Measure(points[:, None], label, peaks)
        self.passes += 1
        self.asked += len(points)
        if measured.values.size == self.readings and not self.stopped:
            self.stopped = f"the {label} pass gave no reading"
        self.readings = measured.values.size
        self.found.read(measured.points[:, 0], measured.values)
        return Outcome(())

    def ask(self, spots: list[Spot]) -> Search:
        """Ask which peaks to go on with."""
        peaks = tuple(self._peak(spot) for spot in spots)
        answer = yield Found(peaks)
        for peak, spot in zip(peaks, spots, strict=True):
            spot.asked = True
            spot.approved = any(peak is other or peak == other for other in answer)
        return Outcome(())

    def next(self) -> tuple[Floats, str, list[Spot]]:
        """The points of the next pass, what it is for, and for which peaks."""
        wanted: list[float] = []
        spots = []
        for spot in self.found.spots:
            if not spot.approved or spot.background or spot.rounds > _MOST_ROUNDS:
                continue
            more = self._points_for(spot)
            if not more and spot.fitted and spot.settled < _SETTLED:
                # Before a peak is done with: another shape may have another width.
                spot.settled += 1
                shape = spot.shape
                rival = self.found.reshape(spot)
                more = self._points_for(spot) if spot.shape != shape else []
                more = more or self._deciding(spot, rival)
            if more:
                spot.rounds += 1
                spots.append(spot)
                wanted += more
        label = "zoom" if wanted else "check"
        for check in self.found.due:
            check.tries += 1
            wanted += between(self.found.known.x, check.bump.low, check.bump.high)
        points = self._apart(wanted)
        return points, label, spots

    def _points_for(self, spot: Spot) -> list[float]:
        known = self.found.known
        gap = (0.25 if spot.doubts or spot.shape == FLAT_TOP else 0.5) * spot.fwhm
        # Of a peak on a bent background, what is beside it matters more.
        reach = (0.75 if math.isinf(spot.reach) else spot.reach - gap / spot.fwhm / 2) * spot.fwhm
        reach += 0.0 if spot.fitted else spot.uncertain
        low, high = max(spot.center - reach, self.low), min(spot.center + reach, self.high)
        points = fill(known.x, low, high, max(gap, self.axis.step_floor))
        if spot.fitted:
            return points + self._informative(spot, points)
        # Without a fit there is no peak: at least its flanks.
        return points or [spot.center + part * spot.fwhm for part in (-0.35, 0.0, 0.35)]

    def _informative(self, spot: Spot, planned: list[float]) -> list[float]:
        """Points for the errors asked for, besides those already planned."""
        group = self.found.known.group(spot)
        inside = group.near(spot, 1.2)
        near = inside.stop - inside.start
        # The errors that few readings give are not well known themselves.
        share = min(max(0.35 + 0.45 * (near - 20) / 45, 0.35), 1.0)
        if spot.fwhm < 0.9 * self.narrowest:
            share *= 0.85
        k, m = group.spots.index(spot), group.model.count
        targets = {
            k: share * self.settings.center_error * spot.fwhm / spot.scale,
            m + k: share * self.settings.fwhm_error / spot.scale,
        }
        covariance = group.solution.covariance
        if any(covariance[i, i] > _UNKNOWN * targets[i] ** 2 for i in targets):
            # No reading tells anything yet: those of a flat top are on its flanks.
            return [spot.center + part * spot.fwhm for part in (-0.55, -0.45, 0.45, 0.55)]
        points = []
        if any(covariance[i, i] > targets[i] ** 2 for i in targets):
            most = min(max(near, 4), _MOST_POINTS)
            low = max(spot.center - 1.6 * spot.fwhm, self.low)
            high = min(spot.center + 1.6 * spot.fwhm, self.high)
            candidates = self._places(low, high, max(4 * most, 30))
            every = np.concatenate((candidates, planned))
            peaks, curve, rows = group.model.at(every).evaluate(group.solution.parameters)
            variance = self.found.known.noise.variance(curve, peaks)
            points = informative(candidates, rows.T, variance, covariance, targets, most)
        least = LEAST - near - len(planned)
        if not points and least > 0:
            points = [spot.center + spot.fwhm * (0.3 - 0.6 * (i % 2)) for i in range(least)]
        return points

    def _deciding(self, spot: Spot, rival: Spot | None) -> list[float]:
        """Points that tell a peak's shape from the next best one, if its width depends on it."""
        if (
            rival is None
            or abs(math.log(rival.fwhm / spot.fwhm)) < _MATTERS * self.settings.fwhm_error
        ):
            spot.settled = _SETTLED
            return []
        group = self.found.known.group(spot)
        low = max(spot.center - 2 * spot.fwhm, self.low)
        high = min(spot.center + 2 * spot.fwhm, self.high)
        places = np.linspace(low, high, 41)
        peaks, curve, _ = group.model.at(places).evaluate(group.solution.parameters)
        variance = self.found.known.noise.variance(curve, peaks)
        differ = (
            spot.curve(places) - rival.curve(places) + spot.level - rival.level
        ) ** 2 / variance
        chosen = []
        told = 0.0
        for _ in range(_DECIDING):
            best = int(np.argmax(differ))
            chosen.append(float(places[best]))
            told += float(differ[best])
            differ[max(best - 2, 0) : best + 3] = 0.0
        # Of a weak peak the shape would take more points than the peak itself.
        return chosen if told > 2 else []

    def _places(self, low: float, high: float, count: int) -> Floats:
        """Where points may be taken, evenly; each several times if there are few such places."""
        places = np.linspace(low, high, count)
        floor = self.axis.step_floor
        if floor <= 0 or floor * (count - 1) <= high - low:
            return places
        taken = self.found.known.x
        places = np.unique(taken[(taken >= low) & (taken <= high)])
        for point in np.arange(low, high + floor / 2, floor):
            if not places.size or np.abs(places - point).min() >= floor:
                places = np.append(places, point)
        return np.repeat(places, math.ceil(count / max(places.size, 1)))

    def denser(self) -> tuple[Floats, str, list[Spot]]:
        """All intervals halved, if nothing was found with few."""
        nothing = np.empty(0), "", []
        if self.intervals >= _ENOUGH or any(not spot.background for spot in self.found.spots):
            return nothing
        if self.axis.step_floor > 0.5 * self.span / self.intervals:
            return nothing
        if not extent(self.found.known.y):
            return nothing
        self.intervals *= 2
        self.found.forget_checks()
        line = np.linspace(self.low, self.high, self.intervals + 1)[1::2]
        return self._apart(list(line)), "between", []

    def _apart(self, wanted: list[float]) -> Floats:
        """Points in the range, in the direction of travel, none too close to another."""
        taken = self.found.known.x
        floor = max(self.axis.step_floor, 1e-9 * self.span)
        kept: list[float] = []
        for point in sorted(point for point in wanted if self.low <= point <= self.high):
            at = int(taken.searchsorted(point))
            beside = [*taken[max(at - 1, 0) : at + 1].tolist(), *kept[-1:]]
            # What is asked for exactly where a point is already is meant to be measured again.
            if all(abs(point - other) >= floor or point == other for other in beside):
                kept.append(point)
        points = np.array(kept)
        return points if self.axis.start <= self.axis.stop else points[::-1]

    def _peak(self, spot: Spot, *, note: bool = False) -> Peak:
        unresolved = self._unresolved(spot)
        return Peak(
            center=spot.center,
            fwhm=spot.fwhm,
            height=spot.height,
            center_error=spot.center_error,
            fwhm_error=spot.fwhm_error,
            height_error=spot.height_error,
            prominence=spot.prominence,
            background=spot.level,
            shape=spot.shape if spot.fitted else "",
            mixing=spot.fraction if spot.shape in MIXED else math.nan,
            chi_squared=spot.misfit,
            resolved=not unresolved,
            note=unresolved if note else "",
        )

    def _unresolved(self, spot: Spot) -> str:
        """Why a peak is not resolved; "" if it is."""
        settings = self.settings
        if spot.fitted and (
            spot.center_error <= settings.center_error * spot.fwhm
            and spot.fwhm_error <= settings.fwhm_error * spot.fwhm
        ):
            # Of a signal whose noise is a guess, chi-squared says little too.
            if not (self.found.known.noise.counts and spot.scale**2 > _MISFIT):
                return ""
            return f"its curve does not describe the readings, chi-squared is {spot.misfit:.2g}"
        if spot.asked and not spot.approved:
            return "not approved"
        if self.stopped:
            return self.stopped
        if spot.rounds > _MOST_ROUNDS:
            return f"its errors stay large after {_MOST_ROUNDS} passes"
        if self.axis.step_floor > 0.5 * spot.fwhm:
            return f"step_floor={self.axis.step_floor:g} leaves no room for more points"
        return "its errors are not small enough"

    def outcome(self) -> Outcome:
        """The peaks, and why there are none, or why some are not resolved."""
        self.found.conclude()
        spots = [spot for spot in self.found.spots if not spot.background]
        found = [self._peak(spot, note=True) for spot in spots]
        peaks = tuple(sorted(found, key=lambda peak: -peak.prominence))
        if not peaks:
            return Outcome((), self._why_none())
        reasons: dict[str, list[str]] = {}
        for peak in peaks:
            if peak.note:
                reasons.setdefault(peak.note, []).append(f"{peak.centers[0]:.6g}")
        parts = [f"{', '.join(at)} ({reason})" for reason, at in reasons.items()]
        return Outcome(peaks, f"Not resolved: {'; '.join(parts)}." if parts else "")

    def _why_none(self) -> str:
        known = self.found.known
        stopped = f" The search is not complete: {self.stopped}." if self.stopped else ""
        if not known.x.size:
            return f"No peak: there is no reading.{stopped}"
        if not extent(known.y):
            return f"No peak: the signal is constant, {known.y[0]:g} at all {known.x.size} points."
        asked = f"significance={self.settings.significance:g} was asked"
        wide = [spot for spot in self.found.spots if spot.background]
        besides = "".join(
            f" What rises at {spot.center:.6g} with a FWHM of {spot.fwhm:.3g} is too wide for the "
            "range, or has its top outside: it counts as background."
            for spot in wide[:1]
        )
        bump = self.found.strongest()
        if bump is None:
            return f"No peak: no reading is above those on both sides; {asked}.{besides}{stopped}"
        return (
            f"No peak: the strongest candidate, at {bump.center:.6g}, has a prominence of "
            f"{bump.height:.4g}, {bump.significance:.2g} standard deviations; {asked}."
            f"{besides}{stopped}"
        )
