"""One spectrum, as every flavour of file gives it."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest._units import is_length

PIXEL_ARRAYS = (
    "flux_raw",
    "uncertainty_raw",
    "continuum_model",
    "continuum_uncertainty",
    "normalized_flux",
    "normalized_uncertainty",
)
"""The arrays of a `Spectrum` over its pixels, beside the wavelength."""


@dataclass(frozen=True)
class Spectrum:
    """A spectrum: arrays of one length, in native byte order, ordered as in the file.

    Parameters
    ----------
    wavelength
        float64, in `wavelength_unit`.
    flux_raw, uncertainty_raw
        In `flux_unit`; the uncertainty is one standard deviation.
    continuum_model, continuum_uncertainty
        In `flux_unit`, where the file has them.
    normalized_flux, normalized_uncertainty
        Without a unit, where the file has them.
    wavelength_unit, flux_unit
        As the file says, in astropy's spelling.
    medium
        "air" or "vacuum" where the file says which; else "".
    method
        Where the continuum is from: "none", "column:CONTINUUM".
    flux_type
        "flux" or "intensity".
    """

    wavelength: np.ndarray
    flux_raw: np.ndarray
    wavelength_unit: str
    flux_unit: str
    uncertainty_raw: np.ndarray | None = None
    continuum_model: np.ndarray | None = None
    continuum_uncertainty: np.ndarray | None = None
    normalized_flux: np.ndarray | None = None
    normalized_uncertainty: np.ndarray | None = None
    medium: str = ""
    method: str = "none"
    flux_type: str = "flux"

    def check(self, path: object) -> None:
        """Raise `FitsError` where this cannot be a row of a data set."""
        n_pix = self.wavelength.size
        for name in ("wavelength", *PIXEL_ARRAYS):
            values = getattr(self, name)
            if values is not None and values.shape != (n_pix,):
                raise FitsError(
                    str(path),
                    f"its {name} has the shape {values.shape}, its wavelength has {n_pix} pixels",
                    "mend the file, or leave it out",
                )
            if name != "wavelength" and values is not None and values.dtype.itemsize > 4:
                # They would become infinite without a word.
                largest = np.abs(values, where=np.isfinite(values), out=np.zeros(n_pix)).max(
                    initial=0
                )
                if largest > np.finfo("f4").max:
                    raise FitsError(
                        str(path),
                        f"its {name} has values up to {largest:.3g}, more than float32 holds",
                        "scale it, or leave it out",
                    )
        if not is_length(self.wavelength_unit):
            raise FitsError(
                str(path),
                f"its wavelengths are in {self.wavelength_unit}, which is no unit of length",
                "convert them to wavelengths, or leave it out",
            )
        if not n_pix:
            raise FitsError(str(path), "its spectrum has no pixels", "leave it out")
        if not np.isfinite(self.wavelength).any():
            raise FitsError(
                str(path), "its wavelength has no finite value", "mend the file, or leave it out"
            )
        if is_dead(self.flux_raw[np.newaxis])[0]:
            raise FitsError(
                str(path),
                f"its flux is NaN or 0 in each of its {n_pix} pixels",
                "leave it out: there is no spectrum in it",
            )

    @property
    def present(self) -> tuple[str, ...]:
        """Which of `PIXEL_ARRAYS` the file has."""
        known = {field.name for field in fields(self)}
        return tuple(n for n in PIXEL_ARRAYS if n in known and getattr(self, n) is not None)


def is_dead(rows: np.ndarray) -> np.ndarray:
    """Which rows of a block hold no measurement: nothing but NaN and 0.

    Examples
    --------
    >>> is_dead(np.array([[0.0, 0.0], [np.nan, np.nan], [np.nan, 2.0]])).tolist()
    [True, True, False]
    """
    return ~((rows != 0) & ~np.isnan(rows)).any(axis=1)
