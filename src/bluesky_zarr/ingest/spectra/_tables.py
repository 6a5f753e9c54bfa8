"""What the two kinds of tables share: how their columns are called, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_zarr.ingest._fits import FitsError, column
from bluesky_zarr.ingest._units import converted, spelled, spelled_wavelength
from bluesky_zarr.ingest.spectra._spectrum import Spectrum

if TYPE_CHECKING:
    from bluesky_zarr.ingest.spectra._flavours import DefaultUnits

WAVELENGTH = ("WAVE", "WAVELENGTH", "LAMBDA", "AWAV")
LOG_WAVELENGTH = ("LOGLAM",)
FLUX = ("FLUX", "INTENSITY", "SCI_FLUX")
ERROR = ("ERR", "ERROR", "FLUX_ERR", "SIGMA", "UNCERTAINTY")
INVERSE_VARIANCE = ("IVAR",)
CONTINUUM = ("CONTINUUM", "CONT")
CONTINUUM_ERROR = ("CONTINUUM_ERR", "CONTINUUM_ERROR", "CONTINUUM_UNCERTAINTY", "CONT_ERR")
NORMALIZED = ("NORMALIZED_FLUX", "NORM_FLUX")
NORMALIZED_ERROR = ("NORMALIZED_ERR", "NORMALIZED_UNCERTAINTY", "NORMALIZED_FLUX_ERR", "NORM_ERR")
"""What columns are called, in any case; the first that a table has is taken."""


def named(table: Any, names: Sequence[str]) -> str | None:
    """The column of a table that has one of these names, as the table spells it."""
    columns = {name.strip().upper(): name for name in reversed(table.columns.names)}
    return next((columns[name] for name in names if name in columns), None)


def unit_text(table: Any, name: str) -> str:
    """The unit of a column as the table spells it, "" where it does not say."""
    return str(table.columns[name].unit or "")


def spectrum_of_table(
    path: Path,
    table: Any,
    number: int,
    units: DefaultUnits,
    cells: Callable[[str], np.ndarray],
    *,
    log_unit: str = "Angstrom",
) -> Spectrum:
    """The spectrum in a table's columns.

    Parameters
    ----------
    number
        That of the HDU, for messages.
    units
        Those of files that do not say.
    cells
        The pixels of a column, 1-D.
    log_unit
        What a column of log10 wavelengths is the logarithm of.
    """
    where = f"HDU {number}"
    flux = named(table, FLUX)
    assert flux is not None  # the table was chosen by it
    wave, log_wave = named(table, WAVELENGTH), named(table, LOG_WAVELENGTH)
    medium = ""
    if wave is not None:
        wavelength = cells(wave).astype("float64")
        wavelength_unit = spelled_wavelength(unit_text(table, wave)) or units.wavelength
        medium = "air" if wave.strip().upper() == "AWAV" else ""
    elif log_wave is not None:
        wavelength = 10.0 ** cells(log_wave).astype("float64")
        wavelength_unit = log_unit
    else:
        raise FitsError(
            path,
            f"it has no wavelength: the table in {where} has the columns "
            f"{', '.join(table.columns.names)} and none of "
            f"{', '.join((*WAVELENGTH, *LOG_WAVELENGTH))}",
            "rename the column that holds the wavelength, or leave the file out",
        )
    if not wavelength_unit:
        raise FitsError(
            path,
            f"the column {wave} in {where} has no unit",
            "say which by --wavelength-unit, for example --wavelength-unit Angstrom",
        )
    flux_unit = spelled(unit_text(table, flux)) or units.flux
    if not flux_unit:
        raise FitsError(
            path,
            f"the column {flux} in {where} has no unit",
            "say which by --flux-unit, for example --flux-unit adu, or --flux-unit dimensionless",
        )

    def optional(names: Sequence[str], unit: str) -> np.ndarray | None:
        name = named(table, names)
        if name is None:
            return None
        values, own = cells(name), spelled(unit_text(table, name)) or unit
        right = converted(values, own, unit)
        if right is None:
            raise FitsError(
                path,
                f"the column {name} in {where} is in {own}, the flux in {unit}",
                "mend the unit of one of them (TUNIT), or leave the file out",
            )
        return right

    error = optional(ERROR, flux_unit)
    inverse_variance = named(table, INVERSE_VARIANCE)
    if error is None and inverse_variance is not None:
        error = from_inverse_variance(cells(inverse_variance))
    continuum = named(table, CONTINUUM)
    normalized = named(table, NORMALIZED)
    normalized_error = named(table, NORMALIZED_ERROR)
    return Spectrum(
        wavelength=wavelength,
        flux_raw=cells(flux),
        uncertainty_raw=error,
        continuum_model=optional(CONTINUUM, flux_unit),
        continuum_uncertainty=optional(CONTINUUM_ERROR, flux_unit) if continuum else None,
        normalized_flux=cells(normalized) if normalized else None,
        normalized_uncertainty=(
            cells(normalized_error) if normalized and normalized_error else None
        ),
        wavelength_unit=wavelength_unit,
        flux_unit=flux_unit,
        medium=medium,
        method=f"column:{continuum}" if continuum else "none",
        flux_type="intensity" if flux.strip().upper() == "INTENSITY" else "flux",
    )


def from_inverse_variance(values: np.ndarray) -> np.ndarray:
    """One standard deviation; NaN where the inverse variance is 0, which says that nothing is
    known.

    Examples
    --------
    >>> from_inverse_variance(np.array([4.0, 0.0])).tolist()
    [0.5, nan]
    """
    known = values > 0
    return np.where(known, 1.0 / np.sqrt(np.where(known, values, 1)), np.nan).astype(values.dtype)


def cells_of_row(path: Path, table: Any, number: int) -> Callable[[str], np.ndarray]:
    """The pixels of a column in a table of one row of arrays."""

    def cells(name: str) -> np.ndarray:
        values = column(table, name)
        if len(values) != 1:
            raise FitsError(
                path,
                f"the table in HDU {number} has {len(values)} rows of arrays; one row is one "
                "spectrum",
                "split it into files of one spectrum each",
            )
        return _numbers(path, values[0].ravel(), name, number)

    return cells


def cells_of_rows(path: Path, table: Any, number: int) -> Callable[[str], np.ndarray]:
    """The pixels of a column in a table of one row for each pixel."""
    return lambda name: _numbers(path, column(table, name), name, number)


def _numbers(path: Path, values: np.ndarray, name: str, number: int) -> np.ndarray:
    if values.dtype.kind not in "iuf":
        raise FitsError(
            path,
            f"the column {name} in HDU {number} holds {values.dtype}, not numbers",
            "mend the file, or leave it out",
        )
    return values if values.dtype.kind == "f" else values.astype("float64")
