"""What is small in a stream's group: coordinates, readings, `seq_num` and `time`, one element per
position.

These arrays are written at most once a second. What a crash takes with it is in the journal, and
`fold` puts it back.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time as clock
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._columns import Column, Misfit
from bluesky_zarr.store._files import link_new
from bluesky_zarr.store._journal import Journal
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    Document,
    encode_document,
    group_document,
    nodes,
    read_document,
    write_document,
)
from bluesky_zarr.store._paths import check_inside, check_key
from bluesky_zarr.store._small import Place, SmallArray

logger = logging.getLogger("bluesky_zarr.store")

RESERVED = frozenset({"seq_num", "time", DOCUMENT})
"""Names that a stream's group keeps for itself."""

FLUSH_INTERVAL = 1.0
"""Seconds between two writings of what has changed."""

EVENT = "event"
"""The dim of what is stored in order of events."""

_ROLES = ("setpoint", "reading", "event")
_EVENT_ARRAYS: dict[str, tuple[Column, dict[str, str]]] = {
    "seq_num": (Column("int64", long_name="sequence number of the event"), {}),
    "time": (
        Column("float64", units="seconds since 1970-01-01", long_name="time of the event, UTC"),
        {"calendar": "proleptic_gregorian"},
    ),
}


def event_array(
    group: Path, name: str, dims: Sequence[str], shape: Sequence[int], *, growing: bool
) -> SmallArray:
    """The array `seq_num` or `time` of a group, over the scan's dims; nothing is written yet."""
    column, attributes = _EVENT_ARRAYS[name]
    return SmallArray(
        group / name,
        shape=shape,
        dims=dims,
        dtype=column.stored_dtype,
        fill_value=column.fill_value,
        growing=growing,
        units=column.units,
        long_name=column.long_name,
        attributes={"role": "event", **attributes},
    )


