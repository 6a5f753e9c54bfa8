"""Archived FITS files become published stores of the same kind, in the same catalog."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..store import InvalidStoreError
    from ._errors import IngestError
    from ._files import find_files
    from ._fits import FitsError
    from .cubes import CubesConfig, ingest_cube
    from .spectra import IngestedSpectra, SpectraConfig, ingest_spectra

__all__ = [
    "CubesConfig",
    "FitsError",
    "IngestError",
    "IngestedSpectra",
    "InvalidStoreError",
    "SpectraConfig",
    "find_files",
    "ingest_cube",
    "ingest_spectra",
]

# Imported when first used: the command line imports this package for every command.
_HOMES = {
    "CubesConfig": ".cubes",
    "FitsError": "._fits",
    "IngestError": "._errors",
    "IngestedSpectra": ".spectra",
    "InvalidStoreError": "..store",
    "SpectraConfig": ".spectra",
    "find_files": "._files",
    "ingest_cube": ".cubes",
    "ingest_spectra": ".spectra",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value
