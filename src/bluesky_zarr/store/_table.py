"""What is small in a stream's group: coordinates, readings, `seq_num` and `time`, one element per
position. How the arrays are called and made is in `_table_arrays`.

These arrays are written at most once a second. What a crash takes with it is in the journal, and
`fold` puts it back.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import threading
import time as clock
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._columns import Column, Misfit
from bluesky_zarr.store._journal import Journal
from bluesky_zarr.store._paths import check_key
from bluesky_zarr.store._small import Place, SmallArray
from bluesky_zarr.store._table_arrays import TableArrays

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
        self._lock = threading.RLock()
        self._last_flush = -math.inf
        self._refused: set[str] = set()
        self._table = TableArrays(self.store_path, stream, geometry, replay=replay)
        self._arrays = self._table.arrays
        if journal is not None:
            journal.append("stream", {"stream": stream, "geometry": geometry.to_dict()})
        self._table.begin()

    def declare(self, columns: Mapping[str, Column]) -> None:
        """Make an array for each reading; what is declared already in the same way is left alone.

        Raises
        ------
        ValueError
            A name that the group keeps for itself or that has an array already, or a reading that
            was declared differently before. None of them is declared.
        """
        with self._lock:
            new = self._table.undeclared(columns)
            if not new:
                return
            if self._journal is not None:
                described = {key: dataclasses.asdict(column) for key, column in new.items()}
                self._journal.append("columns", {"stream": self.stream, "columns": described})
            self._table.declare(new)

    @property
    def names(self) -> dict[str, str]:
        """Of each reading declared, the name of its array in the group."""
        with self._lock:
            return dict(self._table.names)

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
        if self._table.columns:  # readings of events that were there before are missing now
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
        table = self._table
        for key in table.columns:
            value = table.fills[key]
            if key in data:
                try:
                    value = table.converters[key](data[key])
                except Misfit as misfit:
                    self._note(key, index, data[key], misfit)
            put(self._arrays[table.names[key]], value)
        if setpoints and self.geometry.growing:
            for axis, value in setpoints.items():
                array = self._setpoint(axis)
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

    def _setpoint(self, axis: str) -> SmallArray | None:
        array = self._table.setpoints.get(axis)
        if array is None and axis not in self._refused:
            try:
                array = self._table.add_setpoint(axis)
            except ValueError as error:
                logger.warning("the setpoints of %r are in the journal only: %s", axis, error)
                self._refused.add(axis)
                self.misfits[axis] = self.misfits.get(axis, 0) + 1
        return array

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
            self._table.flush()

    def close(self) -> None:
        """Write everything. May be called again."""
        self.flush(force=True)
