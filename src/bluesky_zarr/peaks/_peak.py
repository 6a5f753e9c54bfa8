"""What a peak is: where, how wide, how high, and how well all of this is known."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Peak"]

#: One number for a peak along one axis, one number for each axis otherwise.
PerAxis = float | tuple[float, ...]


@dataclass(frozen=True, eq=False)
class Peak:
    """One peak of a signal along one axis, or over several.

    `center` and `fwhm` are in the units of the axis, one number each for a peak along one axis and
    a tuple in the order of the axes otherwise. `height` is above the background, in the units of
    the signal, as are `prominence` and `background` (its level below the centre). Errors are
    standard deviations, NaN where they are not known. `shape` names the curve that was fitted
    ("gaussian", "lorentzian", "pseudo-voigt", "flat-top", and over several axes "box", the product
    of a flat top along each), or is "" where the numbers come from the points alone; `mixing` is
    how much of a pseudo-Voigt is a Lorentzian, from 0 to 1, or the m of the flat top
    ``exp(-ln2 |2 t|^p)``, ``p = 2 / (1 - m)``, t being the distance in FWHM; `chi_squared` is that
    of the fit, per degree of freedom. `resolved` says that the errors are small enough for whoever
    asked; `note` says what a reader has to know, for example why it is not.

    >>> peak = Peak(center=7.112, fwhm=0.05, height=1000.0, center_error=0.0004)
    >>> peak.center, peak.fwhm_error
    (7.112, nan)
    >>> Peak(center=(1.0, 2.0), fwhm=(0.3, 0.4), height=10.0).centers
    (1.0, 2.0)
    """

    center: PerAxis
    fwhm: PerAxis
    height: float
    center_error: PerAxis = math.nan
    fwhm_error: PerAxis = math.nan
    height_error: float = math.nan
    prominence: float = math.nan
    background: float = math.nan
    shape: str = ""
    mixing: float = math.nan
    chi_squared: float = math.nan
    resolved: bool = False
    note: str = ""

    # What is not known of two peaks is the same of both: NaN would be unequal to itself.
    def __eq__(self, other: object) -> bool:
        return self._known() == other._known() if isinstance(other, Peak) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._known())

    def _known(self) -> tuple[object, ...]:
        return tuple(
            tuple(_or_none(part) for part in value) if isinstance(value, tuple) else _or_none(value)
            for value in vars(self).values()
        )

    @property
    def centers(self) -> tuple[float, ...]:
        """The centre on each axis, however many there are."""
        return _each(self.center)

    @property
    def fwhms(self) -> tuple[float, ...]:
        """The full width at half maximum along each axis, however many there are."""
        return _each(self.fwhm)


def _or_none(value: object) -> object:
    return None if isinstance(value, float) and math.isnan(value) else value


def _each(value: PerAxis) -> tuple[float, ...]:
    return value if isinstance(value, tuple) else (value,)