class StreamTable:
    """Everything small of one stream, as arrays in the group `<store>/<stream>`.

    On construction the group is made and the geometry's coordinates are written: each a 1-D float64
    array named by its axis, over its dim, with units. `declare` adds the readings, `put` fills one
    position of all of them.

    Over the scan's dims (or over "event", in order of events) lie `seq_num` (int64, 0 = no event),
    `time` (float64, seconds since 1970, as exact as the document's, NaN = no event; xarray decodes
    it to datetime64, less than a microsecond off, and NaT) and one array for each reading. A
    reading that has the name of an axis or a dim is stored as `<name>_readback`, as `x` is the
    setpoint. The attribute `role` of each array says what it holds ("setpoint", "reading",
    "event"), `data_key` which reading.

    Everything is appended to the journal before it goes into an array. A value that its column
    cannot hold (text where a float was declared) is stored as missing and stays in the journal;
    `misfits` counts these by reading, and the log has a warning for the first of each. May be used
    from several threads.

    Raises ValueError for a stream or an axis whose name cannot be used, for a published store, and
    where this stream has rows already.

    >>> import tempfile
    >>> import xarray
    >>> from scanspec.specs import Linspace
    >>> store = Path(tempfile.mkdtemp()) / "scan001.zarr"
    >>> geometry = ScanGeometry.from_spec(Linspace("x", 0, 1, 3))
    >>> table = StreamTable(store, "primary", geometry, None)
    >>> table.declare({"diode": Column("number", units="A"), "x": Column("number", units="mm")})
    >>> table.put(1, seq_num=1, time=1.76e9, data={"diode": 2.5, "x": 0.5001})
    >>> table.close()
    >>> group = xarray.open_zarr(store / "primary", consolidated=False)
    >>> group["diode"].values.tolist(), group["x"].values.tolist(), group["x_readback"].dims
    ([nan, 2.5, nan], [0.0, 0.5, 1.0], ('x',))
    """

    def __init__(
        self,
        store_path: Path,
        stream: str,
        geometry: ScanGeometry,
        journal: Journal | None,
        *,
        replay: bool = False,
    ) -> None:
        self.store_path = Path(store_path)
        self.stream = check_key(stream)
        self.geometry = geometry
        self.misfits: dict[str, int] = {}
        self._journal = journal
        self._replay = replay
        self._lock = threading.RLock()
        self._columns: dict[str, Column] = {}
        self._names: dict[str, str] = {}
        self._converters: dict[str, Callable[[Any], Any]] = {}
        self._fills: dict[str, Any] = {}
        self._setpoints: dict[str, SmallArray] = {}
        self._arrays: dict[str, SmallArray] = {}
        self._last_flush = -math.inf
        self._check_axes()
        self._open_group()
        if journal is not None:
            journal.append("stream", {"stream": stream, "geometry": geometry.to_dict()})
        self._write_coordinates()
        for name in ("seq_num", "time"):
            self._arrays[name] = event_array(
                self._group, name, geometry.names, geometry.shape, growing=geometry.growing
            )
        self._describe()

    # ------------------ making arrays

    def _check_axes(self) -> None:
        for name in self.geometry.axes:
            check_key(name)
            if "/" in name or name in RESERVED:
                raise ValueError(
                    f"an axis named {name!r} has no place in the stream {self.stream!r}: the name "
                    "is kept for the "
                    "store itself; rename the motor"
                )

    def _open_group(self) -> None:
        check_inside(self.store_path, self.stream)
        status = published_status(self.store_path)
        if status:
            raise ValueError(
                f"{str(self.store_path)!r} is published ({status}); a published store is never "
                "changed, "
                "choose another path"
            )
        if not self._replay and (self._group / "seq_num" / "c").exists():
            raise ValueError(
                f"the stream {self.stream!r} has rows already in {str(self.store_path)!r}; "
                "write a second run into a store of its own"
            )
        self._group.mkdir(parents=True, exist_ok=True)
        link_new(self._group / DOCUMENT, encode_document(group_document()))

    @property
    def _group(self) -> Path:
        return self.store_path / self.stream

    def _write_coordinates(self) -> None:
        for dim, coordinate in self.geometry.coordinates:
            self._check_free(coordinate.name, "the axis")
            array = SmallArray(
                self._group / coordinate.name,
                shape=(len(coordinate.values),),
                dims=(dim,),
                dtype="<f8",
                fill_value=math.nan,
                units=coordinate.units,
                attributes={"role": "setpoint"},
            )
            array.set_all(coordinate.values)
            array.flush()

    def _array(self, name: str, column: Column, attributes: Mapping[str, Any]) -> SmallArray:
        growing = self.geometry.growing
        return SmallArray(
            self._group / name,
            shape=(*((0,) if growing else self.geometry.shape), *column.stored_shape),
            dims=(*self.geometry.names, *column.stored_dims(name)),
            dtype=column.stored_dtype,
            fill_value=column.fill_value,
            growing=growing,
            units=column.units,
            long_name=column.long_name,
            attributes=attributes,
        )

    def _reading(self, name: str, key: str, column: Column) -> SmallArray:
        return self._array(name, column, {"role": "reading", "data_key": key})

    def declare(self, columns: Mapping[str, Column]) -> None:
        """Make an array for each reading; what is declared already in the same way is left alone.

        Raises ValueError, and declares none of them, for a name that the group keeps for itself or
        that has an array already, and for a reading that was declared differently before.
        """
        with self._lock:
            names = {key: self._checked_name(key, column) for key, column in columns.items()}
            new = {key: column for key, column in columns.items() if key not in self._columns}
            stored = [*self._names.values(), *(names[key] for key in new)]
            for key in new:
                if stored.count(names[key]) > 1:
                    raise ValueError(
                        f"the reading {key!r} would be stored as {names[key]!r}, and so would "
                        "another one of the "
                        f"stream {self.stream!r}; rename one of the two"
                    )
            if not new:
                return
            if self._journal is not None:
                described = {key: dataclasses.asdict(column) for key, column in new.items()}
                self._journal.append("columns", {"stream": self.stream, "columns": described})
            for key, column in new.items():
                self._columns[key] = column
                self._names[key] = names[key]
                self._converters[key] = column.converter()
                self._fills[key] = column.fill_value
                self._arrays[names[key]] = self._reading(names[key], key, column)
            self._describe()

    def _checked_name(self, key: str, column: Column) -> str:
        known = self._columns.get(key)
        if known is not None:
            if known != column:
                raise ValueError(
                    f"the reading {key!r} was declared as {known} in the stream {self.stream!r} "
                    f"and is now {column}; "
                    "use another stream for it"
                )
            return self._names[key]
        check_key(key)
        if key in RESERVED or "/" in key:
            raise ValueError(
                f"the reading {key!r} has a name that the store keeps for itself in every stream "
                f"({', '.join(sorted(RESERVED))}, and names with '/'); rename the device or the "
                "signal"
            )
        taken = {*self.geometry.axes, *self.geometry.names, *self._setpoints}
        name = f"{key}_readback" if key in taken else key
        self._check_free(name, "the reading")
        return name

    def _check_free(self, name: str, what: str) -> None:
        check_inside(self._group, name)
        try:
            document = read_document(self._group / name)
        except FileNotFoundError:
            return
        # Arrays of this table, from before a crash or of an attempt without a row, are written
        # anew.
        if not is_table_array(document):
            frames = name.removesuffix("_written")
            reason = f" (the counts of the frames {frames!r})" if frames != name else ""
            raise ValueError(
                f"{what} {name!r} has the name of an array that the stream {self.stream!r} holds "
                f"already{reason}; "
                "rename the device or the signal"
            )

    @property
    def names(self) -> dict[str, str]:
        """Of each reading declared, the name of its array in the group."""
        with self._lock:
            return dict(self._names)

    def _describe(self) -> None:
        """Write the documents; each names the arrays that are coordinates, but not those of a dim,
        as CF does.
        """
        dims = set(self.geometry.names)
        axes = {*self.geometry.axes, *self._setpoints}
        readbacks = [name for key, name in self._names.items() if name != key and key in axes]
        # The attribute is a list of words: a name with a blank cannot be in it.
        coordinates = [
            n for n in (*sorted(axes - dims), *readbacks) if not any(c.isspace() for c in n)
        ]
        for name, array in self._arrays.items():
            array.attributes.pop("coordinates", None)
            if coordinates and name not in coordinates:
                array.attributes["coordinates"] = " ".join(coordinates)
            array.write_document(self._length())

    # ------------------ rows

    def put(
        self,
        index: int,
        *,
        seq_num: int,
        time: float,
        data: Mapping[str, Any],
        setpoints: Mapping[str, float] | None = None,
    ) -> None:
        """Write the event at position `index` (C-order flat in the scan's shape; the row, in order
        of events).

        `time` is in seconds since 1970, `data` holds the readings by key. The last event of a
        position wins: a reading that `data` lacks is missing afterwards. Readings that were not
        declared go to the journal only. In order of events, `setpoints` become columns named by
        axis; elsewhere they are coordinates already and go to the journal.

        Raises IndexError where the scan has no such position (the event is in the journal even
        then) and OSError where the disk takes no more.
        """
        with self._lock:
            if self._journal is not None:
                row = {
                    "stream": self.stream,
                    "index": index,
                    "seq_num": seq_num,
                    "time": time,
                    "data": dict(data),
                }
                if setpoints:
                    row["setpoints"] = dict(setpoints)
                self._journal.append("row", row)
            self.set_row(index, seq_num, time, data, setpoints)
            self.flush()

    def set_row(
        self,
        index: int,
        seq_num: int,
        time: float,
        data: Mapping[str, Any],
        setpoints: Mapping[str, float] | None = None,
    ) -> None:
        """Put a row into memory only, as `fold` does with what is in the journal."""
        cell = self._cell(index)
        places: dict[tuple[int, ...], Place] = {}

        def put(array: SmallArray, value: Any) -> None:
            # Nearly all arrays are cut alike, so that a row of many readings costs one division.
            place = places.get(array.chunks)
            if place is None:
                place = places[array.chunks] = array.place(cell)
            array.set(place, value)

        put(self._arrays["seq_num"], seq_num)
        put(self._arrays["time"], time)
        for key in self._columns:
            value = self._fills[key]
            if key in data:
                try:
                    value = self._converters[key](data[key])
                except Misfit as misfit:
                    self._note(key, index, data[key], misfit)
            put(self._arrays[self._names[key]], value)
        if setpoints and self.geometry.growing:
            for axis, value in setpoints.items():
                array = self._setpoints.get(axis) or self._new_setpoint(axis)
                if array is not None:
                    put(array, value)

    def _cell(self, index: int) -> tuple[int, ...]:
        if self.geometry.growing:
            if index < 0:
                raise IndexError(
                    f"there is no row {index} in the stream {self.stream!r}: rows count from 0"
                )
            return (index,)
        if not 0 <= index < self.geometry.size:
            raise IndexError(
                f"there is no position {index} in the stream {self.stream!r}: its scan has "
                f"{self.geometry.size} "
                f"positions, {dict(zip(self.geometry.names, self.geometry.shape, strict=True))}"
            )
        cell, rest = [], index
        for length in reversed(self.geometry.shape):
            rest, i = divmod(rest, length)
            cell.append(i)
        return tuple(reversed(cell))

    def _note(self, key: str, index: int, value: Any, misfit: Misfit) -> None:
        if key not in self.misfits:
            logger.warning(
                "the reading %r of the stream %r at position %d %s: %.80r; it is stored as missing "
                "and kept in the "
                "journal (further ones are counted)",
                *(key, self.stream, index, misfit, value),
            )
        self.misfits[key] = self.misfits.get(key, 0) + 1

    def _new_setpoint(self, axis: str) -> SmallArray | None:
        """A column for the setpoints of an axis that shows up with a row; its reading makes room
        for it.
        """
        if axis in self.misfits:
            return None
        column = self._columns.get(axis)
        readback = f"{axis}_readback"
        try:
            if axis in RESERVED or "/" in check_key(axis) or axis in self.geometry.names:
                raise ValueError("the name is kept for the store itself")
            if column is not None and (column.stored_shape or readback in self._names.values()):
                raise ValueError(f"the reading of that name cannot become {readback!r}")
            self._check_free(axis, "the axis")
            if column is not None:
                self._check_free(readback, "the reading")
        except ValueError as error:
            logger.warning("the setpoints of %r are in the journal only: %s", axis, error)
            self.misfits[axis] = 1
            return None
        setpoint = self._array(axis, Column("float64"), {"role": "setpoint"})
        setpoint.rows = self._arrays["seq_num"].rows
        if column is not None:
            reading = self._reading(readback, axis, column)
            reading.take_over(self._arrays[axis])
            # Chunks on disk hold the readings under this name; they are replaced by ones without a
            # value.
            setpoint.touch(self._arrays[axis])
            setpoint.units = column.units
            self._arrays[readback] = reading
            self._names[axis] = readback
        self._setpoints[axis] = self._arrays[axis] = setpoint
        self._describe()
        return setpoint

    # ------------------ writing

    def flush(self, force: bool = False) -> None:
        """Write what has changed, unless that was done within the last second; `force` does it in
        any case.

        Raises OSError; what could not be written stays in memory and is tried again.
        """
        with self._lock:
            now = clock.monotonic()
            if not force and now - self._last_flush < FLUSH_INTERVAL:
                return
            self._last_flush = now
            self._write(self._length())

    def close(self) -> None:
        """Write everything; a table in order of events is as long as its rows from then on. May be
        called again.
        """
        with self._lock:
            self._write(0)

    def _write(self, length: int) -> None:
        length = max(length, self._arrays["seq_num"].rows)
        for array in self._arrays.values():
            array.flush(length)

    def _length(self) -> int:
        """How long the frame arrays of a growing group are: xarray opens only arrays of one length
        together.
        """
        if not self.geometry.growing:
            return 0
        frames = growing_frames(self._group, self.geometry.names[0])
        return max((document["shape"][0] for document in frames), default=0)


