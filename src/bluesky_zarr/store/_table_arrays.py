"""The arrays of a stream's table: how they are called and made, and which are coordinates.

`StreamTable` fills and writes them; here is nothing that an event changes but the columns of
setpoints, which show up with the rows of a stream in order of events.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._columns import Column
from bluesky_zarr.store._event_arrays import event_array
from bluesky_zarr.store._files import link_new
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
from bluesky_zarr.store._small import SmallArray


class TableArrays:
    """The arrays in the group `<store>/<stream>`, by name. Making it makes the group, `begin` the
    arrays that every stream has.

    Parameters
    ----------
    store_path, stream, geometry, replay
        As for `StreamTable`, with its errors.

    Attributes
    ----------
    arrays
        All but the coordinates of the geometry, which are written once.
    columns, names, converters, fills
        Of each reading: what was declared, the name of its array, what makes a value of it one of
        the array's, and the value where there is none.
    setpoints
        In order of events, the arrays of the axes seen.
    """

    def __init__(
        self, store_path: Path, stream: str, geometry: ScanGeometry, *, replay: bool
    ) -> None:
        self.store_path = store_path
        self.stream = check_key(stream)
        self.geometry = geometry
        self.arrays: dict[str, SmallArray] = {}
        self.columns: dict[str, Column] = {}
        self.names: dict[str, str] = {}
        self.converters: dict[str, Callable[[Any], Any]] = {}
        self.fills: dict[str, Any] = {}
        self.setpoints: dict[str, SmallArray] = {}
        check_axes(geometry, self.stream)
        self._open_group(replay)

    def begin(self) -> None:
        """Write the coordinates, and make what holds the events' numbers and times."""
        self._write_coordinates()
        for name in ("seq_num", "time"):
            self.arrays[name] = event_array(
                self._group,
                name,
                self.geometry.names,
                self.geometry.shape,
                growing=self.geometry.growing,
            )
        self._describe()

    def _open_group(self, replay: bool) -> None:
        check_inside(self.store_path, self.stream)
        status = published_status(self.store_path)
        if status:
            raise ValueError(
                f"{str(self.store_path)!r} is published ({status}); a published store is never "
                "changed, choose another path"
            )
        if not replay and (self._group / "seq_num" / "c").exists():
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

    def undeclared(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Those that have no array yet, all of which `declare` can make.

        Raises
        ------
        ValueError
            As for `StreamTable.declare`.
        """
        names = {key: self._checked_name(key, column) for key, column in columns.items()}
        new = {key: column for key, column in columns.items() if key not in self.columns}
        stored = [*self.names.values(), *(names[key] for key in new)]
        for key in new:
            if stored.count(names[key]) > 1:
                raise ValueError(
                    f"the reading {key!r} would be stored as {names[key]!r}, and so would "
                    f"another one of the stream {self.stream!r}; rename one of the two"
                )
        return new

    def declare(self, new: Mapping[str, Column]) -> None:
        """Make an array for each reading that `undeclared` gave."""
        for key, column in new.items():
            name = self._checked_name(key, column)
            self.columns[key] = column
            self.names[key] = name
            self.converters[key] = column.converter()
            self.fills[key] = column.fill_value
            self.arrays[name] = self._reading(name, key, column)
        self._describe()

    def _checked_name(self, key: str, column: Column) -> str:
        known = self.columns.get(key)
        if known is not None:
            if known != column:
                raise ValueError(
                    f"the reading {key!r} was declared as {known} in the stream {self.stream!r} "
                    f"and is now {column}; "
                    "use another stream for it"
                )
            return self.names[key]
        check_reading(key)
        taken = {*self.geometry.axes, *self.geometry.names, *self.setpoints}
        name = f"{key}_readback" if key in taken else key
        check_free(self._group, self.stream, name, "the reading")
        return name

    def _describe(self) -> None:
        """Write the documents; each names the arrays that are coordinates, but not those of a dim,
        as CF does.
        """
        dims = set(self.geometry.names)
        axes = {*self.geometry.axes, *self.setpoints}
        readbacks = [name for key, name in self.names.items() if name != key and key in axes]
        # The attribute is a list of words: a name with a blank cannot be in it.
        coordinates = [
            n for n in (*sorted(axes - dims), *readbacks) if not any(c.isspace() for c in n)
        ]
        for name, array in self.arrays.items():
            array.attributes.pop("coordinates", None)
            if coordinates and name not in coordinates:
                array.attributes["coordinates"] = " ".join(coordinates)
        self._write_documents()

    def add_setpoint(self, axis: str) -> SmallArray:
        """A column for the setpoints of an axis that shows up with a row; its reading makes room
        for it.

        Raises
        ------
        ValueError
            There can be no array of that name.
        """
        column = self.columns.get(axis)
        readback = f"{axis}_readback"
        if axis in RESERVED or "/" in check_key(axis) or axis in self.geometry.names:
            raise ValueError("the name is kept for the store itself")
        if column is not None and (column.stored_shape or readback in self.names.values()):
            raise ValueError(f"the reading of that name cannot become {readback!r}")
        check_free(self._group, self.stream, axis, "the axis")
        if column is not None:
            check_free(self._group, self.stream, readback, "the reading")
        setpoint = self._array(axis, Column("float64"), {"role": "setpoint"})
        setpoint.rows = self.arrays["seq_num"].rows
        if column is not None:
            reading = self._reading(readback, axis, column)
            reading.take_over(self.arrays[axis])
            # Chunks on disk hold the readings under this name; they are replaced by ones without a
            # value.
            setpoint.touch(self.arrays[axis])
            setpoint.units = column.units
            self.arrays[readback] = reading
            self.names[axis] = readback
        self.setpoints[axis] = self.arrays[axis] = setpoint
        self._describe()
        return setpoint

    # ------------------ writing

    def flush(self) -> None:
        """Write what has changed. Raises OSError; what could not be written stays in memory."""
        for array in self.arrays.values():
            array.flush()
        self._write_documents()

    def _write_documents(self) -> None:
        """Write the documents that have changed; in order of events, all of the group become as
        long as the rows.
        """
        if not self.geometry.growing:
            for array in self.arrays.values():
                array.write_document()
            return
        # Frames and other tables of the group get longer at the same time.
        with directory_turn(self._group):
            length = lengthen_in_turn(self._group, self.arrays["seq_num"].rows)
            for array in self.arrays.values():
                array.write_document(length)
