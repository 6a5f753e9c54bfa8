"""Which axis of an image is which, and what the spectral and the polarization axis say."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest.cubes._errors import ImageError

if TYPE_CHECKING:
    from astropy.io.fits import Header

# FITS paper I (Greisen & Calabretta 2002), table 7, and AIPS memo 117 for the correlations.
_STOKES = {
    1: "I", 2: "Q", 3: "U", 4: "V", -1: "RR", -2: "LL", -3: "RL", -4: "LR",
    -5: "XX", -6: "YY", -7: "XY", -8: "YX",
}  # fmt: skip
_CODES = {name: code for code, name in _STOKES.items()}


@dataclass(frozen=True)
class Axes:
    """The numbers (from 1, as in FITS) of an image's axes; 0 where it has none."""

    ra: int
    dec: int
    freq: int
    stokes: int
    count: int


def card_value(header: Header, name: str, default: Any = None) -> Any:
    """What a card says, or the default where the header has no such card, or one without a
    value.
    """
    value = header.get(name, default)
    return value if isinstance(value, (str, int, float)) else default


def ctype(header: Header, axis: int) -> str:
    """What an axis is, without blanks and in upper case: "RA---SIN"."""
    return str(card_value(header, f"CTYPE{axis}", "")).strip().upper()


def find_axes(header: Header) -> Axes:
    """Find the axes of an image.

    Raises
    ------
    ImageError
        It has no RA and DEC, an axis that is none of RA, DEC, FREQ and STOKES, or more than one
        channel.
    """
    count = int(card_value(header, "NAXIS", 0))
    if not 2 <= count <= 4:
        raise ImageError(
            f"it has {count} axes; an image has RA and DEC, and FREQ and STOKES or not"
        )
    found: dict[str, int] = {}
    for axis in range(1, count + 1):
        kind = ctype(header, axis)
        name = next((n for n in ("RA", "DEC", "FREQ", "STOKES") if _is(kind, n)), "")
        if not name or name in found:
            raise ImageError(
                f"CTYPE{axis} is {kind!r}; each axis has to be another one of RA, DEC, FREQ and "
                "STOKES"
            )
        found[name] = axis
    if not {"RA", "DEC"} <= found.keys():
        raise ImageError(f"its axes are {', '.join(found)}; RA and DEC are needed")
    channels = int(card_value(header, f"NAXIS{found['FREQ']}", 1)) if "FREQ" in found else 1
    if channels != 1:
        raise ImageError(
            f"it has {channels} channels along FREQ", "split it into files of one channel each"
        )
    return Axes(found["RA"], found["DEC"], found.get("FREQ", 0), found.get("STOKES", 0), count)


def _is(kind: str, name: str) -> bool:
    return kind == name or kind.startswith(f"{name}-")


def positive(value: Any) -> float | None:
    """The number in a card, if it is one that is finite and above 0; else None.

    >>> positive("41e6"), positive(0.0), positive(None)
    (41000000.0, None, None)
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) and number > 0 else None


def spectral_value(header: Header) -> float | None:
    """The frequency on the spectral axis [Hz], whatever its unit; None where there is none.

    Raises
    ------
    ImageError
        The unit of the axis is not one of frequency.
    """
    for axis in range(1, int(card_value(header, "NAXIS", 0)) + 1):
        if _is(ctype(header, axis), "FREQ"):
            value = positive(card_value(header, f"CRVAL{axis}"))
            unit = str(card_value(header, f"CUNIT{axis}", "")).strip() or "Hz"
            return positive(None if value is None else value * _in_hertz(unit, axis))
    return None


def _in_hertz(unit: str, axis: int) -> float:
    if unit == "Hz":
        return 1.0
    from astropy import units

    try:
        factor: Any = units.Unit(unit).to("Hz")
        return float(factor)
    except (ValueError, units.UnitConversionError):
        raise ImageError(f"CUNIT{axis} is {unit!r}, which is no unit of frequency") from None


def polarizations(header: Header, axes: Axes, default: str) -> tuple[str, ...]:
    """The names of an image's polarizations, in order: ("I",), ("I", "V"), ("XX", "YY").

    Raises
    ------
    ImageError
        The polarization axis is empty, or has a value that stands for none.
    """
    if not axes.stokes:
        return (default,)
    n = axes.stokes
    first, step = _number(header, f"CRVAL{n}", 1.0), _number(header, f"CDELT{n}", 1.0)
    step = _number(header, f"CD{n}_{n}", step)
    reference = _number(header, f"CRPIX{n}", 1.0)
    length = int(card_value(header, f"NAXIS{n}", 1))
    if not length:
        raise ImageError(f"its axis {n} has no pixels", "move it out of the input directory")
    codes = [first + (i + 1 - reference) * step for i in range(length)]
    unknown = [code for code in codes if code not in _STOKES]
    if unknown:
        raise ImageError(
            f"the STOKES axis says {unknown[0]:g}, which is no polarization (1 to 4 for I, Q, U, V,"
            " -1 to -8 for correlations)"
        )
    return tuple(_STOKES[round(code)] for code in codes)


def stokes_code(name: str) -> int:
    """The number that stands for a polarization on the STOKES axis."""
    return _CODES[name]


def _number(header: Header, card: str, default: float) -> float:
    value = card_value(header, card)
    try:
        return default if value is None else float(value)
    except (TypeError, ValueError):
        raise ImageError(f"{card} is {value!r}, not a number") from None