# ------------------ a store


def published_status(store: Path) -> str:
    """The status of a published store; empty for one that is running, and where there is none."""
    try:
        attributes = read_document(store).get("attributes", {})
    except FileNotFoundError:
        return ""
    status = attributes.get("status", "running")
    return "" if status == "running" else str(status)


def is_table_array(document: Document) -> bool:
    """Whether the document is that of an array which a `StreamTable` has written."""
    return document.get("attributes", {}).get("role") in _ROLES


def is_frame_array(document: Document) -> bool:
    """Whether the document is that of an array of frames, whose shard files hold records."""
    ours = document.get("attributes", {}).get("bluesky_zarr")
    return isinstance(ours, dict) and "array_id" in ours


def _first_dim(document: Document) -> str | None:
    return (document.get("dimension_names") or [None])[0]


def growing_frames(group: Path, dim: str) -> list[Document]:
    """The documents of the frame arrays in a group that lie over `dim` first."""
    members = [node for node in group.iterdir() if not node.name.startswith(".")]
    documents = [read_document(node) for node in members if (node / DOCUMENT).is_file()]
    return [d for d in documents if is_frame_array(d) and _first_dim(d) == dim]


def level(store: Path, *, sync: bool = False) -> None:
    """Give the arrays in order of events of each group one length, the longest: xarray opens no
    others together.

    Only documents change, elements that are new to an array read as its fill value. To be called
    once nobody writes.
    """
    groups: dict[str, dict[str, Document]] = {}
    for key, document in nodes(store):
        if document["node_type"] == "array" and _first_dim(document) == EVENT:
            parent, _, name = key.rpartition("/")
            groups.setdefault(parent, {})[name] = document
    for parent, arrays in groups.items():
        ours = {
            name: document
            for name, document in arrays.items()
            if is_table_array(document)
            or is_frame_array(document)
            or is_frame_array(arrays.get(name.removesuffix("_written"), {}))
        }
        longest = max((document["shape"][0] for document in ours.values()), default=0)
        for name, document in ours.items():
            if document["shape"][0] != longest:
                document["shape"][0] = longest
                write_document(store / parent / name, document, sync=sync)


def fold(store_path: Path) -> None:
    """Write the arrays of every stream anew from the journal beside the store.

    Gives the same arrays however often it is called; does nothing where the store is published or
    has no journal. A stream, column or row that was refused when it was journalled is passed over
    again.
    """
    store_path = Path(store_path)
    if published_status(store_path):
        return
    tables: dict[str, StreamTable] = {}
    passed_over: dict[str, int] = {}
    for kind, payload in Journal.read(store_path):
        try:
            _fold_entry(store_path, tables, kind, payload)
        except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
            if kind not in passed_over:
                logger.warning(
                    "the journal of %s: a %r cannot be stored: %s", store_path, kind, error
                )
            passed_over[kind] = passed_over.get(kind, 0) + 1
    for table in tables.values():
        table.close()


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
    elif kind == "row":
        tables[payload["stream"]].set_row(
            payload["index"],
            payload["seq_num"],
            payload["time"],
            payload["data"],
            payload.get("setpoints"),
        )
