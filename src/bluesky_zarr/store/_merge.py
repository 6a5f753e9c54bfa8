"""One table from the events of several streams, sorted by position."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store._columns import Column
from bluesky_zarr.store._journal import Journal, flown_line
from bluesky_zarr.store._kinds import published_status
from bluesky_zarr.store._table import StreamTable

PASS = "pass"
"""The reading of a merged table that says which stream, or which pass of one, a row is from."""


@dataclass
class _Stream:
    geometry: ScanGeometry
    columns: dict[str, Column] = field(default_factory=dict)
    rows: dict[int, dict[str, Any]] = field(default_factory=dict)


@dataclass
class _Merged:
    axes: tuple[str, ...]
    streams: list[str] = field(default_factory=list)


def merge(store_path: Path) -> None:
    """Write the merged groups that the journal beside a store asks for.

    A merged group is a table as that of a stream (see `StreamTable`): one row for each event of its
    streams, sorted by the setpoints of its axes, the slowest first. Over one axis its dim is the
    axis, over several it is named after them. Readings are those of the streams; frames are not in
    it. ``pass`` counts the streams from 0, or is the reading of that name. Gives the same group
    however often it is called; does nothing where the store is published or has no journal.

    Raises
    ------
    OSError
        The disk does not take the arrays.

    Examples
    --------
    >>> import tempfile
    >>> from scanspec.specs import Linspace
    >>> store = Path(tempfile.mkdtemp()) / "scan.zarr"
    >>> with Journal(store) as journal:
    ...     for stream, ends in ("primary", (0, 4)), ("zoom_1", (1, 3)):
    ...         line = ScanGeometry.from_spec(Linspace("x", *ends, 2))
    ...         table = StreamTable(store, stream, line, journal)
    ...         table.declare({"diode": Column("number")})
    ...         for k, x in enumerate(ends):
    ...             table.put(k, seq_num=k + 1, time=1.76e9, data={"diode": x**2})
    ...         journal.append("merge", {"stream": stream, "into": "merged", "axes": ["x"]})
    >>> merge(store)
    >>> import xarray
    >>> merged = xarray.open_zarr(store / "merged", consolidated=False)
    >>> float(merged["diode"].sel(x=3)), merged["pass"].values.tolist()
    (9.0, [0, 1, 1, 0])
    """
    if published_status(store_path):
        return
    streams, wanted = _read(store_path)
    for group, merged in wanted.items():
        parts = [(name, streams[name]) for name in merged.streams if name in streams]
        _write(store_path, group, merged.axes, parts)


def _read(store_path: Path) -> tuple[dict[str, _Stream], dict[str, _Merged]]:
    streams: dict[str, _Stream] = {}
    wanted: dict[str, _Merged] = {}
    for kind, payload in Journal.read(store_path):
        # What could not be stored when it was journalled was said then, and is passed over here.
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            _take(kind, payload, streams, wanted)
    return streams, wanted


def _take(
    kind: str,
    payload: dict[str, Any],
    streams: dict[str, _Stream],
    wanted: dict[str, _Merged],
) -> None:
    if kind == "merge":
        merged = wanted.setdefault(payload["into"], _Merged(tuple(payload["axes"])))
        if payload["stream"] not in merged.streams:
            merged.streams.append(payload["stream"])
    elif kind == "stream":
        geometry = ScanGeometry.from_dict(payload["geometry"])
        streams.setdefault(payload["stream"], _Stream(geometry)).geometry = geometry
    elif kind == "columns":
        columns = {key: Column(**column) for key, column in payload["columns"].items()}
        streams[payload["stream"]].columns.update(columns)
    elif kind == "row":
        geometry = streams[payload["stream"]].geometry
        if geometry.growing or 0 <= payload["index"] < geometry.size:
            streams[payload["stream"]].rows[payload["index"]] = payload
    elif kind == "flown":
        for number, index in enumerate(flown_line(payload), payload["seq_num"]):
            row = {"index": index, "seq_num": number, "time": payload["time"], "data": {}}
            _take("row", {**row, "stream": payload["stream"]}, streams, wanted)


def _write(
    store_path: Path, group: str, axes: tuple[str, ...], parts: list[tuple[str, _Stream]]
) -> None:
    rows: list[tuple[dict[str, Any], dict[str, Any]]] = []
    positions: list[list[float]] = []
    columns: dict[str, Column] = {}
    units: dict[str, str] = {}
    for number, (_, stream) in enumerate(parts):
        columns |= stream.columns
        units |= {c.name: c.units for _, c in stream.geometry.coordinates if c.units}
        for index, row in stream.rows.items():
            setpoints = _setpoints(stream.geometry, index, row)
            positions.append([setpoints.get(axis, np.nan) for axis in axes])
            rows.append((row, {PASS: number} | row["data"]))
    if not rows:
        return
    for key in [key for key in columns if key == "scan_index"]:
        del columns[key]  # it says where a row is in its own stream
    columns[PASS] = Column("integer", long_name="number of the pass")
    at = np.array(positions)
    order = np.lexsort(at.T[::-1])
    line = tuple(
        Coordinate(axis, at[order, n], units.get(axis, _units_of(columns, axis)))
        for n, axis in enumerate(axes)
        if np.isfinite(at[:, n]).all()
    )
    geometry = ScanGeometry((Dim("_".join(axes), len(rows), False, line),))
    table = StreamTable(store_path, group, geometry, None, replay=True)
    table.declare(columns)
    for place, which in enumerate(order):
        row, data = rows[which]
        table.set_row(place, row["seq_num"], row["time"], data)
    table.close()


def _units_of(columns: dict[str, Column], axis: str) -> str:
    return columns[axis].units if axis in columns else ""


def _setpoints(geometry: ScanGeometry, index: int, row: dict[str, Any]) -> dict[str, float]:
    if geometry.growing:
        return row.get("setpoints") or {}
    cell = np.unravel_index(index, geometry.shape)
    return {
        coordinate.name: float(coordinate.values[at])
        for at, dim in zip(cell, geometry.dims, strict=True)
        for coordinate in dim.coordinates
    }
