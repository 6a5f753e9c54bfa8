"""FITS files as archives have them, with known content."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

FLUX_UNIT = "erg.cm**(-2).s**(-1).angstrom**(-1)"


def flux_of(number: int, n_pix: int) -> np.ndarray:
    """A spectrum with lines, float32; no two numbers give the same."""
    rng = np.random.default_rng(number)
    pixel = np.arange(n_pix)
    lines = sum(np.exp(-(((pixel - c) / 3) ** 2)) for c in rng.integers(0, n_pix, 5))
    return (1 + number + lines + rng.normal(0, 0.01, n_pix)).astype("f4")


def wavelength_of(n_pix: int, start: float = 4000.0, step: float = 0.5) -> np.ndarray:
    return start + step * np.arange(n_pix)


def eso(
    path: Path,
    *,
    wavelength: np.ndarray | None = None,
    flux: np.ndarray | None = None,
    columns: Mapping[str, tuple[Any, str | None]] | None = None,
    header: Mapping[str, Any] | None = None,
    names: tuple[str, str] = ("WAVE", "FLUX"),
    units: tuple[str | None, str | None] = ("angstrom", FLUX_UNIT),
    checksum: bool = True,
    error: bool = True,
) -> Path:
    """An ESO Phase 3 spectrum: one row of arrays. `columns` are more of them, with their units."""
    flux = flux_of(1, 50) if flux is None else flux
    wavelength = wavelength_of(len(flux)) if wavelength is None else wavelength
    more = {"ERR": (np.sqrt(np.abs(flux)), units[1])} if error else {}
    all_columns = {
        names[0]: (wavelength, units[0]),
        names[1]: (flux, units[1]),
        **more,
        **(columns or {}),
    }
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column(
                name,
                f"{len(values)}{'D' if np.asarray(values).dtype == np.float64 else 'E'}",
                unit=unit,
                array=np.asarray(values)[np.newaxis],
            )
            for name, (values, unit) in all_columns.items()
        ]
    )
    primary = fits.PrimaryHDU()
    cards: dict[str, Any] = {
        "ORIGIN": "ESO",
        "INSTRUME": "UVES",
        "OBJECT": "HD 1234",
        "RA": 83.633,
        "DEC": 22.0145,
        "EXPTIME": 300.0,
        "MJD-OBS": 57651.25,
        "DATE-OBS": "2016-09-20T06:00:00.000",
        "SNR": 88.5,
        "HIERARCH ESO TEL AIRM START": 1.234,
        "HIERARCH ESO TEL AMBI TEMP": 11.5,
        "HIERARCH ESO DRS CAL TH COEFF LL0": 3.14,
        "HIERARCH ESO INS SENS1 VAL": 17.0,
        **(header or {}),
    }
    for keyword, value in cards.items():
        primary.header[keyword] = value
    fits.HDUList([primary, table]).writeto(path, checksum=checksum)
    return path


def sdss(path: Path, number: int = 1, n_pix: int = 60, **header: Any) -> Path:
    """An SDSS `spec` file: one row per pixel, no units in the table."""
    loglam = (3.58 + 1e-4 * np.arange(n_pix)).astype("f4")
    ivar = np.full(n_pix, 4.0, "f4")
    ivar[3] = 0
    table = fits.BinTableHDU.from_columns(
        [
            fits.Column("flux", "E", array=flux_of(number, n_pix)),
            fits.Column("loglam", "E", array=loglam),
            fits.Column("ivar", "E", array=ivar),
            fits.Column("and_mask", "J", array=np.zeros(n_pix, "i4")),
        ],
        name="COADD",
    )
    primary = fits.PrimaryHDU()
    cards = {
        "TELESCOP": "SDSS 2.5-M",
        "PLUG_RA": 146.714,
        "PLUG_DEC": -1.0413,
        "RA": 147.0,
        "MJD": 51630,
        "BUNIT": "1E-17 erg/cm^2/s/Ang",
        "EXPTIME": 2700.0,
        "COEFF0": 3.58,
        "COEFF1": 1e-4,
        **header,
    }
    primary.header.update(cards)
    fits.HDUList([primary, table]).writeto(path, checksum=True)
    return path


def iraf(
    path: Path,
    *,
    data: np.ndarray | None = None,
    extensions: Mapping[str, np.ndarray] | None = None,
    **header: Any,
) -> Path:
    """A 1-D image as IRAF writes it."""
    hdu = fits.PrimaryHDU(flux_of(2, 40) if data is None else data)
    cards = {
        "OBJECT": "Vega",
        "RA": "18:36:56.3",
        "DEC": "+38:47:01",
        "EXPTIME": 30,
        "AIRMASS": 1.1,
        "DATE-OBS": "2001-02-03T04:05:06",
        "CTYPE1": "LINEAR",
        "CRVAL1": 5000.0,
        "CDELT1": 1.25,
        "CRPIX1": 1.0,
        "CUNIT1": "Angstrom",
        "BUNIT": "adu",
        **header,
    }
    hdu.header.update({name: value for name, value in cards.items() if value is not None})
    others = [fits.ImageHDU(values, name=name) for name, values in (extensions or {}).items()]
    fits.HDUList([hdu, *others]).writeto(path, checksum=True)
    return path
