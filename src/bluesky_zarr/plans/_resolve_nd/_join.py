"""What looks like several peaks may be one that is long, or flat."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._surface import SurfaceFit

from ._quality import poor
from ._spot import TOPS, Spot

if TYPE_CHECKING:
    from ._explanation import Explanation

__all__ = ["join_peaks"]

Floats = npt.NDArray[np.float64]

#: The precision of a Gaussian with a FWHM of 1.
_LN256 = 8 * math.log(2)
#: Peaks nearer than this to each other, in FWHMs, may be parts of one.
_BESIDE = 2.0
#: What chi-squared may rise by for each peak less.
_FEWER = 8.0


def join_peaks(
    known: Explanation, cluster: list[Spot], fit: SurfaceFit, points: Floats, values: Floats
) -> tuple[list[Spot], SurfaceFit] | None:
    """One peak instead of some that lie beside each other, if it describes the points as well.

    Returns
    -------
    tuple or None
        The spots that are left, the first of them in place of those that are gone, and the fit.
    """
    if len(cluster) < 2:
        return None
    groups = [_beside(cluster)]
    if len(cluster) > 2:
        groups += [list(pair) for pair in itertools.combinations(cluster, 2)]
    for group in groups:
        if len(group) < 2 or not all(_near(one, group) for one in group):
            continue
        first = _whole(group)
        others = [spot for spot in cluster if spot not in group]
        for flat in TOPS:
            spots = [replace(spot, flat=flat) for spot in (first, *others)]
            trial = known.fit(spots, points, values)
            allowed = fit.chi_squared + _FEWER * (len(group) - 1)
            if trial.chi_squared < allowed and not poor(trial):
                return [replace(first, flat=flat), *others], trial
    return None


def _near(one: Spot, group: list[Spot]) -> bool:
    return any(_distance(one, other) < _BESIDE for other in group if other is not one)


def _distance(one: Spot, other: Spot) -> float:
    """How far two peaks are apart, in units of the mean of their FWHMs in this direction."""
    between = other.center - one.center
    widths = [1 / math.sqrt(max(_q(spot, between), 1e-12)) for spot in (one, other)]
    return 2 / sum(widths)


def _q(spot: Spot, offset: Floats) -> float:
    u = offset / spot.fwhm
    return float(u @ spot.form @ u)


def _beside(cluster: list[Spot]) -> list[Spot]:
    """The highest peak and all that are joined with it by others."""
    left = sorted(cluster, key=lambda spot: -spot.height)
    group = [left.pop(0)]
    while more := [spot for spot in left if any(_distance(spot, one) < _BESIDE for one in group)]:
        group += more
        left = [spot for spot in left if spot not in more]
    return group


def _whole(group: list[Spot]) -> Spot:
    """The peak with the mean, and the extent in all directions, of several ones together."""
    shares = np.array([spot.height * spot.fwhm.prod() for spot in group]) + 1e-300
    shares /= shares.sum()
    center = shares @ np.array([spot.center for spot in group])
    spread = np.zeros((len(center), len(center)))
    for share, spot in zip(shares, group, strict=True):
        own = np.linalg.inv(_LN256 * spot.form / np.outer(spot.fwhm, spot.fwhm))
        away = spot.center - center
        spread += share * (own + np.outer(away, away))
    precision = np.linalg.inv(spread)
    cuts = np.sqrt(precision.diagonal())
    highest = max(group, key=lambda spot: spot.height)
    return Spot(
        center,
        math.sqrt(_LN256) / cuts,
        highest.height,
        form=precision / np.outer(cuts, cuts),
        asked=any(spot.asked for spot in group),
        approved=any(spot.approved for spot in group),
        sought=any(spot.sought for spot in group),
        spent=sum(spot.spent for spot in group),
        note=_note(group),
    )


def _note(group: list[Spot]) -> str:
    asked = any(spot.asked for spot in group)
    return "" if not asked or any(spot.approved for spot in group) else "not approved"
