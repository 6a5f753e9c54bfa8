"""Other explanations where a fit does not describe the readings: another shape, or two peaks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np

from bluesky_zarr.peaks._models import FLAT_TOP, SHAPES
from bluesky_zarr.peaks._noise import total

from ._explain import Explanation, Group
from ._spot import Spot

__all__ = ["improve", "reshape"]

#: Standard deviations by which the chi-squared of a peak is too large: for another shape to be
#: tried, and for two peaks.
_SUSPICIOUS, _WRONG = 2.0, 3.0
#: By how much the criterion has to be better: for another shape, and for two peaks.
_SHAPE, _PAIR = 5.0, 12.0
#: How near the criterion of a shape has to be for it to be a rival, and how far is too far.
_RIVAL, _FAR = 4.0, 30.0
#: Two peaks have so many parameters: fewer readings do not tell them from one.
_PARAMETERS = 6
#: A fit that is compared with another one need not be exact: what is taken is fitted once more.
_ROUGHLY = 0.025
#: A fit of two peaks gets there in so many steps, or hardly at all.
_ROUNDS = 12
#: What is narrower than a wide peak by this, and as near to its centre, may be that with tails.
_TAILS = 0.6
#: How far from a peak, in FWHMs, readings are fitted if those further away do not lie on a line
#: with it; and how many readings are enough to judge that.
_REACHES, _JUDGED = (2.5, 1.7), 9
#: A fit of all peaks that after a step promises a chi-squared so many times too large is given up.
_HOPELESS = 10.0
#: The FWHM that describes the same readings, in units of that of a Gaussian, roughly.
_ALIKE = {"gaussian": 1.0, "lorentzian": 0.7, "pseudo-voigt": 0.85, FLAT_TOP: 1.3}


def improve(known: Explanation, spots: list[Spot]) -> None:
    """Take another shape or a pair of peaks where they describe the readings much better.

    New peaks are added to `spots`.
    """
    _merge(known, spots)
    _absorb(known, spots)
    for spot in list(spots):
        if not spot.ready or spot.fwhm > 0.5 * known.span:
            continue
        if _surprise(known.group(spot), spot) > _SUSPICIOUS:
            reshape(known, spots, spot)
        # A flat top and two peaks look alike until there are points in the middle.
        wrong = spot.shape == FLAT_TOP or _surprise(known.group(spot), spot) > _WRONG
        if wrong and not spot.whole:
            _split(known, spots, spot)
        if spot in spots:
            _narrow(known, spots, spot)
    if len(spots) > 1 and all(spot.fitted for spot in spots):
        _simplify(known, spots)


def _simplify(known: Explanation, spots: list[Spot]) -> None:
    """Take one shape for all peaks on one straight background, where this describes all readings.

    The long tails of neighbours together look like a hump, or like a background of its own under
    each of them, and then no peak alone is any better with tails.
    """
    peaks = sorted((spot for spot in spots if not spot.background), key=lambda spot: spot.center)
    straight = known.straight and len(peaks) == len(spots)
    if not peaks or (straight and all(_surprise(known.groups[0], spot) < _WRONG for spot in peaks)):
        return
    for shape in SHAPES:
        alike = [
            spot.like(shape=shape, fwhm=spot.fwhm * _ALIKE[shape] / _ALIKE[spot.shape])
            for spot in peaks
        ]
        every = known.x.size
        trial = known.fit_group(
            alike,
            slice(0, every),
            rounds=_ROUNDS,
            hopeless=_HOPELESS * (every + 2 * math.sqrt(2 * every)),
        )
        free = every - trial.model.size
        if free > 1 and trial.solution.chi_squared < free + 2 * math.sqrt(2 * free):
            for k, spot in enumerate(peaks):
                spot.shape = shape
                _take(spot, trial, k)
            spots[:] = peaks
            known.fit(spots, afresh=True)
            return


def reshape(known: Explanation, spots: list[Spot], spot: Spot) -> Spot | None:
    """Take the shape that describes a peak best, and return it in one that may be as good."""
    if spot.judged == known.x.size:
        return spot.rival
    group = known.group(spot)
    spot.judged, spot.compared, spot.rival = known.x.size, group.inside, None
    others = group.without(spot)
    single = known.alone(group, spot, others)
    tried = [(_criterion(single) - _SHAPE, spot.shape, single)]
    hopeless = single.solution.chi_squared + _FAR
    for name in SHAPES:
        if name == spot.shape:
            continue
        fwhm = spot.fwhm * _ALIKE[name] / _ALIKE[spot.shape]
        one = spot.like(shape=name, fwhm=fwhm)
        trial = known.fit_group(
            [one], group.inside, others, under=group, enough=_ROUGHLY, hopeless=hopeless
        )
        tried.append((_criterion(trial), name, trial))
        # What lies between two shapes is not tried where one fits and the other is far off.
        if abs(tried[1][0] - tried[0][0]) > _FAR and _surprise(group, spot) < 1:
            break
    tried.sort(key=lambda fit: fit[0])
    if _surprise(tried[0][2], spot) > _SUSPICIOUS and _lacks_tails(*tried[0][1:]):
        one = spot.like(shape=FLAT_TOP, fwhm=_ALIKE[FLAT_TOP] * spot.fwhm, fraction=0.5)
        trial = known.fit_group(
            [one], group.inside, others, under=group, enough=_ROUGHLY, hopeless=hopeless
        )
        # A flat top that describes the readings badly is no better than another shape.
        if not _badly(trial, spot, tried[0][2]):
            tried.append((_criterion(trial), one.shape, trial))
            tried.sort(key=lambda fit: fit[0])
    (best, shape, chosen), (second, name, rival) = tried[:2]
    if shape != spot.shape:
        spot.shape = shape
        _take(spot, chosen)
        # Another shape may need no other background.
        known.fit(spots, afresh=True, under=chosen)
    if second > best + _SHAPE + _RIVAL:
        return None
    spot.rival = spot.like(shape=name)
    _take(spot.rival, rival)
    return spot.rival


def _lacks_tails(shape: str, fitted: Group) -> bool:
    """Whether the best of the shapes with tails is the one with none, which may be too much."""
    fraction = fitted.model.fractions(fitted.solution.parameters)[0]
    return shape == "gaussian" or (shape == "pseudo-voigt" and fraction < 0.05)


def _narrow(known: Explanation, spots: list[Spot], spot: Spot) -> None:
    """Fit a peak to fewer readings around it where no shape on a straight line describes all.

    Beside it the background is bent, or there is an edge, which would bend its flanks.
    """
    group = known.group(spot)
    if not known.curved or len(group.spots) > 1 or known.described(group):
        return
    # Over all of its readings the shapes may have been compared just now.
    compared = spot.judged == known.x.size and spot.compared == group.inside
    for reach in _REACHES if compared else (math.inf, *_REACHES):
        if reach > spot.reach:
            continue
        near = group.near(spot, reach) if reach < math.inf else slice(0, group.model.x.size)
        if near.stop - near.start < _JUDGED:
            break
        inside = slice(group.inside.start + near.start, group.inside.start + near.stop)
        others = group.others[near] if isinstance(group.others, np.ndarray) else group.others
        for shape in SHAPES:
            fwhm = spot.fwhm * _ALIKE[shape] / _ALIKE[spot.shape]
            trial = known.fit_group([spot.like(shape=shape, fwhm=fwhm)], inside, others)
            if known.described(trial):
                spot.shape, spot.reach = shape, reach
                _take(spot, trial)
                known.fit(spots)
                return
    if spot.rounds > 1:
        spot.reach = _REACHES[-1]


def _take(spot: Spot, fitted: Group, k: int = 0) -> None:
    """Give a peak the parameters that a fit has for the peak of some number."""
    p, m = fitted.solution.parameters, fitted.model.count
    spot.center, spot.height = float(p[k]), float(p[2 * m + k])
    spot.fwhm = math.exp(p[m + k])
    spot.fraction = fitted.model.fractions(p)[k]
    spot.level = float(fitted.model.background(p, spot.center))


def _merge(known: Explanation, spots: list[Spot]) -> None:
    """Take pairs for one peak again whose better fit has turned out to be that of one."""
    for group in list(known.groups):
        for one, other in pairwise(sorted(group.spots, key=lambda spot: spot.center)):
            if not (one.fitted and other.fitted) or _distinct(group, one, other):
                continue
            low, high = sorted((one, other), key=lambda spot: spot.height)
            spots.remove(low)
            high.whole = True
            high.fwhm = abs(other.center - one.center) + 0.5 * (one.fwhm + other.fwhm)
            known.fit(spots)
            return


def _absorb(known: Explanation, spots: list[Spot]) -> None:
    """Drop a low wide peak under narrow ones whose tails describe the readings as well."""
    for group in list(known.groups):
        for wide in group.spots:
            inside = [
                spot
                for spot in group.spots
                if spot.fitted
                and spot.fwhm < _TAILS * wide.fwhm
                and abs(spot.center - wide.center) < _TAILS * wide.fwhm
                and spot.height > wide.height
            ]
            if not (inside and wide.fitted):
                continue
            alike = [
                spot.like(shape="pseudo-voigt", fraction=0.3) if spot in inside else spot
                for spot in group.spots
                if spot is not wide
            ]
            worst = _criterion(group) + _SHAPE
            trial = known.fit_group(
                alike,
                group.inside,
                group.others,
                under=group,
                rounds=_ROUNDS,
                hopeless=worst - math.log(group.model.x.size) * (group.model.size - 4),
            )
            if _criterion(trial) > worst:
                continue
            for k, (spot, fitted) in enumerate(
                zip((spot for spot in group.spots if spot is not wide), alike, strict=True)
            ):
                spot.shape = fitted.shape
                _take(spot, trial, k)
            spots.remove(wide)
            known.fit(spots, afresh=True)
            return


def _distinct(group: Group, one: Spot, other: Spot) -> bool:
    """Whether a curve has two maxima, or almost; what has one only is one peak."""
    apart = abs(other.center - one.center)
    if apart > 1.1 * 0.5 * (one.fwhm + other.fwhm) or 3 * one.fwhm < other.fwhm:
        return True
    if 3 * other.fwhm < one.fwhm:
        return True
    line = np.linspace(one.center, other.center, 21)
    curve = group.model.at(line).evaluate(group.solution.parameters)[0]
    return bool(curve.min() < 0.97 * min(curve[0], curve[-1]))


def _surprise(group: Group, spot: Spot) -> float:
    """Chi-squared around a peak, as standard deviations of a normal.

    E. B. Wilson and M. M. Hilferty, Proc. Natl. Acad. Sci. 17, 684 (1931).
    """
    near = group.near(spot, 2.0)
    degrees = near.stop - near.start - 3
    if degrees < 1:
        return 0.0
    part = 2 / (9 * degrees)
    chi_squared = total(group.squares[near])
    return ((chi_squared / degrees) ** (1 / 3) - (1 - part)) / math.sqrt(part)


def _badly(group: Group, spot: Spot, before: Group) -> bool:
    """Whether a fit describes the readings around a peak hardly better than one before."""
    if _surprise(group, spot) < 2 * _WRONG:
        return False
    return group.solution.chi_squared > 0.1 * before.solution.chi_squared


def _criterion(group: Group) -> float:
    return group.solution.chi_squared + math.log(group.model.x.size) * group.model.size


def _split(known: Explanation, spots: list[Spot], spot: Spot) -> None:
    group = known.group(spot)
    near = group.near(spot, 2.0)
    if near.stop - near.start < _PARAMETERS:
        return
    others = group.without(spot)
    single = known.alone(group, spot, others)
    beyond = group.rest[near] / np.sqrt(group.solution.variance[near])
    highest = near.start + int(beyond.argmax())
    flat = spot.shape == FLAT_TOP
    best, pair = _criterion(single) - (_SHAPE if flat else _PAIR), None
    for shape in SHAPES:
        whole = spot.like(shape=shape)
        left = whole.like(center=spot.center - 0.4 * spot.fwhm, fwhm=0.55 * spot.fwhm)
        right = left.like(center=spot.center + 0.4 * spot.fwhm)
        height = max(float(group.rest[highest]), 0.05 * spot.height)
        beside = whole.like(center=float(group.model.x[highest]), height=height)
        for two in ([left, right], [whole, beside]):
            hopeless = best - math.log(group.model.x.size) * (single.model.size + 3)
            trial = known.fit_group(
                two,
                group.inside,
                others,
                under=group,
                rounds=_ROUNDS,
                enough=_ROUGHLY,
                hopeless=hopeless,
            )
            criterion = _criterion(trial)
            if criterion < best and _two_peaks(known, trial, single, spot):
                best, pair = criterion, two
            if _surprise(trial, spot) < 1:
                # The other start would only lead there too.
                break
        # Where a pair describes the readings and is none, no other formula makes it one.
        if pair is not None or _surprise(trial, spot) < 1:
            break
    if pair is None:
        return
    pair.sort(key=lambda one: -one.height)
    # The stronger one goes on as the peak that it was.
    for name in ("center", "fwhm", "height", "shape", "fraction"):
        setattr(spot, name, getattr(pair[0], name))
    new = pair[1].like(rounds=0, asked=False, approved=False, fitted=False)
    new.prominence, new.uncertain, new.ready = new.height, 0.0, True
    spots.append(new)
    known.fit(spots)


def _two_peaks(known: Explanation, group: Group, single: Group, whole: Spot) -> bool:
    """Whether a fit of two is one of two peaks, not of one of another shape."""
    p = group.solution.parameters
    errors = np.sqrt(np.maximum(np.diagonal(group.solution.covariance), 0.0))
    centers, fwhms, heights = p[:2], np.exp(p[2:4]), p[4:6]
    if not (
        fwhms.min() > 0.6 * known.narrowest
        and fwhms.max() < 1.3 * whole.fwhm
        and np.abs(centers - whole.center).max() < 1.5 * whole.fwhm
        and heights.min() > 0.08 * heights.max()
        and np.all(heights > 4 * errors[4:6])
    ):
        return False
    for k, spot in enumerate(group.spots):
        spot.center, spot.fwhm, spot.height = centers[k], fwhms[k], heights[k]
    if not _distinct(group, *group.spots):
        return False
    # A pair that describes the readings no better than badly is another formula, not two peaks.
    if _badly(group, whole, single):
        return False
    return all(known.stands(group, spot) for spot in group.spots)
