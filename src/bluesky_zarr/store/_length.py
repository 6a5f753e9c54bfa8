"""How long the arrays in order of events are: one length for all of a group, as xarray wants it.

Frames, their counts and the columns of the table all lie over "event". While a run goes on they
get longer together, whoever needs it first: a document is replaced by rename, those of one group in
a row, so that a reader finds them at one length except for some tens of microseconds. A frame is
stored only when its array is long enough, so what is announced is always inside. Nothing gets
shorter before publication, which trims the group to the last position that was used.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bluesky_zarr.store._files import replace_all
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._kinds import EVENT, first_dim, holds_frames, is_frame_array, is_table_array
from bluesky_zarr.store._locks import directory_turn
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    Document,
    encode_document,
    nodes,
    read_document,
    read_whole,
)
from bluesky_zarr.store._shard import ShardFile


def lengthen(group: Path, length: int) -> int:
    """Make every array in order of events of a group at least this long, and all of one length.

    Returns that length. Safe from several threads and processes. Raises OSError.
    """
    with directory_turn(group):
        return lengthen_in_turn(group, length)


def lengthen_in_turn(group: Path, length: int) -> int:
    """As `lengthen`, for a caller that has its `directory_turn` already."""
    arrays = _in_order_of_events(_members(group))
    length = max(length, *(document["shape"][0] for document in arrays.values()), 0)
    _set_lengths(group, arrays, length)
    return length


def trim(group: Path) -> None:
    """As `level`, for one group and when its last frame has come, while its table goes on.

    Where the group has frames of several sources, nothing is done: another one may rely on the
    length there is.
    """
    with directory_turn(group):
        arrays = _in_order_of_events(_members(group))
        if sum(map(is_frame_array, arrays.values())) == 1:
            _set_lengths(group, arrays, _used(group, arrays))


def level(store: Path) -> None:
    """Give the arrays in order of events of each group the length up to the last position used.

    That is the last one with a frame in a shard's index, or with an event. Only documents change:
    no chunk is deleted, and elements that are new to an array read as its fill value. Nobody may
    write any more.
    """
    groups: dict[str, dict[str, Document]] = {}
    for key, document in nodes(store):
        parent, _, name = key.rpartition("/")
        groups.setdefault(parent, {})[name] = document
    for parent, documents in groups.items():
        arrays = _in_order_of_events(documents)
        _set_lengths(store / parent, arrays, _used(store / parent, arrays))


def _members(group: Path) -> dict[str, Document]:
    return {
        node.name: read_document(node)
        for node in group.iterdir()
        if not node.name.startswith(".") and (node / DOCUMENT).is_file()
    }


def _in_order_of_events(documents: dict[str, Document]) -> dict[str, Document]:
    def ours(name: str, document: Document) -> bool:
        counted = documents.get(name.removesuffix("_written"), {})
        return is_table_array(document) or holds_frames(document) or holds_frames(counted)

    return {
        name: document
        for name, document in documents.items()
        if document["node_type"] == "array"
        and first_dim(document) == EVENT
        and ours(name, document)
    }


def _set_lengths(group: Path, arrays: dict[str, Document], length: int) -> None:
    changed = {}
    for name, document in arrays.items():
        if document["shape"][0] != length:
            document["shape"][0] = length
            changed[group / name / DOCUMENT] = encode_document(document)
    replace_all(changed)


def _used(group: Path, arrays: dict[str, Document]) -> int:
    return max((_used_by(group, name, document) for name, document in arrays.items()), default=0)


def _used_by(group: Path, name: str, document: Document) -> int:
    """Up to where an array says by itself that something was measured; 0 for one that cannot."""
    try:
        if is_frame_array(document):
            return _used_by_frames(FrameArray(group, name, document))
        if holds_frames(document):
            # It was re-laid from one that had its length.
            return document["shape"][0]
        if name == "seq_num":
            numbers = read_whole(group / name)
            return int(np.flatnonzero(numbers)[-1]) + 1 if numbers.any() else 0
    except ValueError:
        # Damaged: what can be read of it must not be cut off.
        return document["shape"][0]
    return 0


def _used_by_frames(array: FrameArray) -> int:
    last = 0
    for group in reversed(list(array.groups())):
        if array.group > 1:
            with ShardGroup(array, group) as shards:
                last = max((position[0] + 1 for position in shards.readable()), default=0)
            if last:
                break
            continue
        for place, path in group:
            with ShardFile(path, array.entries, writable=False) as file:
                found = file.present()
                if found:
                    position, _ = array.locate(place, found[-1][0])
                    last = max(last, position[0] + 1)
        if last:
            break
    return last
