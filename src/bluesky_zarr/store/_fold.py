"""From the journal back to arrays: what a crash took from the tables of a store is put back."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._columns import Column
from bluesky_zarr.store._journal import Journal, flown_line
from bluesky_zarr.store._kinds import published_status
from bluesky_zarr.store._merge import merge
from bluesky_zarr.store._table import StreamTable

logger = logging.getLogger("bluesky_zarr.store")


def fold(store_path: Path) -> None:
    """Write the arrays of every stream anew from the journal beside the store.

    Gives the same arrays however often it is called; does nothing where the store is published or
    has no journal. A stream, column or row that was refused when it was journalled is passed over
    again.

    Raises
    ------
    OSError
        The disk does not take the arrays.

    Examples
    --------
    >>> import tempfile
    >>> store = Path(tempfile.mkdtemp()) / "scan.zarr"
    >>> with Journal(store) as journal:
    ...     table = StreamTable(store, "primary", ScanGeometry.events(), journal)
    ...     table.put(0, seq_num=1, time=1.76e9, data={})
    >>> fold(store)
    """
    store_path = Path(store_path)
    if published_status(store_path):
        return
    tables: dict[str, StreamTable] = {}
    passed_over: dict[str, int] = {}
    merges = False
    for kind, payload in Journal.read(store_path):
        merges |= kind == "merge"
        try:
            _fold_entry(store_path, tables, kind, payload)
        except (LookupError, ValueError, TypeError, AttributeError, OverflowError) as error:
            if kind not in passed_over:
                logger.warning(
                    "the journal of %s: a %r cannot be stored: %s", store_path, kind, error
                )
            passed_over[kind] = passed_over.get(kind, 0) + 1
    for table in tables.values():
        table.close()
    if merges:
        merge(store_path)


def _fold_entry(
    store: Path, tables: dict[str, StreamTable], kind: str, payload: dict[str, Any]
) -> None:
    if kind == "stream":
        stream, geometry = payload["stream"], ScanGeometry.from_dict(payload["geometry"])
        known = tables.get(stream)
        if known is None or known.geometry.to_dict() != geometry.to_dict():
            tables[stream] = StreamTable(store, stream, geometry, None, replay=True)
    elif kind == "columns":
        columns = {key: Column(**column) for key, column in payload["columns"].items()}
        tables[payload["stream"]].declare(columns)
    elif kind == "flown":
        tables[payload["stream"]].set_flown(
            flown_line(payload), payload["seq_num"], payload["time"]
        )
    elif kind == "row":
        tables[payload["stream"]].set_row(
            payload["index"],
            payload["seq_num"],
            payload["time"],
            payload["data"],
            payload.get("setpoints"),
        )
