"""The two arrays that every stream has, whatever its readings are: `seq_num` and `time`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bluesky_zarr.store._columns import Column
from bluesky_zarr.store._small import SmallArray

_COLUMNS: dict[str, tuple[Column, dict[str, str]]] = {
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
    column, attributes = _COLUMNS[name]
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
