"""Spectra: one a row, on one wavelength grid or on grids of their own (schema 2.0)."""

from ._checks import check_spectra, is_spectral
from ._config import SpectraConfig
from ._ingest import IngestedSpectra, ingest_spectra
from ._survey import Skipped

__all__ = [
    "IngestedSpectra",
    "Skipped",
    "SpectraConfig",
    "check_spectra",
    "ingest_spectra",
    "is_spectral",
]
