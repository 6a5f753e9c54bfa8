"""The search itself: a coarse grid, second looks, and points where they help the peaks most."""

from __future__ import annotations

import math
from collections.abc import Generator

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks import Peak

from .._strategy import Field, Found, Measure, Measured, Outcome, Search
from ._design import best_points, far_from, in_order
from ._explanation import Explanation
from ._grid import coarse, distinct, extent
from ._landscape import Candidate, Landscape
from ._quality import poor
from ._spot import Spot
from ._verdict import ENOUGH, Settings, fewest, judge, tolerance_of

__all__ = ["search_nd"]

Floats = npt.NDArray[np.float64]

#: Distance of neighbours on the coarse grid, in FWHMs of the narrowest peak, by number of axes. In
#: the middle between the points of a square a Gaussian still has 2 % of its height.
_SPACING = {2: 1.7, 3: 1.4}
#: The same for more axes: nearer, as the middle of a cell is farther from its corners.
_SPACING_MORE = 1.2
#: Significance that makes a candidate worth a second look, at first, later, and if it is wide: then
#: one point more tells little.
_LOOK, _LOOK_AGAIN, _LOOK_WIDE = 1.8, 3.0, 3.3
#: The same as long as there is no peak: then a weak one must not be missed.
_LOOK_KEENLY, _LOOK_KEENLY_AGAIN, _LOOK_KEENLY_WIDE = 1.2, 2.0, 2.6
#: What is nearer than this on all axes is the same place.
_NEAR = 0.2
#: So many rounds of second looks, each of which may cost this fraction of the coarse pass, and as
#: long as there is no peak; then all of them together may cost another fraction.
_ROUNDS, _ROUNDS_KEEN, _LOOKS, _LOOKS_KEEN = 4, 12, 0.08, 0.18
#: With this significance, two candidates at once are looked at whatever that costs.
_PROMISING = 3.3
#: Prominence on the grid, and height above the background, in standard deviations, of what is
#: taken for a peak at once.
_SUMMIT, _LIFT, _SUMMITS = 4.5, 4.0, 30
#: Points are planned for errors smaller than asked, as no plan comes true exactly.
_PLAN = 0.8
#: The names of tops.
_SHAPES = {"": "pseudo-voigt", "disc": "flat-top", "box": "box"}


def search_nd(settings: Settings, field: Field) -> Search:
    """Find peaks over several axes and resolve them.

    A coarse grid; one more point at each place that stands out of it, however little; and for each
    peak points where they lower the errors of its centre and widths most. Peaks are fitted as
    pseudo-Voigts that may be inclined, and as two where that does not describe them.

    Raises
    ------
    ValueError
        If the coarse grid alone takes more points than the field allows.
    """
    return (yield from _Search(settings, field).run())


