"""SDSS-style files: a table with one row for each pixel (loglam, flux, ivar)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest._units import spelled
from bluesky_zarr.ingest.spectra._flavours._row_of_arrays import is_array
from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from bluesky_zarr.ingest.spectra._tables import (
    FLUX,
    LOG_WAVELENGTH,
    WAVELENGTH,
    cells_of_rows,
    named,
    spectrum_of_table,
)

if TYPE_CHECKING:
    from bluesky_zarr.ingest.spectra._flavours import DefaultUnits

NAME = "a table with one row per pixel (SDSS)"

SDSS_FLUX_UNIT = "1e-17 erg / (s cm2 Angstrom)"
"""Of the flux in SDSS `spec` files, whose table says nothing (SDSS data model, `spec`)."""


def find(hdus: Any) -> int | None:
    """The HDU of the first table that has one number of flux in each row."""
    for number, hdu in enumerate(hdus):
        columns = getattr(hdu, "columns", None)
        flux = named(hdu, FLUX) if columns is not None else None
        if flux is not None and columns is not None and not is_array(columns[flux].format):
            return number
    return None


def read(path: Path, hdus: Any, number: int, units: DefaultUnits) -> Spectrum:
    """The spectrum in the table; an SDSS file's units are those of its data model."""
    table = hdus[number]
    if named(table, LOG_WAVELENGTH) and not named(table, WAVELENGTH):
        from_header = spelled(str(hdus[0].header.get("BUNIT", "")))
        units = units.or_else(flux=from_header or SDSS_FLUX_UNIT)
    return spectrum_of_table(path, table, number, units, cells_of_rows(path, table, number))
