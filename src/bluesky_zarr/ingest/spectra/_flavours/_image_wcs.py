"""1-D images whose wavelengths are in the header: linear, or logarithmic as IRAF or the FITS
standard writes it.

Pixels count from 1 (FITS). With ``CRVAL1``, ``CD1_1`` (or ``CDELT1``; where both are, that is for
old readers) and ``CRPIX1`` (0 where it is missing: the standard's default), and
d = CDELT1 * (pixel - CRPIX1):

- linear: CRVAL1 + d;
- IRAF's ``DC-FLAG = 1``: 10 ** (CRVAL1 + d);
- ``CTYPE1 = 'WAVE-LOG'``: CRVAL1 * exp(d / CRVAL1).

Source: FITS standard 4.0, 8.4; IRAF, `noao.onedspec`, "specwcs".
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_zarr.ingest._fits import FitsError, image
from bluesky_zarr.ingest._units import converted, spelled, spelled_wavelength
from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from bluesky_zarr.ingest.spectra._tables import (
    CONTINUUM,
    ERROR,
    FLUX,
    INVERSE_VARIANCE,
    NORMALIZED,
    from_inverse_variance,
)

if TYPE_CHECKING:
    from bluesky_zarr.ingest.spectra._flavours import DefaultUnits

NAME = "a 1-D image with wavelengths in its header (IRAF)"

_OTHER_AXES = (
    *("FREQ", "VELO", "VRAD", "VOPT", "ZOPT", "BETA", "ENER", "WAVN", "PIXEL"),
    "MULTISPE",  # IRAF keeps the wavelengths of each aperture elsewhere, in WAT2_nnn
)
_NO_FLUX = {*ERROR, *INVERSE_VARIANCE, *CONTINUUM, *NORMALIZED}


def find(hdus: Any) -> int | None:
    """The HDU with an image of one dim (others may have the length 1): that whose EXTNAME is one of
    a flux, else the first that has no name of something else.
    """
    found = {
        number: _name(hdu)
        for number, hdu in enumerate(hdus)
        if hdu.is_image and hdu.shape and hdu.shape[-1] > 1 and set(hdu.shape[:-1]) <= {1}
    }
    named = [number for number, name in found.items() if name in FLUX]
    return next(iter([*named, *(n for n, name in found.items() if name not in _NO_FLUX)]), None)


def read(path: Path, hdus: Any, number: int, units: DefaultUnits) -> Spectrum:
    """The spectrum in the image; other images of its length are taken by their EXTNAME."""
    hdu = hdus[number]
    header = hdu.header
    wavelength = wavelengths(path, header, number, hdu.shape[-1])
    wavelength_unit = spelled_wavelength(_unit(header)) or units.wavelength
    if not wavelength_unit:
        raise FitsError(
            path,
            f"the header of HDU {number} has no unit of the wavelength (CUNIT1)",
            "say which by --wavelength-unit, for example --wavelength-unit Angstrom",
        )
    flux_unit = spelled(str(header.get("BUNIT", ""))) or units.flux
    if not flux_unit:
        raise FitsError(
            path,
            f"the header of HDU {number} has no unit of the flux (BUNIT)",
            "say which by --flux-unit, for example --flux-unit adu, or --flux-unit dimensionless",
        )
    others = {
        _name(other): other
        for n, other in reversed([*enumerate(hdus)])
        if n != number and other.is_image and other.shape
    }

    def optional(names: tuple[str, ...], unit: str = "") -> np.ndarray | None:
        """The first of these images that there is, in a unit if one is given."""
        name = next((name for name in names if name in others), None)
        if name is None:
            return None
        own = spelled(str(others[name].header.get("BUNIT", "")))
        values = _pixels(others[name])
        right = converted(values, own, unit) if unit and own else values
        if right is None:
            raise FitsError(
                path,
                f"the image {name} is in {own}, the flux in {unit}",
                "mend the unit of one of them (BUNIT), or leave the file out",
            )
        return right

    error = optional(ERROR, flux_unit)
    if error is None and (inverse_variance := optional(INVERSE_VARIANCE)) is not None:
        error = from_inverse_variance(inverse_variance)
    continuum = next((name for name in CONTINUUM if name in others), None)
    ctype = str(header.get("CTYPE1", "")).strip().upper()
    return Spectrum(
        wavelength=wavelength,
        flux_raw=_pixels(hdu),
        uncertainty_raw=error,
        continuum_model=optional(CONTINUUM, flux_unit),
        normalized_flux=optional(NORMALIZED),
        wavelength_unit=wavelength_unit,
        flux_unit=flux_unit,
        medium={"AWAV": "air", "WAVE": "vacuum"}.get(ctype[:4], ""),
        method=f"hdu:{continuum}" if continuum else "none",
    )


def wavelengths(path: Path, header: Any, number: int, n_pix: int) -> np.ndarray:
    """The wavelengths that a header gives for `n_pix` pixels: float64 of shape (n_pix,).

    Raises
    ------
    FitsError
        The header gives none.

    Examples
    --------
    >>> header = {"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0}
    >>> wavelengths(Path("a.fits"), header, 0, 3).tolist()
    [4000.0, 4002.0, 4004.0]
    """
    start, step = header.get("CRVAL1"), header.get("CD1_1", header.get("CDELT1"))
    ctype = str(header.get("CTYPE1", "")).strip().upper()
    flag = header.get("DC-FLAG", 0)
    if ctype.startswith(_OTHER_AXES):
        raise FitsError(
            path,
            f"it has no wavelength: the axis of HDU {number} is CTYPE1 = {ctype!r}",
            "convert it to wavelengths, or leave it out",
        )
    if start is None or step is None or flag == -1:
        missing = "DC-FLAG = -1 (no dispersion)" if flag == -1 else "no CRVAL1 and CDELT1 or CD1_1"
        raise FitsError(
            path,
            f"it has no wavelength: the header of HDU {number} has {missing}",
            "add the cards, or leave the file out",
        )
    if not step:
        raise FitsError(
            path,
            f"the pixels of HDU {number} have a width of 0 (CDELT1 or CD1_1)",
            "mend the header, or leave the file out",
        )
    algorithm = ctype[5:8] if ctype[4:5] == "-" else ""
    if "LOG" in ctype and algorithm != "LOG" and flag != 1:
        raise FitsError(
            path,
            f"CTYPE1 = {str(header['CTYPE1']).strip()!r} is a logarithm, and nothing says which",
            "set DC-FLAG = 1 if it is log10, in a copy, or leave the file out",
        )
    if algorithm not in ("", "LOG", "WAV") and "LOG" not in ctype:
        raise FitsError(
            path,
            f"its wavelengths have the algorithm {algorithm!r} (CTYPE1 = {ctype!r}), which is "
            "neither linear nor logarithmic",
            "resample it, or leave it out",
        )
    distance = float(step) * (np.arange(1, n_pix + 1) - float(header.get("CRPIX1", 0.0)))
    if flag == 1:
        return 10.0 ** (float(start) + distance)
    if algorithm == "LOG":
        return float(start) * np.exp(distance / float(start))
    return float(start) + distance


def _unit(header: Any) -> str:
    """The unit of axis 1: CUNIT1, or what IRAF writes into WAT1_001."""
    unit = str(header.get("CUNIT1", "")).strip()
    if unit:
        return unit
    found = re.search(r"units=(\w+)", str(header.get("WAT1_001", "")))
    return found[1] if found else ""


def _name(hdu: Any) -> str:
    return str(hdu.name).strip().upper()


def _pixels(hdu: Any) -> np.ndarray:
    values = image(hdu).reshape(-1)
    return values if values.dtype.kind == "f" else values.astype("float64")
