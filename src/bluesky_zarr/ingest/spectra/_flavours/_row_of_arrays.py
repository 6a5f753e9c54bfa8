"""ESO-style files: a binary table with one row, whose cells are the arrays of the spectrum."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from bluesky_zarr.ingest.spectra._tables import FLUX, cells_of_row, named, spectrum_of_table

if TYPE_CHECKING:
    from bluesky_zarr.ingest.spectra._flavours import DefaultUnits

NAME = "a table with one row of arrays (ESO)"


def find(hdus: Any) -> int | None:
    """The HDU of the first table whose cells of flux are arrays."""
    for number, hdu in enumerate(hdus):
        columns = getattr(hdu, "columns", None)
        flux = named(hdu, FLUX) if columns is not None else None
        if flux is not None and columns is not None and is_array(columns[flux].format):
            return number
    return None


def read(path: Path, hdus: Any, number: int, units: DefaultUnits) -> Spectrum:
    """The spectrum in the table."""
    table = hdus[number]
    return spectrum_of_table(path, table, number, units, cells_of_row(path, table, number))


def is_array(form: str) -> bool:
    """Whether a column of this TFORM has an array in each cell.

    Examples
    --------
    >>> is_array("5000D"), is_array("PE(312)"), is_array("1E"), is_array("D"), is_array("F8.3")
    (True, True, False, False, False)
    """
    digits = form[: len(form) - len(form.lstrip("0123456789"))]
    letter = form[len(digits) : len(digits) + 1]
    return letter in ("P", "Q") or (bool(digits) and int(digits) > 1 and letter != "A")
