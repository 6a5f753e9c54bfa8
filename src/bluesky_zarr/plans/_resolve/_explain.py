"""The signal as a sum of peaks on a background, as far as it is known."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._fit import fit_shape
from bluesky_zarr.peaks._models import Model
from bluesky_zarr.peaks._noise import Noise, median, total
from bluesky_zarr.peaks._solve import ENOUGH, Solution

from ._spot import Spot

__all__ = ["Explanation", "Floats", "Group"]

Floats = npt.NDArray[np.float64]

#: More peaks than this are not fitted all at once: that takes time with the cube of their number.
_MOST_TOGETHER = 6
#: A peak narrower than this part of the range has no part in the slope of a common background.
_NARROW = 0.1
#: A fit that makes a peak wider than it looked by this factor has lost it.
_ASTRAY = 4.0


@dataclass(eq=False)
class Group:
    """Peaks that are fitted together, and the fit."""

    spots: list[Spot]
    inside: slice
    model: Model
    solution: Solution
    #: What the fit leaves of the readings, and the curve of other peaks that was taken as known.
    rest: Floats
    others: Floats | float = 0.0

    @cached_property
    def squares(self) -> Floats:
        """What each reading adds to chi-squared."""
        return self.rest * self.rest / self.solution.variance

    @cached_property
    def _places(self) -> list[float]:
        return self.model.x.tolist()

    def near(self, spot: Spot, reach: float = 1.5) -> slice:
        """Which readings of the fit are on a peak."""
        return self.between(spot.center - reach * spot.fwhm, spot.center + reach * spot.fwhm)

    def between(self, low: float, high: float) -> slice:
        """Which readings of the fit are between two positions."""
        return slice(bisect_left(self._places, low), bisect_right(self._places, high))

    def without(self, spot: Spot) -> Floats:
        """The curve of the other peaks, and of those that were taken as known."""
        known = self.others if isinstance(self.others, np.ndarray) else 0.0
        return self.solution.peaks - spot.curve(self.model.x) + known


@dataclass(eq=False)
class Explanation:
    """All readings along the axis, and the peaks that account for them.

    One fit of all peaks on one straight background, as long as the readings beside the peaks agree
    with that; otherwise one fit for each group of neighbours, on a straight line of its own.
    """

    narrowest: float
    span: float
    x: Floats = field(default_factory=lambda: np.empty(0))
    y: Floats = field(default_factory=lambda: np.empty(0))
    noise: Noise = field(default_factory=Noise)
    groups: list[Group] = field(default_factory=list)
    peaks: Floats = field(default_factory=lambda: np.empty(0))
    degree: int = 0
    curved: bool = False
    bent: Group | None = None
    step: float = 0.0
    ignored: set[tuple[float, float]] = field(default_factory=set)
    _count: int = -1
    _learned: int = 0

    def read(self, x: Floats, y: Floats) -> None:
        """Take the readings, in any order."""
        order = np.argsort(x, kind="stable")
        self.x, self.y = x[order], y[order]
        if self.ignored:
            kept = [pair not in self.ignored for pair in zip(self.x, self.y, strict=True)]
            self.x, self.y = self.x[kept], self.y[kept]
        if not self.step:
            self.step = median(np.diff(self.x)) if x.size > 1 else self.span
            self.noise = Noise.of(self.y)
            self._learned = self.x.size
        self.peaks = np.zeros(self.x.size)

    def ignore(self, at: int) -> None:
        """Leave out one reading from now on: nothing beside it agrees with it."""
        self.ignored.add((self.x[at], self.y[at]))
        self.read(self.x, self.y)

    def fit(self, spots: list[Spot], *, afresh: bool = False, under: Group | None = None) -> None:
        """Fit all peaks anew; `afresh` with nothing taken over of the background but where to
        start from, `under` others.
        """
        before = under or (self.groups[0] if self.straight else None)
        self.groups = []
        self.peaks = np.zeros(self.x.size)
        if afresh or len(spots) != self._count:
            # With other peaks the rest may be straight after all.
            self._count, self.degree = len(spots), 0
        # As it may with more readings.
        self.curved = False
        spots = sorted(spots, key=lambda spot: spot.center)
        if len(spots) > _MOST_TOGETHER:
            self.curved, self.degree = True, 1
        if not self.curved:
            every = slice(0, self.x.size)
            while self.degree < 2:
                group = self.bent = self.fit_group(spots, every, under=before)
                before = group
                if self._stays(group) and self._agrees(group):
                    group = self._sloping(spots, group)
                    self._settle([group])
                    self._sharpen(group)
                    return
                self.degree += 1
            self.degree = 1
            self.curved = True
        self._settle([self.fit_group(*part) for part in self._parts(spots)])
        if not self.noise.counts and self.x.size >= 2 * self._learned:
            # A few readings may have said by chance that there is hardly any noise.
            self._learned = self.x.size
            self.noise = Noise.between(self.x, self.y - self.peaks, self.y)
            self.fit(spots)

    def _sloping(self, spots: list[Spot], level: Group) -> Group:
        """A fit with a sloping background, if one with a level one is poor and this is better.

        A peak that covers most of the range leaves few readings beside it to tell.
        """
        free = level.model.x.size - level.model.size
        chi_squared = level.solution.chi_squared
        if self.degree or free < 2 or chi_squared < free + 3 * math.sqrt(2 * free):
            return level
        self.degree = 1
        sloping = self.fit_group(spots, level.inside, start=level, hopeless=chi_squared - 10)
        if sloping.solution.chi_squared < chi_squared - 10:
            return sloping
        self.degree = 0
        return level

    def _parts(self, spots: list[Spot]) -> list[tuple[list[Spot], slice, Floats]]:
        """Neighbours that overlap, the readings around them, and the other peaks there."""
        parts: list[list[Spot]] = []
        for spot in spots:
            last = parts[-1][-1] if parts else None
            if last and spot.center - last.center < 1.3 * (spot.fwhm + last.fwhm):
                parts[-1].append(spot)
            else:
                parts.append([spot])
        curves = [sum((spot.curve(self.x) for spot in part), np.zeros(1)) for part in parts]
        every = sum(curves, np.zeros(self.x.size))
        found = []
        for part, own in zip(parts, curves, strict=True):
            inside = self._around(part)
            found.append((part, inside, (every - own)[inside]))
        return found

    def _around(self, part: list[Spot]) -> slice:
        """The readings around some peaks, enough to tell the background."""
        reaches = [min(max(3 * spot.fwhm, 6 * self.step), spot.reach * spot.fwhm) for spot in part]
        ends = list(zip(part, reaches, strict=True))
        low = min(spot.center - reach for spot, reach in ends)
        high = max(spot.center + reach for spot, reach in ends)
        first, last = int(self.x.searchsorted(low)), int(self.x.searchsorted(high, "right"))
        short = 3 * len(part) + 4 - (last - first)
        if short > 0:
            first, last = max(first - short, 0), min(last + short, self.x.size)
        return slice(first, last)

    def fit_group(
        self,
        spots: list[Spot],
        inside: slice,
        others: Floats | float = 0.0,
        *,
        start: Group | None = None,
        under: Group | None = None,
        rounds: int = 30,
        enough: float = ENOUGH,
        hopeless: float = math.inf,
    ) -> Group:
        """Fit some peaks to some of the readings, the curve of other peaks being known.

        It starts from another fit of the same peaks, if given, or from the background `under`
        others. It ends after some `rounds`, where a step promises not `enough`, and where its
        chi-squared will stay above `hopeless`.
        """
        x, y = self.x[inside], self.y[inside] - others
        degree = self.degree if x.size >= 3 * len(spots) + 4 else 0
        model = Model(x, [spot.shape for spot in spots], degree)
        noise = self.noise.above(others) if isinstance(others, np.ndarray) else self.noise
        m = len(spots)
        if start is None:
            centers, heights = [spot.center for spot in spots], [spot.height for spot in spots]
            fwhms, fractions = [spot.fwhm for spot in spots], [spot.fraction for spot in spots]
        else:
            p = start.solution.parameters.tolist()
            centers, heights = p[:m], p[2 * m : 3 * m]
            fwhms = [math.exp(log) for log in p[m : 2 * m]]
            fractions = start.model.fractions(start.solution.parameters)
            under = start
        solution = fit_shape(
            model,
            y,
            noise,
            centers,
            fwhms,
            heights,
            fractions,
            fwhm_limits=(
                [(0.25 if spot.clear else 0.6) * self.narrowest for spot in spots],
                2 * self.span,
            ),
            expected_fwhm=(self.narrowest, 0.15),
            background=under and _background(under, model),
            rounds=rounds,
            enough=enough,
            hopeless=hopeless,
        )
        return Group(spots, inside, model, solution, y - solution.curve, others)

    def alone(self, group: Group, spot: Spot, others: Floats) -> Group:
        """The fit of one peak of a group, the curve of the others being known: where the fit of all
        has its least chi-squared, that of one has it too.
        """
        if len(group.spots) == 1:
            return group
        fitted, rest = group.solution, group.rest
        model, which = group.model.alone(group.spots.index(spot))
        p, rows = fitted.parameters[which], fitted.derivatives[which]
        peak = p[2] * rows[2]
        curve = fitted.curve - fitted.peaks + peak
        v = self.noise.above(others).variance(curve, peak)
        chi = float(rest.dot(rest / v))
        solution = Solution(p, peak, curve, rows, v, chi, fitted.converged)
        return Group([spot], group.inside, model, solution, rest, others)

    def _sharpen(self, group: Group) -> None:
        """Learn the noise from what the fit leaves, where nothing else tells it."""
        free = group.model.x.size - group.model.size
        if not self.noise.counts and free >= 15:
            self.noise = Noise.left(group.rest * math.sqrt(group.model.x.size / free), self.y)

    @property
    def straight(self) -> bool:
        """Whether one fit on a straight background describes all readings."""
        return len(self.groups) == 1 and not self.curved

    def described(self, group: Group) -> bool:
        """Whether a fit describes all of its readings, those beside its peaks too."""
        free = group.model.x.size - group.model.size
        return free < 1 or group.solution.chi_squared < free + 3 * math.sqrt(2 * free)

    def within(self, most: float) -> bool:
        """Whether no reading is off by more standard deviations, on a level background."""
        if not self.straight or self.degree:
            return False
        (group,) = self.groups
        squares = group.squares
        return squares.size == self.x.size and bool(np.maximum.reduce(squares) < most * most)

    def group(self, spot: Spot) -> Group:
        """The fit that a peak belongs to."""
        return next(group for group in self.groups if spot in group.spots)

    def _stays(self, group: Group) -> bool:
        """Whether the peaks of a fit are those that it began with.

        On the wrong background, a peak may describe that instead of itself: far away, or as wide as
        the range.
        """
        m = group.model.count
        numbers = group.solution.parameters.tolist()
        for spot, center, log_fwhm in zip(
            group.spots, numbers[:m], numbers[m : 2 * m], strict=True
        ):
            width = max(spot.fwhm, self.step)
            if abs(center - spot.center) > width or math.exp(log_fwhm) > _ASTRAY * width:
                return False
        return True

    def _agrees(self, group: Group) -> bool:
        """Whether the readings beside the peaks lie on the background of the fit."""
        m = group.model.count
        numbers = group.solution.parameters.tolist()
        beside = np.ones(self.x.size, dtype=bool)
        for center, log_fwhm in zip(numbers[:m], numbers[m : 2 * m], strict=True):
            reach = 1.5 * math.exp(log_fwhm)
            beside[group.between(center - reach, center + reach)] = False
        squares = group.squares[beside]
        count = squares.size
        if count < 4:
            return True
        if not total(squares) < count + 4 * math.sqrt(2 * count):
            return False
        if self.degree:
            return True
        rest = group.rest[beside] / np.sqrt(group.solution.variance[beside])
        x = self.x[beside]
        x -= total(x) / count
        return abs(float(rest.dot(x))) <= 3.5 * math.sqrt(float(x.dot(x)))

    def stands(self, group: Group, spot: Spot, least: float | None = None) -> bool:
        """Whether the readings on a peak lie above those on both sides of it.

        The fit of a step or of a curved background may need a peak where there is none. Readings
        that leave it open do not speak against it, unless `least` says by how many standard
        deviations they have to be above. A slope is taken away where the whole range bears it out.
        """
        x = group.model.x
        spread_of, where = group.solution.variance, spot.center
        rest = group.rest + spot.curve(x)
        if not (self.straight and spot.fwhm < _NARROW * self.span):
            rest += group.model.background(group.solution.parameters, x)
        top = group.near(spot, 0.4)
        if top.start == top.stop:
            return True
        height, variance = _mean(rest[top]), _mean(spread_of[top]) / (top.stop - top.start)
        for side, end in ((-spot.fwhm, float(x[0])), (spot.fwhm, float(x[-1]))):
            beside = group.between(*sorted((where + 0.75 * side, where + 2.0 * side)))
            if beside.start == beside.stop:
                if abs(end - where) > 0.75 * spot.fwhm:
                    continue
                beside = slice(0, top.start) if side < 0 else slice(top.stop, x.size)
                if beside.start == beside.stop:
                    # At the limit of the axis the fit alone can tell that the top is inside.
                    if abs(end - where) > 3 * spot.center_error:
                        continue
                    return False
            drop = height - _mean(rest[beside])
            spread = variance + _mean(spread_of[beside]) / (beside.stop - beside.start)
            if drop + 1.5 * math.sqrt(spread) <= 0.25 * spot.height:
                return False
            if least is not None and drop < least * math.sqrt(spread):
                return False
        return True

    def _settle(self, groups: list[Group]) -> None:
        self.groups = groups
        for group in groups:
            m = group.model.count
            if not m:
                continue
            solution = group.solution
            p = solution.parameters.tolist()
            errors = np.sqrt(np.maximum(solution.covariance.diagonal(), 0.0)).tolist()
            fractions = group.model.fractions(solution.parameters)
            if group.model.x.size == self.x.size:
                self.peaks += solution.peaks
            else:
                self.peaks += group.model.at(self.x).evaluate(solution.parameters)[0]
            for k, spot in enumerate(group.spots):
                if not spot.ready:
                    continue
                spot.center = p[k]
                spot.fwhm = math.exp(p[m + k])
                spot.height = p[2 * m + k]
                near = group.near(spot)
                degrees = near.stop - near.start - 3
                spot.misfit = total(group.squares[near]) / degrees if degrees > 0 else math.nan
                # What chance alone explains leaves the errors as they are.
                spot.scale = 1.0
                if degrees > 0 and spot.misfit > 1 + 2 * math.sqrt(2 / degrees):
                    spot.scale = math.sqrt(spot.misfit)
                scale = spot.scale
                spot.center_error = scale * errors[k]
                spot.fwhm_error = scale * spot.fwhm * errors[m + k]
                spot.height_error = scale * errors[2 * m + k]
                spot.fraction = fractions[k]
                spot.level = float(group.model.background(solution.parameters, p[k]))
                spot.fitted = True


def _background(under: Group, model: Model) -> list[float] | None:
    """The background of a fit for another model, if it covers the same range."""
    if (under.model.low, under.model.high) != (model.low, model.high):
        return None
    known = under.solution.parameters[under.model.background_at :].tolist()
    return (known + [0.0] * model.degree)[: model.degree + 1]


def _mean(values: Floats) -> float:
    return total(values) / values.size
