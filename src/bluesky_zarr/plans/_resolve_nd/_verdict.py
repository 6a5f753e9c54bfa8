"""Whether a spot is a peak, and whether enough is known of it."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from ._explanation import Explanation
from ._quality import poor
from ._spot import Spot

__all__ = ["ENOUGH", "Settings", "fewest", "judge", "tolerance_of"]

#: A fit is checked with so many points on a peak more than it has parameters; that of a flat top,
#: where those on its flanks alone tell anything, with more.
_CHECK, _CHECK_FLAT = 5, 20
#: With so many points on a peak, a fit is taken as it is.
ENOUGH = 40
#: More points spent on a peak than this do not help it.
_MOST = 200
#: Errors shall be smaller than asked by this factor: those of few points are not well known.
_SHARE = 0.45
#: As long as nobody has looked where a peak is, this part of the significance is enough.
_UNSURE = 0.6
#: A height of so many times the significance, in its error, is significant without calculation.
_PLAINLY = 2.0


class Settings(Protocol):
    """What is asked of a search; errors are fractions of the FWHM."""

    @property
    def center_error(self) -> float: ...
    @property
    def fwhm_error(self) -> float: ...
    @property
    def significance(self) -> float: ...


def judge(spot: Spot, known: Explanation, settings: Settings) -> None:
    """Drop what is no peak, and see whether one is known well enough."""
    spot.dropped = _objection(spot, known, settings)
    if spot.dropped or not spot.approved:
        return
    core = known.core(spot)
    if (
        core >= fewest(spot)
        and _precise(spot, settings)
        and (core >= ENOUGH or not poor(spot.fitted))
    ):
        spot.done = True
    elif spot.spent >= _MOST:
        spot.done = True
        spot.note = f"not resolved with {spot.spent} points"


def _objection(spot: Spot, known: Explanation, settings: Settings) -> str:
    """Why a spot is no peak; "" if it may be one."""
    center_error, fwhm_error = spot.errors
    outside = np.maximum(known.bounds[:, 0] - spot.center, spot.center - known.bounds[:, 1])
    measured = spot.sought or spot.located
    if (spot.fwhm > np.ptp(known.bounds, axis=1)).any():
        return "it is wider than the field"
    allowed = np.minimum(0.1 * spot.fwhm, 0.3) if measured else 0.45
    counted = known.core(spot) >= spot.fitted.surface.each
    doubtful = counted and (outside + spot.inflation * center_error > 0.4).any()
    if doubtful or (outside > allowed).any():
        return "its centre is not inside of the field"
    least = settings.significance if measured else _UNSURE * settings.significance
    height, height_error = spot.fitted.height(spot.index)
    # The error of the height alone, all else being free, is larger than what it is compared with.
    plain = height >= _PLAINLY * least * height_error
    if not plain and (sure := known.significance(spot)) < least:
        return (
            f"its significance is {sure:.1f} standard deviations, less than the "
            f"{settings.significance:g} asked for"
        )
    if not measured:
        return ""
    if (spot.fwhm + 2 * fwhm_error < 0.6).any() and not poor(spot.fitted):
        return "it is much narrower than the narrowest that was asked for"
    return ""


def fewest(spot: Spot) -> int:
    """How many points there have to be on a peak."""
    surface = spot.fitted.surface
    return surface.each + (_CHECK_FLAT if surface.flat else _CHECK)


def tolerance_of(spot: Spot, settings: Settings) -> tuple[float, float]:
    """The errors of a fit that are small enough, as fractions of the FWHM."""
    share = _SHARE / spot.inflation
    return share * settings.center_error, share * settings.fwhm_error


def _precise(spot: Spot, settings: Settings) -> bool:
    return all(
        bool((error <= part * spot.fwhm).all())
        for error, part in zip(spot.errors, tolerance_of(spot, settings), strict=True)
    )
