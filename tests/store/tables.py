"""Events of a small scan, and how xarray reads what became of them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xarray
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import StreamTable

T0 = 1_763_600_000.123456
GRID = ScanGeometry.from_spec(Linspace("mono", 7, 7.4, 2) * ~Linspace("x", 0, 2, 3)).with_units(
    {"mono": "keV", "x": "mm"}
)


def opened(store: Path, group: str = "primary") -> xarray.Dataset:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return xarray.open_zarr(store, group=group, consolidated=False).load()


def fill(
    table: StreamTable, count: int, data: Callable[[int], dict[str, Any]], **more: Any
) -> None:
    for k in range(count):
        table.put(k, seq_num=k + 1, time=T0 + k, data=data(k), **more)
