"""What is known of each spectrum beside its pixels: arrays over spectra, and the index."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.ingest.spectra import _schema as schema
from bluesky_zarr.ingest.spectra._inventory import Inventory, Row
from bluesky_zarr.ingest.spectra._metadata import PARAM_UNITS
from bluesky_zarr.store import ArrayWriter


@dataclass(frozen=True)
class Column:
    """An array over spectra: "str", "float64" or "int64", and its unit."""

    dtype: str
    unit: str = ""

    @property
    def missing(self) -> Any:
        """What stands where there is no value."""
        return {"str": "", "float64": math.nan, "int64": 0}[self.dtype]


def columns(inventory: Inventory) -> dict[str, Column]:
    """Every array over spectra, by its key in the store."""
    text = Column("str")
    found = {schema.METHOD: text}
    found |= {f"metadata/{name}": text for name in schema.TEXT_METADATA}
    found |= {
        f"metadata/{name}": Column("float64", unit) for name, unit in schema.NUMBER_METADATA.items()
    }
    found |= {"metadata/source_path": text, "metadata/source_sha256": text}
    found["metadata/source_bytes"] = Column("int64", "byte")
    found |= {
        f"params/{name}": Column("float64", PARAM_UNITS[name]) for name in sorted(inventory.params)
    }
    return found | {f"metadata/{name}": text for name in inventory.headers}


def write_columns(store: Path, inventory: Inventory) -> None:
    """Write them all, and the index, a block of rows at a time."""
    from pyarrow import parquet

    writers = {key: (ArrayWriter(store, key), column) for key, column in columns(inventory).items()}
    first = 0
    with parquet.ParquetWriter(store / schema.INDEX, _index_schema()) as index:
        for rows in _batches(inventory.rows(), schema.COLUMN_CHUNK):
            for key, (writer, column) in writers.items():
                values = [row.get(key, column.missing) for row in rows]
                dtype = object if column.dtype == "str" else column.dtype
                writer.write((first,), np.array(values, dtype=dtype))
            index.write_table(_index_table(rows))
            first += len(rows)


def _batches(rows: Iterator[Row], size: int) -> Iterator[list[Row]]:
    while batch := list(itertools.islice(rows, size)):
        yield batch


def _index_schema() -> Any:
    import pyarrow

    numbers = ("teff", "logg", "feh", "snr")
    return pyarrow.schema(
        [
            (name, pyarrow.float64() if name in numbers else pyarrow.string())
            for name in schema.INDEX_COLUMNS
        ]
    )


def _index_table(rows: list[Row]) -> Any:
    import pyarrow

    kinds = _index_schema()
    return pyarrow.table(
        {
            field.name: pyarrow.array(
                [
                    row.get(f"metadata/{field.name}", row.get(f"params/{field.name}", math.nan))
                    for row in rows
                ],
                type=field.type,
            )
            for field in kinds
        },
        schema=kinds,
    )
