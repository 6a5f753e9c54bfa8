"""Schema 2.0 of spectral stores: names, shapes, chunks, words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import get_args

from bluesky_zarr.ingest.spectra._config import FluxType, SourceType

VERSION = "2.0"
PIPELINE = "bluesky-zarr ingest spectra"

SPECTRUM, PIXEL = "spectrum", "pixel"
"""The dims."""

GROUPS = ("signal", "continuum", "representations", "params", "metadata")
INDEX = "index.parquet"
INDEX_COLUMNS = (
    *("spec_id", "source_type", "teff", "logg", "feh"),
    *("instrument", "simulator", "snr"),
)

WAVELENGTH = "signal/wavelength"
FLUX = "signal/flux_raw"
METHOD = "continuum/method"
NORMALIZED = ("representations/normalized_flux", "representations/normalized_uncertainty")
ALIGNED = (
    FLUX,
    "signal/uncertainty_raw",
    "continuum/continuum_model",
    "continuum/continuum_uncertainty",
)
"""Arrays of the shape (spectrum, pixel) that each store has."""

TEXT_METADATA = (
    *("spec_id", "object_name", "file_name", "source_type", "flux_type", "instrument", "simulator"),
    *("date_obs", "gaia_id", "gaia_dr"),
)
NUMBER_METADATA = {
    "snr": "",
    "exptime": "s",
    "mjdate": "d",
    "ra_deg": "deg",
    "dec_deg": "deg",
}
"""Each with its unit."""

SOURCE_TYPES: tuple[str, ...] = get_args(SourceType)
FLUX_TYPES: tuple[str, ...] = get_args(FluxType)

SENTINELS = (-9999.0, -999.0, -99.0)
"""Numbers that stand for nothing in files; here only NaN does."""

CODEC = "blosc-zstd-5"

_WIDE = 10_000
_SHARD_BYTES = 512_000_000
_FEWEST_SHARDS = 8
COLUMN_CHUNK = 65_536
"""Rows in a chunk of an array over spectra alone."""


@dataclass(frozen=True)
class Cut:
    """How the arrays over spectra and pixels are cut: chunks, and shards of them (None: each chunk
    is a file).
    """

    chunks: tuple[int, int]
    shards: tuple[int, int] | None

    @property
    def file_rows(self) -> int:
        """Rows in a file."""
        return (self.shards or self.chunks)[0]


def chunks(n_spec: int, n_pix: int) -> tuple[int, int]:
    """The chunks of an array of spectra, which the schema prescribes.

    Examples
    --------
    >>> chunks(5000, 4000), chunks(5000, 60_000), chunks(30, 60_000)
    ((1024, 4000), (256, 4096), (30, 4096))
    """
    rows, columns = (1024, n_pix) if n_pix <= _WIDE else (256, 4096)
    return min(rows, n_spec), min(columns, n_pix)


def cut(n_spec: int, n_pix: int) -> Cut:
    """Chunks, and shards of whole rows of chunks: up to 512 MB of float32, but enough of them for
    several workers.

    Examples
    --------
    >>> cut(1000, 5000)
    Cut(chunks=(1000, 5000), shards=None)
    >>> cut(1_000_000, 5000)
    Cut(chunks=(1024, 5000), shards=(25600, 5000))
    """
    rows, columns = chunks(n_spec, n_pix)
    width = math.ceil(n_pix / columns) * columns
    blocks = math.ceil(n_spec / rows)
    together = min(_SHARD_BYTES // (rows * width * 4), math.ceil(blocks / _FEWEST_SHARDS))
    if together <= 1 and width == columns:
        return Cut((rows, columns), None)
    return Cut((rows, columns), (rows * max(1, together), width))
