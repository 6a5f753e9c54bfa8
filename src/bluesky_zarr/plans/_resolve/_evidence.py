"""What the readings along one axis speak for: peaks, candidates, and what was refuted."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from bluesky_zarr.peaks._noise import extent

from ._detect import Bump, bumps, locate, matches, prominences
from ._explain import Explanation, Floats, Group
from ._improve import improve, reshape
from ._spot import Spot

__all__ = ["LEAST", "Check", "Evidence"]

#: Readings on a peak, within its FWHM on both sides, that a fit needs.
LEAST = 5
#: How many standard deviations a candidate has to stand out by to be worth a check. There are more
#: candidates among more points, and each check costs some.
_WORTH, _WORTH_OF_MANY, _MANY = 2.5, 2.8, 60
#: The same where all points have been doubled to find anything at all.
_WORTH_OF_FEW = 2.2
#: How much more each check has to yield.
_MORE = 0.5
#: How much more is asked of a candidate that was not checked, and of a prominence, which is the
#: largest of the noise on both sides.
_UNCHECKED, _PROMINENT = 1.0, 0.5
#: How many standard deviations a weak peak has to be above both sides in the end.
_PLAIN = 1.5
#: The score test compares all with all: above this many readings it takes too long.
_MOST_MATCHED = 150


@dataclass(eq=False)
class Check:
    """A candidate that is being checked, and how often it was."""

    bump: Bump
    tries: int


@dataclass(frozen=True)
class _Refuted:
    center: float
    fwhm: float
    significance: float


class Evidence:
    """The peaks that are believed, and the candidates that are worth a check."""

    def __init__(self, narrowest: float, low: float, high: float, significance: float) -> None:
        self.narrowest = narrowest
        self.low, self.high = low, high
        self.span = high - low
        self.significance = significance
        self.known = Explanation(narrowest, self.span)
        self.spots: list[Spot] = []
        self.due: list[Check] = []
        self.doubled = False
        self._checks: list[Check] = []
        self._refuted: list[_Refuted] = []

    def read(self, x: Floats, y: Floats) -> None:
        """Fit all readings anew, and look for what else stands out."""
        known = self.known
        known.read(x, y)
        self.due = []
        if x.size < 3 or not extent(known.y):
            return
        # What is found among points enough for a fit is fitted at once, to see what is beside it.
        for _ in range(4):
            if not self.spots:
                self._see_clear()
            enough = x.size >= 3 * len(self.spots) + 4
            if enough and any(self._sampled(spot) for spot in self.spots):
                self._fit()
            elif not self.spots:
                known.fit([])
            else:
                # What else there is shows when these are fitted.
                break
            before = len(self.spots)
            self._see_clear()
            self._see_candidates()
            if not any(self._sampled(spot) for spot in self.spots[before:]):
                break

    def _fit(self) -> None:
        for spot in self.spots:
            if not spot.fitted and spot.rounds:
                self._relocate(spot)
            spot.ready = self._sampled(spot)
        self.known.fit(self.spots)
        improve(self.known, self.spots)
        self._judge()

    def reshape(self, spot: Spot) -> Spot | None:
        """Take the shape that describes a peak best, and return it in one that may be as good."""
        return reshape(self.known, self.spots, spot)

    def forget_checks(self) -> None:
        """All candidates may be checked again."""
        self._checks = []
        self.doubled = True

    def conclude(self) -> bool:
        """Drop what may as well be part of a step, and fit the others without it; whether any was.

        A clear maximum is given the benefit of the doubt, as long as the readings leave any.
        """
        known = self.known
        kept = [
            spot
            for spot in self.spots
            if not spot.fitted
            or spot.background
            or known.stands(known.group(spot), spot, None if spot.clear else _PLAIN)
        ]
        dropped = [spot for spot in self.spots if spot not in kept]
        if dropped:
            self.spots = kept
            for spot in dropped:
                self._refuted.append(_Refuted(spot.center, spot.fwhm, spot.significance))
                for other in known.group(spot).spots:
                    # It would only be split into the same two again.
                    other.whole = True
            self._fit()
        return bool(dropped)

    def strongest(self) -> Bump | None:
        """The most prominent of what is no peak."""
        known = self.known
        if known.x.size < 3:
            return None
        rest = known.y - known.peaks
        return next(prominences(known.x, rest, known.noise, known.peaks, 0.0), None)

    def _relocate(self, spot: Spot) -> None:
        reach = spot.uncertain + 0.5 * spot.fwhm
        low, high = spot.center - reach, spot.center + reach
        self._locate(spot, Bump(spot.center, spot.fwhm, spot.height, 0.0, low, high))

    def _locate(self, spot: Spot, bump: Bump) -> None:
        known = self.known
        spot.center, spot.uncertain, spot.fwhm, spot.height = locate(
            known.x, known.y - known.peaks, known.noise, bump, self.narrowest, 2.5 * known.step
        )

    def _sampled(self, spot: Spot) -> bool:
        """Whether there are readings enough on a peak for a fit."""
        if spot.fitted or spot.rounds:
            return True
        return self._count(spot.center, 1.1 * spot.fwhm) >= LEAST

    def _count(self, center: float, reach: float) -> int:
        """How many readings are nearer to a place than that."""
        x = self.known.x
        return int(x.searchsorted(center + reach) - x.searchsorted(center - reach, "right"))

    def _judge(self) -> None:
        """Drop what a fit has shown to be no peak."""
        kept = []
        for spot in self.spots:
            if spot.ready and not self._holds(spot):
                spot.doubts += 1
            # A clear maximum may be two peaks, which more points will tell.
            if spot.doubts > spot.clear:
                self._refute(spot)
                continue
            spot.background = spot.fitted and (
                spot.fwhm > max(0.5 * self.span, 3 * self.narrowest)
                or not self.low <= spot.center <= self.high
            )
            kept.append(spot)
        if len(kept) < len(self.spots):
            self.spots = kept
            self.known.fit(kept)

    def _refute(self, spot: Spot) -> None:
        known = self.known
        self._refuted.append(_Refuted(spot.center, spot.fwhm, spot.significance))
        near = np.flatnonzero(np.abs(known.x - spot.center) < 0.5 * self.narrowest)
        if near.size < 3:
            return
        top = near[np.argmax(known.y[near])]
        rest = known.y[near[near != top]]
        spread = np.sqrt(np.max(known.noise.variance(rest)) + known.noise.variance(known.y[top]))
        if known.y[top] - rest.max() > 5 * spread:
            known.ignore(int(top))

    def _holds(self, spot: Spot) -> bool:
        if spot.rounds:
            # What is real stands out more with each pass; what was noise shrinks.
            least = min(2 + 0.75 * (spot.rounds - 1), self.significance - 0.5)
            if not spot.height > least * spot.height_error:
                return False
            if spot.fwhm < 0.3 * self.narrowest:
                return False
            if spot.rounds > 1 and not spot.clear and spot.height < 0.4 * spot.first:
                return False
        return self.known.stands(self.known.group(spot), spot)

    def _see_clear(self) -> None:
        known = self.known
        clear = self.significance + _PROMINENT
        # Of a maximum and what is beside it one is off by half of that at least.
        if known.within(0.5 * clear):
            return
        rest = known.y - known.peaks
        for bump in prominences(known.x, rest, known.noise, known.peaks, clear):
            if self._free(bump):
                self._believe(bump, clear=True)

    def _see_candidates(self) -> None:
        known = self.known
        worth = _WORTH_OF_FEW if self.doubled else _WORTH
        if known.x.size >= _MANY and not self.doubled:
            worth = _WORTH_OF_MANY
        self.due = []
        for bump in self._candidates(known.y - known.peaks, worth):
            if not self._free(bump):
                continue
            before = [c for c in self._checks if c.bump.low <= bump.center <= c.bump.high]
            tries = max((check.tries for check in before), default=0)
            if bump.significance >= self.significance + (0 if tries else _UNCHECKED):
                self._believe(bump)
            elif bump.significance >= worth + _MORE * tries:
                self.due.append(Check(bump, tries))
        # What a check did not confirm is remembered: only more evidence makes it worth another.
        self._checks = self.due + [
            old
            for old in self._checks
            if not any(new.bump.low <= old.bump.center <= new.bump.high for new in self.due)
        ]

    def _candidates(self, rest: Floats, worth: float) -> list[Bump]:
        known = self.known
        if known.x.size > _MOST_MATCHED:
            return self._bumps(rest, worth)
        if known.straight:
            (group,) = known.groups
            return self._matches(group, worth)
        if (bent := known.bent) is not None and bent.model.x.size == known.x.size:
            # The background may look curved for a peak that is not known yet. Not so sure of
            # itself, it needs a check.
            free = bent.model.x.size - bent.model.size
            for bump in self._matches(bent, worth)[:1]:
                left = bent.solution.chi_squared - bump.significance**2
                if left < free + 4 * math.sqrt(2 * max(free, 1)):
                    return [replace(bump, significance=min(bump.significance, self.significance))]
        return self._bumps(rest, worth)

    def _matches(self, group: Group, worth: float) -> list[Bump]:
        return matches(
            group.model.x,
            group.rest,
            np.sqrt(group.solution.variance),
            group.model.degree,
            worth,
            self.narrowest,
            0.4 * self.span,
        )

    def _bumps(self, rest: Floats, worth: float) -> list[Bump]:
        known = self.known
        return bumps(
            known.x, rest, known.noise, known.peaks, worth, self.narrowest, 2.2 * known.step
        )

    def _free(self, bump: Bump) -> bool:
        """Whether nothing is known yet where something stands out."""
        for no in self._refuted:
            if abs(bump.center - no.center) < no.fwhm and bump.significance < 2 * no.significance:
                return False
        for spot in self.spots:
            apart = abs(bump.center - spot.center)
            if not spot.fitted and apart < max(spot.fwhm, 0.6 * self.known.step):
                return False
            if spot.fitted and apart < 1.3 * spot.fwhm:
                # A narrow peak may sit on a wide one; on one of its own kind it is its misfit.
                needle = spot.fwhm > 4 * self.narrowest and bump.fwhm < 0.4 * spot.fwhm
                if not needle:
                    return False
        return True

    def _believe(self, bump: Bump, *, clear: bool = False) -> None:
        spot = Spot(
            bump.center, bump.fwhm, bump.height, bump.significance, bump.height, clear=clear
        )
        if self._count(bump.center, 0.6 * bump.fwhm) < 4:
            self._locate(spot, bump)
        spot.prominence = max(spot.height, bump.height)
        spot.first = bump.height
        self.spots.append(spot)
