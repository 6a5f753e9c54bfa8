"""Which names the arrays of a stream's group can have: its own are reserved, no two are alike."""

from __future__ import annotations

from pathlib import Path

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store._kinds import is_table_array
from bluesky_zarr.store._metadata import DOCUMENT, read_document
from bluesky_zarr.store._paths import check_inside, check_key

RESERVED = frozenset({"seq_num", "time", DOCUMENT})
"""Names that a stream's group keeps for itself."""


def check_axes(geometry: ScanGeometry, stream: str) -> None:
    """Raise ValueError where an axis has a name that cannot be that of an array."""
    for name in geometry.axes:
        check_key(name)
        if "/" in name or name in RESERVED:
            raise ValueError(
                f"an axis named {name!r} has no place in the stream {stream!r}: the name is kept "
                "for the store itself; rename the motor"
            )


def check_reading(key: str) -> None:
    """Raise ValueError where a reading has a name that cannot be that of an array."""
    check_key(key)
    if key in RESERVED or "/" in key:
        raise ValueError(
            f"the reading {key!r} has a name that the store keeps for itself in every stream "
            f"({', '.join(sorted(RESERVED))}, and names with '/'); rename the device or the signal"
        )


def check_free(group: Path, stream: str, name: str, what: str) -> None:
    """Raise ValueError where the group has an array of that name which no table wrote; `what` is to
    have it.
    """
    check_inside(group, name)
    try:
        document = read_document(group / name)
    except FileNotFoundError:
        return
    # Arrays of this table, from before a crash or of an attempt without a row, are written anew.
    if not is_table_array(document):
        frames = name.removesuffix("_written")
        reason = f" (the counts of the frames {frames!r})" if frames != name else ""
        raise ValueError(
            f"{what} {name!r} has the name of an array that the stream {stream!r} holds "
            f"already{reason}; rename the device or the signal"
        )
