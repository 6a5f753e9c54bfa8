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
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._columns import Column, Misfit
from bluesky_zarr.store._event_arrays import event_array
from bluesky_zarr.store._files import link_new
from bluesky_zarr.store._journal import Journal
from bluesky_zarr.store._kinds import published_status
from bluesky_zarr.store._length import lengthen_in_turn
from bluesky_zarr.store._locks import directory_turn
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    encode_document,
    group_document,
)
from bluesky_zarr.store._names import RESERVED, check_axes, check_free, check_reading
from bluesky_zarr.store._paths import check_inside, check_key
from bluesky_zarr.store._small import Place, SmallArray

logger = logging.getLogger("bluesky_zarr.store")

FLUSH_INTERVAL = 1.0
"""Seconds between two writings of what has changed."""

_MAX_ROWS = 2**27
"""More events than a run has: a higher number comes from a damaged journal, and is not to be
allocated.
"""


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

    Parameters
    ----------
    store_path
        The store's directory.
    stream
        The name of the stream, and the key of its group.
    geometry
        Where its events sit; `ScanGeometry.events()` for one in order of events.
    journal
        The store's; None writes none.
    replay
        Whether rows that are there are written anew, from the journal.

    Raises
    ------
    ValueError
        A stream or an axis whose name cannot be used, a published store, or a stream that has rows
        already.

    Examples
    --------
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
        check_axes(geometry, self.stream)
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
        group = self.store_path
        group.mkdir(parents=True, exist_ok=True)
        # A stream's name may have a slash: without the group above it, readers do not find it.
        for part in self.stream.split("/"):
            group = group / part
            group.mkdir(exist_ok=True)
            link_new(group / DOCUMENT, encode_document(group_document()))

    @property
    def _group(self) -> Path:
        return self.store_path / self.stream

    def _write_coordinates(self) -> None:
        for dim, coordinate in self.geometry.coordinates:
            check_free(self._group, self.stream, coordinate.name, "the axis")
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
            array.write_document()

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

        Raises
        ------
        ValueError
            A name that the group keeps for itself or that has an array already, or a reading that
            was declared differently before. None of them is declared.
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
        check_reading(key)
        taken = {*self.geometry.axes, *self.geometry.names, *self._setpoints}
        name = f"{key}_readback" if key in taken else key
        check_free(self._group, self.stream, name, "the reading")
        return name

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
        self._write_documents()

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
        """Write the event of one position.

        The last event of a position wins: a reading that `data` lacks is missing afterwards.

        Parameters
        ----------
        index
            The position: C-order flat in the scan's shape, or the row, in order of events.
        seq_num
            The event's, from 1.
        time
            In seconds since 1970.
        data
            The readings by key. Those that were not declared go to the journal only.
        setpoints
            In order of events they become columns named by axis; elsewhere they are coordinates
            already and go to the journal.

        Raises
        ------
        IndexError
            The scan has no such position (the event is in the journal even then).
        OSError
            The disk takes no more.
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

    def put_flown(self, indices: range, *, seq_num: int, time: float) -> None:
        """Write events of neighbouring positions that have no readings, as flown frames are.

        Parameters
        ----------
        indices
            Their positions in order of acquisition: C-order, upwards or downwards by ones.
        seq_num
            That of the first one; each that follows has the next.
        time
            In seconds since 1970, the same for all.

        Raises
        ------
        IndexError
            The scan has no such positions (they are in the journal even then).
        OSError
            The disk takes no more.
        """
        with self._lock:
            if self._journal is not None:
                self._journal.append(
                    "flown",
                    {
                        "stream": self.stream,
                        "first": indices[0],
                        "last": indices[-1],
                        "seq_num": seq_num,
                        "time": time,
                    },
                )
            self.set_flown(indices, seq_num, time)
            self.flush()

    def set_flown(self, indices: range, seq_num: int, time: float) -> None:
        """Put what `put_flown` writes into memory only."""
        for end in (indices[0], indices[-1]):
            self._cell(end)
        if self._columns:  # readings of events that were there before are missing now
            for number, index in enumerate(indices, seq_num):
                self.set_row(index, number, time, {})
            return
        shape = (max(indices) + 1,) if self.geometry.growing else self.geometry.shape
        cells = np.unravel_index(np.arange(indices.start, indices.stop, indices.step), shape)
        self._arrays["seq_num"].set_line(cells, np.arange(seq_num, seq_num + len(indices)))
        self._arrays["time"].set_line(cells, np.full(len(indices), time))

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
                    f"there is no row {index} in the stream {self.stream!r}: rows count from 0, "
                    "give 0 or more"
                )
            if index >= _MAX_ROWS:
                raise IndexError(
                    f"there is no row {index} in the stream {self.stream!r}: no run has more than "
                    f"{_MAX_ROWS} events; give a lower number"
                )
            return (index,)
        if not 0 <= index < self.geometry.size:
            raise IndexError(
                f"there is no position {index} in the stream {self.stream!r}: its scan has "
                f"{self.geometry.size} "
                f"positions, {dict(zip(self.geometry.names, self.geometry.shape, strict=True))}; "
                "give an index inside of it"
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
            check_free(self._group, self.stream, axis, "the axis")
            if column is not None:
                check_free(self._group, self.stream, readback, "the reading")
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

        Raises
        ------
        OSError
            The disk takes no more; what could not be written stays in memory and is tried again.
        """
        with self._lock:
            now = clock.monotonic()
            if not force and now - self._last_flush < FLUSH_INTERVAL:
                return
            self._last_flush = now
            for array in self._arrays.values():
                array.flush()
            self._write_documents()

    def close(self) -> None:
        """Write everything. May be called again."""
        self.flush(force=True)

    def _write_documents(self) -> None:
        """Write the documents that have changed; in order of events, all of the group become as
        long as the rows.
        """
        if not self.geometry.growing:
            for array in self._arrays.values():
                array.write_document()
            return
        # Frames and other tables of the group get longer at the same time.
        with directory_turn(self._group):
            length = lengthen_in_turn(self._group, self._arrays["seq_num"].rows)
            for array in self._arrays.values():
                array.write_document(length)
