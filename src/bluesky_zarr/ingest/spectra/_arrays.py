"""The arrays of a data set of spectra, made with their final shapes."""

from __future__ import annotations

import math
from typing import Any

from bluesky_zarr.ingest._units import DIMENSIONLESS
from bluesky_zarr.ingest.spectra import _schema as schema
from bluesky_zarr.ingest.spectra._columns import columns
from bluesky_zarr.ingest.spectra._inventory import Inventory
from bluesky_zarr.ingest.spectra._spectrum import PIXEL_ARRAYS
from bluesky_zarr.store import BatchStore

KEYS: dict[str, str] = dict(
    zip(
        ("wavelength", *PIXEL_ARRAYS),
        (
            schema.WAVELENGTH,
            *("signal/flux_raw", "signal/uncertainty_raw"),
            *("continuum/continuum_model", "continuum/continuum_uncertainty"),
            *schema.NORMALIZED,
        ),
        strict=True,
    )
)
"""Where the arrays of a `Spectrum` go."""

_LONG_NAMES = {
    "signal/uncertainty_raw": "uncertainty of the flux, one standard deviation",
    "metadata/source_sha256": "sha256 of the file that the spectrum is from",
    "metadata/source_bytes": "size of the file that the spectrum is from",
}


def create_arrays(store: BatchStore, inventory: Inventory) -> None:
    """Make every group and array. Nothing is written: what has no value is NaN, or ""."""
    n_spec, n_pix = len(inventory.files), inventory.n_pix
    for group in schema.GROUPS:
        store.create_group(group)
    cut = schema.cut(n_spec, n_pix)
    wide: dict[str, Any] = {
        "shape": (n_spec, n_pix),
        "dims": (schema.SPECTRUM, schema.PIXEL),
        "chunks": cut.chunks,
        "shards": cut.shards,
    }
    common = {"shape": (n_pix,), "dims": (schema.PIXEL,), "chunks": (n_pix,)}
    for name, key in KEYS.items():
        if key in schema.NORMALIZED and "normalized_flux" not in inventory.present:
            continue
        if key == schema.WAVELENGTH:
            unit, cuts = inventory.wavelength_unit, common if inventory.one_grid else wide
        else:
            unit = DIMENSIONLESS if key in schema.NORMALIZED else inventory.flux_unit
            cuts = wide
        store.create_array(
            key,
            **cuts,
            dtype="float64" if name == "wavelength" else "float32",
            units=unit,
            fill_value=math.nan,
            codec=schema.CODEC,
            attributes=_attributes(key, inventory),
        )
    for key, column in columns(inventory).items():
        store.create_array(
            key,
            shape=(n_spec,),
            dims=(schema.SPECTRUM,),
            dtype=column.dtype,
            chunks=(min(n_spec, schema.COLUMN_CHUNK),),
            units=column.unit,
            fill_value=math.nan if column.dtype == "float64" else None,
            codec=schema.CODEC,
            attributes=_attributes(key, inventory),
        )


def _attributes(key: str, inventory: Inventory) -> dict[str, str]:
    if key == schema.WAVELENGTH and inventory.medium:
        return {"medium": inventory.medium}
    return {"long_name": _LONG_NAMES[key]} if key in _LONG_NAMES else {}