class _Search:
    def __init__(self, settings: Settings, field: Field) -> None:
        self.settings = settings
        self.field = field
        self.unit = np.array([axis.narrowest for axis in field.axes])
        self.ends = np.array([[axis.low, axis.high] for axis in field.axes])
        self.bounds = self.ends / self.unit[:, None]
        self.floor = np.maximum([axis.step_floor for axis in field.axes] / self.unit, 1e-6)
        spacing = _SPACING.get(len(field.axes), _SPACING_MORE)
        self.grid = tuple(
            coarse(axis.start / w, axis.stop / w, spacing, floor)
            for axis, w, floor in zip(field.axes, self.unit, self.floor, strict=True)
        )
        step = np.array([abs(at[1] - at[0]) for at in self.grid])
        self.known = Explanation(self.bounds, step)
        # All positions asked for, also those where the signal was NaN.
        self.taken = np.empty((0, len(field.axes)))
        self.passes = self.rounds = self.looked = 0
        self.stopped = ""

    # -- measuring

    def run(self) -> Search:
        size = math.prod(len(at) for at in self.grid)
        if size > self.field.max_points:
            raise ValueError(
                f"The coarse pass takes {size} points, more than max_points="
                f"{self.field.max_points}: allow more points, or give a larger narrowest."
            )
        grid = tuple((at * w).tolist() for at, w in zip(self.grid, self.unit, strict=True))
        yield from self._measure(Measure(grid=grid, label="coarse"))
        values = self.known.values
        if not len(values):
            return Outcome((), "no peak: the signal has no reading")
        if values.min() == values.max():
            return Outcome((), f"no peak: the signal is {values[0]:g} everywhere")
        self.coarse = len(values)
        self.land = Landscape(self.grid, self.bounds, self._gridded())
        self.known.noise = self.land.noise
        while True:
            self._begin(self._doubt())
            self._explain()
            candidates = self._candidates(self._worthwhile)
            if self._believe(candidates):
                self._explain()
            yield from self._ask()
            points = []
            for spot in self._open():
                points.append(self._plan(spot))
                spot.spent += len(points[-1])
            label = "zoom" if any(map(len, points)) else "check"
            points += self._looks(candidates)
            self.rounds += 1
            points.append(self.known.doubts.repetitions(self.known.points))
            wanted = self._allowed(points)
            if not len(wanted):
                if self.known.doubts.waiting:
                    self._begin(self._doubt())
                    self._explain()
                    yield from self._ask()
                return self._outcome()
            peaks = tuple(self._peak(spot) for spot in self._open())
            yield from self._measure(Measure(wanted, label=label, peaks=peaks))

    def _measure(self, measure: Measure) -> Generator[Measure, Measured, None]:
        measured = yield measure
        self.passes += 1
        self.taken = np.concatenate([self.taken, measure.points / self.unit])
        self.known.points = np.asarray(measured.points, dtype=np.float64) / self.unit
        self.known.values = np.asarray(measured.values, dtype=np.float64)
        self.known.doubts.grow(len(self.known.values))

    def _allowed(self, points: list[Floats]) -> Floats:
        """The points of the next pass, in the order of travel: none twice, none too many."""
        empty = np.empty((0, len(self.unit)))
        wanted = distinct(np.concatenate([empty, *points]), self.floor)
        room = self.field.max_points - len(self.taken)
        if not len(wanted):
            return empty
        if self.passes >= self.field.max_passes:
            self.stopped = f"max_passes={self.field.max_passes} reached"
            return empty
        if len(wanted) > room:
            self.stopped = f"max_points={self.field.max_points} reached"
            wanted = wanted[:room]
        ordered = in_order(wanted, self.taken[-1], np.ptp(self.bounds, axis=1)) * self.unit
        # A position at the end of an axis may have been rounded past it.
        return np.clip(ordered, self.ends[:, 0], self.ends[:, 1])

    def _gridded(self) -> Floats:
        """The coarse grid, NaN where there is no reading, or none that is believed."""
        values = np.full(tuple(len(at) for at in self.grid), np.nan)
        believed = self.known.used[: self.coarse]
        values[self._nearest(self.known.points[: self.coarse][believed])] = self.known.values[
            : self.coarse
        ][believed]
        return values

    def _nearest(self, points: Floats) -> tuple[npt.NDArray[np.intp], ...]:
        """The index of the nearest point of the grid, for each axis."""
        return tuple(
            np.abs(points[:, k, None] - at).argmin(axis=1) for k, at in enumerate(self.grid)
        )

    # -- finding

    def _doubt(self) -> npt.NDArray[np.bool_]:
        """Doubt what sticks out alone until it is repeated; what is believed now, on the grid."""
        known, land = self.known, self.land
        before = land.known if self.passes > 1 else np.zeros_like(land.known)
        under = land.under(known.model(land.points, known.live))[self._nearest(known.points)]
        known.doubts.settle(known.points, known.values, under, known.noise)
        on_peaks = np.zeros(len(known.points), dtype=bool)
        for spot in known.live:
            on_peaks |= known.on(spot)
        expected = under + known.model(known.points, known.live)
        lift = land.scaled(known.values) - land.scaled(expected)
        reach = 1.2 * known.step
        known.doubts.doubt_lone(known.points, lift, reach, ~on_peaks)
        land.values = self._gridded()
        land.known = np.isfinite(land.values)
        return land.known & ~before

    def _begin(self, new: npt.NDArray[np.bool_]) -> None:
        """Begin with what stands out of the grid by itself, of what is new there."""
        if not new.any():
            return
        land = self.land
        under = land.under(np.zeros(land.values.size))
        rest = land.values - under
        lift = land.scaled(land.values) - land.scaled(under)
        for at in land.summits(_SUMMIT, (lift >= _LIFT) & new)[:_SUMMITS]:
            fwhm = np.maximum(extent(rest, at) * self.known.step, 1.0)
            height = float(rest.ravel()[at])
            self.known.spots.append(Spot(land.points[at].copy(), fwhm, height))

    def _candidates(self, least: float) -> list[Candidate]:
        known = self.known
        peaks = known.model(self.land.points, known.live)
        believed = known.used
        believed[: self.coarse] = False
        beside = known.points[believed]
        return self.land.candidates(
            self.land.under(peaks),
            peaks.reshape(self.land.values.shape),
            beside,
            known.values[believed],
            known.model(beside, known.live),
            least,
            max(4, math.ceil(_LOOKS * self.coarse)),
        )

    @property
    def _worthwhile(self) -> float:
        """The significance that a candidate needs for another look."""
        if self._keen:
            return _LOOK_KEENLY_AGAIN if self.rounds else _LOOK_KEENLY
        return _LOOK_AGAIN if self.rounds else _LOOK

    @property
    def _keen(self) -> bool:
        """Whether there is no peak yet, nor anything that will be one if it is confirmed."""
        return not self.known.live and not self.known.doubts.waiting

    @property
    def _least(self) -> float:
        """The significance that a candidate needs: there are many places for noise to make one."""
        return self.settings.significance + 0.5

    def _believe(self, candidates: list[Candidate]) -> bool:
        """Take the significant ones for peaks; whether there are any."""
        sure = [c for c in candidates if c.significance >= self._least and self._free(c)]
        for candidate in sure:
            fwhm = np.full(len(self.unit), max(candidate.fwhm, 1.0))
            self.known.spots.append(Spot(candidate.center.copy(), fwhm, candidate.height))
        return bool(sure)

    def _free(self, candidate: Candidate) -> bool:
        """Whether nobody has looked there yet, in vain or not, or is about to."""
        doubted = self.known.points[self.known.doubts.waiting]
        if (np.abs(doubted - candidate.center) < 1.2 * self.known.step).all(axis=1).any():
            return False
        return not any(
            (np.abs(candidate.center - place) < self._shadow(spot)).all()
            for spot in self.known.spots
            for place in ((spot.center, spot.origin) if spot.dropped else (spot.center,))
            # A needle on a hump is none of the hump, if that is known.
            if not (spot.located and spot.fwhm.min() > 4 * candidate.fwhm and not spot.dropped)
        )

    def _shadow(self, spot: Spot) -> Floats:
        """How far from a peak nothing else is looked for: the farther the less is known of it."""
        if spot.dropped:
            return np.minimum(np.maximum(spot.fwhm, 0.6), 1.5 * self.known.step)
        return (1.0 if spot.done else 2.0) * np.maximum(spot.fwhm, 1.0) + 0.5

    def _looks(self, candidates: list[Candidate]) -> list[Floats]:
        """One more point at each candidate that is not believed yet."""
        keen = self._keen
        if self.rounds >= (_ROUNDS_KEEN if keen else _ROUNDS):
            return []
        wide = _LOOK_KEENLY_WIDE if keen else _LOOK_WIDE
        wanted = [
            candidate
            for candidate in candidates
            if (candidate.fwhm <= 1 or candidate.significance >= wide) and self._free(candidate)
        ]
        if keen:
            wanted.sort(key=lambda candidate: -candidate.significance)
            promising = sum(candidate.significance >= _PROMISING for candidate in wanted)
            room = int(_LOOKS_KEEN * self.coarse) - self.looked
            wanted = wanted[: max(room, min(promising, 2), 0)]
        if not wanted:
            return []
        self.looked += len(wanted)
        centers = np.array([candidate.center for candidate in wanted])
        new = far_from(centers, self.taken, np.maximum(self.floor, _NEAR)).tolist()
        return [
            (candidate.center if alone else self._beside(candidate))[None]
            for candidate, alone in zip(wanted, new, strict=True)
        ]

    def _beside(self, candidate: Candidate) -> Floats:
        """A place beside one where it has been measured already."""
        center = candidate.center
        reach = np.maximum(self.floor, _NEAR)
        near = self.taken[(np.abs(self.taken - center) < reach).all(axis=1)]
        low, high = self.bounds.T
        step = np.where(center - 0.6 < low, 1.0, candidate.toward)
        step = np.where(center + 0.6 > high, -1.0, step)
        for size in (0.25, 0.4, 0.15, 0.55):
            beside = np.clip(center + size * step, low, high)
            if far_from(beside[None], self.taken, np.maximum(self.floor, 0.1))[0]:
                return beside
        # The nearest once more: what was high by chance will not be so again.
        return near[int(((near - center) ** 2).sum(axis=1).argmin())]

    def _explain(self) -> None:
        self.known.refit()
        for spot in self.known.live:
            if not spot.done:
                judge(spot, self.known, self.settings)

    # -- approval and refinement

    def _open(self) -> list[Spot]:
        return [spot for spot in self.known.live if spot.approved and not spot.done]

    def _ask(self) -> Generator[Found, tuple[Peak, ...], None]:
        new = [spot for spot in self.known.live if not spot.asked]
        if not new:
            return
        peaks = tuple(self._peak(spot) for spot in new)
        answer = (yield Found(peaks)) or ()
        for spot, peak in zip(new, peaks, strict=True):
            spot.asked = True
            spot.approved = any(peak is one or peak == one for one in answer)
            if spot.approved:
                judge(spot, self.known, self.settings)
            else:
                spot.note = "not approved"

    def _plan(self, spot: Spot) -> Floats:
        """The next points on a peak."""
        if not spot.sought and not spot.located:
            spot.sought = True
            if len(cross := self._cross(spot)):
                return cross
        spot.sought = True
        core = self.known.core(spot)
        center, fwhm = tolerance_of(spot, self.settings)
        points = self._best(spot, (_PLAN * center, _PLAN * fwhm), max(8, min(core, ENOUGH)))
        least = fewest(spot) - core
        if poor(spot.fitted):
            least = max(least, 6, core // 2)
        if len(points) < least:
            # The errors are small enough, but whether the formula is right has to be seen too.
            points = self._best(spot, (1e-4, 1e-4), least)
        if not len(points):
            spot.done = True
            spot.note = "there is no room for more points"
            if any(axis.step_floor for axis in self.field.axes):
                floors = " x ".join(f"{axis.step_floor:g}" for axis in self.field.axes)
                spot.note += f" (step_floor={floors} reached)"
        return points

    def _best(self, spot: Spot, tolerance: tuple[float, float], most: int) -> Floats:
        return best_points(
            spot.fitted,
            self.known.noise,
            spot.index,
            tolerance,
            most=most,
            bounds=self.bounds,
            taken=self.taken,
            floor=self.floor,
        )

    def _cross(self, spot: Spot) -> Floats:
        """The centre and two points on each axis: where the peak is must be known roughly first."""
        error = spot.errors[0]
        arm = np.clip(np.maximum(0.45 * spot.fwhm, error), 0.4, np.maximum(0.8, 0.5 * spot.fwhm))
        steps = np.concatenate([np.zeros((1, len(arm))), np.diag(arm), -np.diag(arm)])
        points = np.clip(spot.center + steps, self.bounds[:, 0], self.bounds[:, 1])
        return points[far_from(points, self.taken, np.maximum(self.floor, 0.15))]

    # -- the end

    def _peak(self, spot: Spot) -> Peak:
        """A peak as the outside sees it."""
        fit = spot.fitted
        height, height_error = fit.height(spot.index)
        center_error, fwhm_error = (spot.inflation * error * self.unit for error in spot.errors)
        surface = fit.surface
        return Peak(
            center=_tuple(spot.center * self.unit),
            fwhm=_tuple(spot.fwhm * self.unit),
            height=height,
            center_error=_tuple(center_error),
            fwhm_error=_tuple(fwhm_error),
            height_error=spot.inflation * height_error,
            prominence=height,
            background=fit.level(spot.center),
            shape=_SHAPES[surface.flat] if surface.mixed else "gaussian",
            mixing=float(fit.params[surface.at(spot.index)][-1]) if surface.mixed else math.nan,
            chi_squared=fit.chi_squared / fit.freedom if fit.freedom > 0 else math.nan,
            resolved=spot.done and not spot.note,
            note=spot.note,
        )

    def _outcome(self) -> Outcome:
        for spot in self._open():
            height, error = spot.fitted.height(spot.index)
            if not self.stopped and height < 3 * spot.inflation * error:
                spot.dropped = f"its height of {height:.4g} has an error of {error:.2g}"
            spot.note = self.stopped or "not resolved"
        live = sorted(self.known.live, key=lambda spot: -spot.height)
        left = [spot for spot in live if not spot.done or spot.note]
        why = [self.stopped] if self.stopped else []
        if not live:
            why.append(self._nothing())
        elif left:
            notes = "; ".join(f"at {self._at(spot.center)}: {spot.note}" for spot in left[:3])
            why.append(f"{len(left)} of {len(live)} peaks not resolved: {notes}")
        doubts = self.known.doubts
        if doubts.refuted:
            places = map(self._at, self.known.points[doubts.refuted])
            why.append(doubts.words(self.known.values, list(places)))
        return Outcome(tuple(map(self._peak, live)), "; ".join(why))

    def _nothing(self) -> str:
        """Why there is no peak."""
        if self.known.spots:
            spot = max(self.known.spots, key=lambda spot: spot.height)
            return f"no peak: the strongest candidate, at {self._at(spot.center)}: {spot.dropped}"
        strongest = self._candidates(0.0)[:1]
        if not strongest:
            return "no peak: nothing stands out of the background"
        return (
            f"no peak: the strongest candidate, at {self._at(strongest[0].center)}, stands out by "
            f"{strongest[0].significance:.1f} standard deviations, less than the "
            f"{self._least:g} asked for"
        )

    def _at(self, center: Floats) -> str:
        return "(" + ", ".join(f"{c:.5g}" for c in center * self.unit) + ")"


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
