"""Frames that were written whole and are not in the index, as the disk refused in between."""

from __future__ import annotations

from collections.abc import Mapping

from bluesky_zarr.store._frame_array import Cell, Extent, FrameArray, ShardGroup, Version
from bluesky_zarr.store._shard import MISSING

_NOTHING: Extent = (MISSING, MISSING)


def enter(
    group: ShardGroup, position: Cell, extents: Mapping[Cell, Extent], wanted: Mapping[Cell, Extent]
) -> None:
    """Let the entries of a position, which hold these extents now, hold the wanted ones."""
    for tile in sorted({*extents, *wanted}):
        place, index = group.array.entry(position, tile)
        group.files[place].set_entries(index, [wanted.get(tile, _NOTHING)])


def adopt(array: FrameArray) -> int:
    """Enter in the index each whole frame that is newer than what the index points at; how many.

    Nobody may write any more. Raises OSError.
    """
    adopted = 0
    for members in array.groups():
        with ShardGroup(array, members, writable=True) as group:
            indexed = group.indexed()
            for position, versions in group.versions().items():
                extents = indexed.get(position, {})
                newer = _newer(group, versions, extents)
                if newer is not None:
                    enter(group, position, extents, newer.extents)
                    adopted += 1
    return adopted


def _newer(
    group: ShardGroup, versions: list[Version], extents: dict[Cell, Extent]
) -> Version | None:
    for version in reversed(versions):
        if version.extents == extents:
            break
        if version.number and group.is_whole(version):
            return version
    return None
