"""Units as text: one spelling of each, so that those of two files can be compared."""

from __future__ import annotations

import re
import warnings
from functools import cache
from typing import Any

import numpy as np

DIMENSIONLESS = "dimensionless"
_DIMENSIONLESS = {"1", "none", "unitless", "dimensionless", "relative"}


@cache
def spelled(text: str) -> str:
    """The unit that a header or a user names, in astropy's spelling; as it stands where astropy
    does not know it, and "" for none.

    Examples
    --------
    >>> spelled("angstrom"), spelled("10**(-16)erg.cm**(-2).s**(-1).angstrom**(-1)"), spelled(" ")
    ('Angstrom', '1e-16 erg / (Angstrom s cm2)', '')
    """
    text = " ".join(text.split())
    if text.lower() in _DIMENSIONLESS:
        return DIMENSIONLESS
    unit = parsed(text)
    return text if unit is None else unit.to_string() or DIMENSIONLESS


def spelled_wavelength(text: str) -> str:
    """As `spelled`, of a wavelength, for which `A` is no ampere."""
    return "Angstrom" if text.strip() == "A" else spelled(text)


@cache
def parsed(text: str) -> Any:
    """The astropy unit of a text, None where it is none."""
    from astropy import units

    if not text:
        return None
    if text == DIMENSIONLESS:
        return units.dimensionless_unscaled
    # Headers write what no standard has: "Angstroms", "erg/cm^2/s/Ang".
    angstrom = re.sub(r"(?i)\bang(stroms?)?\b", "Angstrom", text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", units.UnitsWarning)
        for attempt in (text, angstrom):
            for form in (None, "fits", "cds"):
                try:
                    return units.Unit(attempt, format=form)
                except (ValueError, TypeError):
                    continue
    return None


def is_length(unit: str) -> bool:
    """Whether a unit can be that of a wavelength: any that astropy does not know to be of something
    else, or of a logarithm.

    Examples
    --------
    >>> is_length("Angstrom"), is_length("s"), is_length("log(Angstrom)"), is_length("furlong")
    (True, False, False, True)
    """
    from astropy import units

    known = parsed(unit)
    if known is None:
        return not re.match(r"(?i)\s*(log|ln|dex)", unit)
    return known.is_equivalent(units.m)


def converted(values: np.ndarray, unit: str, wanted: str) -> np.ndarray | None:
    """Values in another unit, as astropy converts them; None where that is not possible."""
    if unit == wanted:
        return values
    source, target = parsed(unit), parsed(wanted)
    if source is None or target is None or not source.is_equivalent(target):
        return None
    return np.asarray(source.to(target, values), dtype=values.dtype)


def frequency_range(lowest: float, highest: float, unit: str) -> tuple[float, float] | None:
    """The frequencies [Hz] of a range of vacuum wavelengths; None for a unit that is none of a
    length.
    """
    from astropy import units

    source = parsed(unit)
    if source is None or not source.is_equivalent(units.m) or not 0 < lowest <= highest:
        return None
    ends = source.to(units.Hz, np.array([highest, lowest]), equivalencies=units.spectral())
    return float(ends[0]), float(ends[1])
