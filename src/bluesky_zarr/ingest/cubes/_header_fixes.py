"""What is put right in the header of an image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bluesky_zarr.ingest.cubes._axes import (
    Axes,
    card_value,
    ctype,
    find_axes,
    positive,
    spectral_value,
    stokes_code,
)
from bluesky_zarr.ingest.cubes._errors import ImageError
from bluesky_zarr.ingest.cubes._names import frequency_in, stokes_in

if TYPE_CHECKING:
    from astropy.io.fits import Header

_DEFAULTS = {
    "SPECSYS": "LSRK",
    "TIMESYS": "UTC",
    "RADESYS": "FK5",
    "LATPOLE": 90.0,
    "BUNIT": "Jy/beam",
}


def frequency_of(header: Header, name: str) -> float | None:
    """The frequency of an image [Hz]: of RESTFREQ, RESTFRQ, the FREQ axis, or the file's name.

    None where none of them says it.

    Raises
    ------
    ImageError
        The unit of the FREQ axis is not one of frequency.
    """
    return (
        positive(card_value(header, "RESTFREQ"))
        or positive(card_value(header, "RESTFRQ"))
        or spectral_value(header)
        or frequency_in(name)
    )


def check_beam(header: Header) -> tuple[float, float, float]:
    """The synthesized beam: FWHM of its major and minor axis and position angle [deg].

    Raises
    ------
    ImageError
        The axes are not both finite and above 0.
    """
    axes = []
    for card in ("BMAJ", "BMIN"):
        value = positive(card_value(header, card))
        if value is None:
            said = f"{card} is {header[card]!r}" if card in header else f"it has no {card}"
            raise ImageError(
                f"{said}: a beam is finite and above 0 deg, and without it Jy/beam means nothing",
                "put BMAJ and BMIN right in a copy, or move the file out of the input directory",
            )
        axes.append(value)
    try:
        angle = float(card_value(header, "BPA") or 0.0)
    except (TypeError, ValueError):
        raise ImageError(
            f"BPA is {header['BPA']!r}, not an angle; put it right in a copy"
        ) from None
    return axes[0], axes[1], angle


def fixed_header(header: Header, name: str) -> tuple[Header, list[str]]:
    """A corrected copy of an image's header, and what was changed, a text for each change.

    BITPIX is that of float32, and BSCALE, BZERO and BLANK are gone: the data that goes with it is
    the physical one. Blanks around CTYPE are gone; axes FREQ and STOKES are there, of length 1
    where they were absent, in this order behind the others; RESTFREQ and RESTFRQ are set from each
    other or the FREQ axis; SPECSYS, TIMESYS, RADESYS, LATPOLE and BUNIT where they were absent.
    What is right already is not touched, so a second time changes nothing.

    Parameters
    ----------
    header
        As it stands in the file; it is not changed.
    name
        Of the file, which may say the frequency and the polarization.

    Raises
    ------
    ImageError
        The axes cannot be used, nothing says the frequency, or there is no beam.

    Examples
    --------
    >>> from astropy.io.fits import Header
    >>> header = Header(dict(NAXIS=2, NAXIS1=8, NAXIS2=8, BMAJ=0.1, BMIN=0.1))
    >>> header["CTYPE1"], header["CTYPE2"] = "RA---SIN", " DEC--SIN"
    >>> header, changes = fixed_header(header, "20240524_120000_41MHz_averaged-I-image.fits")
    >>> header["CTYPE2"], header["CTYPE3"], header["RESTFREQ"], header["BUNIT"]
    ('DEC--SIN', 'FREQ', 41000000.0, 'Jy/beam')
    """
    header = header.copy()
    changes: list[str] = []
    check_beam(header)
    _make_physical(header, changes)
    for axis in range(1, int(card_value(header, "NAXIS", 0)) + 1):
        stored = card_value(header, f"CTYPE{axis}")
        # Of CTYPE itself, blanks at the end are no part of the value in FITS.
        if isinstance(stored, str) and stored != stored.strip():
            header[f"CTYPE{axis}"] = stored.strip()
            changes.append(f"blanks of CTYPE{axis} stripped")
    axes = find_axes(header)
    frequency = frequency_of(header, name)
    if frequency is None:
        raise ImageError(
            "nothing says its frequency: neither RESTFREQ, RESTFRQ, an axis FREQ, nor <n>MHz in "
            "its name",
            "add RESTFREQ [Hz] to a copy, or move the file out of the input directory",
        )
    _add_axes(header, axes, frequency, stokes_in(name), changes)
    for card, other in (("RESTFREQ", "RESTFRQ"), ("RESTFRQ", "RESTFREQ")):
        if positive(card_value(header, card)) is None:
            header[card] = (
                positive(card_value(header, other)) or spectral_value(header) or frequency
            )
            changes.append(f"{card} set to {header[card]:g} Hz")
    # The old name of RADESYS, which astropy and others no longer look at.
    old = str(card_value(header, "RADECSYS", "")).strip()
    for card, value in {**_DEFAULTS, "RADESYS": old or _DEFAULTS["RADESYS"]}.items():
        stored = card_value(header, card)
        if stored is None or (isinstance(stored, str) and not stored.strip()):
            header[card] = value
            changes.append(f"{card} set to {value}")
    return header, changes


def _make_physical(header: Header, changes: list[str]) -> None:
    scaling = [card for card in ("BSCALE", "BZERO", "BLANK") if card in header]
    if scaling:
        said = ", ".join(f"{card} {header[card]}" for card in scaling)
        changes.append(f"{said} applied and dropped")
        for card in scaling:
            del header[card]
    if card_value(header, "BITPIX", -32) != -32:
        changes.append(f"BITPIX {header['BITPIX']} becomes -32 (float32)")
        header["BITPIX"] = -32


def _add_axes(
    header: Header, axes: Axes, frequency: float, stokes: str, changes: list[str]
) -> None:
    count = axes.count
    missing = [
        *([("FREQ", frequency, "Hz")] if not axes.freq else []),
        *([("STOKES", float(stokes_code(stokes)), "")] if not axes.stokes else []),
    ]
    if count + len(missing) != 4:
        raise ImageError(
            f"its axes are {', '.join(ctype(header, n + 1) for n in range(count))}; at most RA, "
            "DEC, FREQ and STOKES can be used"
        )
    # With a CD matrix, a diagonal element that is absent is 0.
    step = "CD{0}_{0}" if any(f"CD{n}_{n}" in header for n in (axes.ra, axes.dec)) else "CDELT{0}"
    for number, (kind, value, unit) in enumerate(missing, count + 1):
        header["NAXIS"] = number
        header.set(f"NAXIS{number}", 1, after=f"NAXIS{number - 1}")
        header[f"CTYPE{number}"] = kind
        header[f"CRPIX{number}"] = 1.0
        header[f"CRVAL{number}"] = value
        header[step.format(number)] = 1.0
        header[f"CUNIT{number}"] = unit
        changes.append(f"axis {number} added: {kind} {value:g} {unit}".rstrip())
    if missing and "WCSAXES" in header:
        header["WCSAXES"] = max(4, int(card_value(header, "WCSAXES")))
