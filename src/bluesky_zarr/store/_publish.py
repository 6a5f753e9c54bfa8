"""Publication: a running store becomes a finished one, in many steps of which the last one
counts.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.store._adopt import adopt
from bluesky_zarr.store._files import SyncError, fsync_all, fsync_dir, link_again
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._kinds import is_frame_array, is_live, made_by, sharding
from bluesky_zarr.store._length import level
from bluesky_zarr.store._locks import directory_turn
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    consolidated,
    nodes,
    plain,
    read_document,
    read_whole,
    write_document,
    write_whole,
)
from bluesky_zarr.store._paths import store_path
from bluesky_zarr.store._progress import counts_key
from bluesky_zarr.store._provenance import FORMAT, utc_now
from bluesky_zarr.store._shard import MISSING, ShardFile

STATUSES = ("complete", "stopped", "aborted", "failed", "recovered")
"""What a published store can be."""

_PUBLISHED_INDEX = {
    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    "index_location": "end",
}


ON_DISK = f".{DOCUMENT}.flushed"
"""The second name of a document that a flush has brought to disk."""

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What a disk says that is full."""


class PublishedError(ValueError):
    """The store is published already, as something else."""


def publish(
    uri: str | Path,
    *,
    status: str = "complete",
    attributes: Mapping[str, Any] | None = None,
    reason: str = "",
) -> None:
    """Publish the store at a URI: make it final, with this status.

    A function of what is on disk: no writer needs to be open, and none may still be writing. It can
    be killed at any moment and be called again; readers are right at every moment. The order: each
    shard file gets the index that published stores have, is trimmed and synced; lengths and counts
    are set right; all other files are synced; the metadata of each array is replaced; directories
    are synced; each group gets its consolidated metadata; and last the root, which says the status.

    Parameters
    ----------
    uri
        Of the store, `file:///data/scan.zarr`, or an absolute path.
    status
        One of `STATUSES`.
    attributes
        More attributes of the root.
    reason
        Why, of a store that is not complete.

    Raises
    ------
    PublishedError
        It is published with another status. With the same, nothing is done.
    FileNotFoundError
        There is no store.
    ValueError
        No such status, the node is no store of ours, or a shard file is damaged.
    OSError
        The disk refused; call it again when it does not. Where it is known to have lost something
        (an fsync failed), the store cannot become complete any more: publish it as failed.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_zarr.store import ZarrWriter
    >>> writer = ZarrWriter(tempfile.mkdtemp() + "/scan.zarr")
    >>> publish(writer.uri, status="aborted", reason="the beam was lost")
    >>> read_document(writer.path)["attributes"]["status"]
    'aborted'
    """
    for _ in publication_steps(
        store_path(uri), status=status, attributes=attributes, reason=reason
    ):
        pass


def publication_steps(
    store: Path, *, status: str, attributes: Mapping[str, Any] | None = None, reason: str = ""
) -> Iterator[str]:
    """Publish step by step: each item says what was just done. To stop in between is as harmless as
    to be killed.
    """
    if status not in STATUSES:
        raise ValueError(f"status {status!r} is none of {', '.join(map(repr, STATUSES))}")
    root = read_document(store)
    found = root.get("attributes", {})
    if root["node_type"] != "group" or made_by(found) != FORMAT["name"]:
        raise ValueError(
            f"{str(store)!r} is a Zarr {root['node_type']} that bluesky-zarr did not make; "
            "nothing is done: give the path of a store"
        )
    if found.get("status") == status:
        return
    if found.get("status") != "running":
        raise PublishedError(
            f"{str(store)!r} is published as {found.get('status')!r} already and cannot become "
            f"{status!r}; "
            "a published store is never changed"
        )
    lost = found.get("sync_failed", "")
    if lost and status == "complete":
        raise OSError(
            errno.EIO,
            f"{lost}; look at it with validate(path, deep=True), then publish it with "
            "status='failed'",
            str(store),
        )
    reason = "; ".join(filter(None, (reason, lost)))
    with noting_lost(store):
        yield from _steps(store, status, dict(attributes or {}), reason)


def release_reserve(store: Path, key: str = "") -> None:
    """Give back the room that was set aside for publication, of one array of frames or of all.

    For a disk that is full, when nobody writes there any more: what else belongs to the end of a
    run is written into it. Their shard files get the index that publication would append now.
    """
    members = {key: read_document(store / key)} if key else dict(nodes(store))
    for name, document in members.items():
        if is_live(document):
            for path in shard_files(store / name):
                with ShardFile(path, entry_count(document)) as shard:
                    shard.finish()


def sync_node(node: Path) -> None:
    """Wait until an array, its counts and the groups above it can be found on disk; raises
    SyncError.

    The document of the array that is on disk gets a second name: that of an array that grows is
    replaced without waiting for the disk, and a power cut may leave the new one empty.
    """
    enclosing = list(
        itertools.takewhile(lambda path: (path / DOCUMENT).exists(), (node, *node.parents))
    )
    counts = node.with_name(counts_key(node.name))
    fsync_all(path / DOCUMENT for path in (counts, *enclosing))
    link_again(node / DOCUMENT, node / ON_DISK)
    # The last one holds the name of the store.
    fsync_all([counts, *enclosing, enclosing[-1].parent])


def sync_small_files(store: Path) -> None:
    """Wait until all of a running store but its shard files is on disk; raises SyncError."""
    live = {key: document for key, document in nodes(store) if is_live(document)}
    with noting_lost(store):
        fsync_all(_other_files(store, live))
        fsync_all(_directories(store))
        fsync_dir(store.parent)


@contextlib.contextmanager
def noting_lost(store: Path) -> Iterator[None]:
    """Write down in a running store that the disk lost something of it, for whoever publishes it
    next: the system would call it written when it is asked again.
    """
    try:
        yield
    except SyncError as error:
        _note_lost(store, error)
        raise


def _note_lost(store: Path, error: SyncError) -> None:
    where = Path(error.filename)
    name = where.relative_to(store) if where.is_relative_to(store) else where
    with contextlib.suppress(OSError, ValueError), directory_turn(store):
        root = read_document(store)
        if root["attributes"].get("status") == "running":
            root["attributes"].setdefault(
                "sync_failed",
                f"{str(name)!r} could not be forced to disk ({error.strerror}), and after a power "
                "cut may not be what was written",
            )
            write_document(store, root)


def _steps(store: Path, status: str, attributes: dict[str, Any], reason: str) -> Iterator[str]:
    live = {key: document for key, document in nodes(store) if is_live(document)}
    # First, as it frees what was set aside for the rest.
    for key, document in live.items():
        if status == "failed" and is_frame_array(document):
            adopt(FrameArray(store, key, document))
        for path in shard_files(store / key):
            with ShardFile(path, entry_count(document)) as shard:
                shard.publish()
            yield f"shard {path.relative_to(store)}"
    level(store)
    members = dict(nodes(store))
    for key, document in members.items():
        if is_frame_array(document) and counts_key(key) in members:
            _set_counts_right(FrameArray(store, key, document), store / counts_key(key))
    live = {key: members[key] for key in live}
    fsync_all(_other_files(store, live))
    yield "files synced"
    for key, document in live.items():
        document["codecs"][0]["configuration"].update(_PUBLISHED_INDEX)
        document["attributes"].get("bluesky_zarr", {}).pop("writer", None)
        write_document(store / key, document, sync=True)
        (store / key / ON_DISK).unlink(missing_ok=True)
        yield f"array {key}"
    fsync_all(_directories(store))
    # The name of the store itself, without which a power cut would leave nothing.
    fsync_dir(store.parent)
    yield "directories synced"
    for key, document in members.items():
        if document["node_type"] == "group":
            write_document(store / key, consolidated(store / key), sync=True)
            yield f"group {key}"
    with directory_turn(store):
        # Attributes that someone sets at this moment are in it, or are refused.
        document = consolidated(store)
        attributes_now = document.get("attributes", {})
        gone = ("writer", "sync_failed")
        kept = {name: value for name, value in attributes_now.items() if name not in gone}
        document["attributes"] = {
            **kept,
            **plain(attributes),
            **({"reason": reason} if reason else {}),
            "status": status,
            "published_at": utc_now(),
            "arrays": _summary(store, members),
        }
        write_document(store, document, sync=True)
    yield "root"


def _set_counts_right(array: FrameArray, node: Path) -> None:
    """Where the counts on disk are older than the index, because a writer died: 1 for what nobody
    counted, and 0 for what is not there.
    """
    counts = read_whole(node)
    if array.group > 1:
        right = np.zeros_like(counts)
        for members in array.groups():
            with ShardGroup(array, members) as group:
                for position, count in group.readable().items():
                    right[position] = max(count, counts[position])
        if not np.array_equal(right, counts):
            write_whole(node, right)
        return
    entries = 0
    for _, path in array.files():
        with ShardFile(path, array.entries, writable=False) as file:
            entries += int(np.count_nonzero(file.read_index()[:, 0] != np.uint64(MISSING)))
    # Looking at each position takes too long for what is nearly never needed.
    if entries == np.count_nonzero(counts) * math.prod(array.tiles):
        return
    right = np.zeros_like(counts)
    for members in array.groups():
        with ShardGroup(array, members) as group:
            for position, tiles in group.indexed().items():
                if group.is_complete(tiles):
                    right[position] = max(1, counts[position])
    write_whole(node, right)


def entry_count(document: Mapping[str, Any]) -> int:
    """How many inner chunks a shard of a sharded array has."""
    found = sharding(dict(document))
    if found is None:
        raise ValueError("the array is not sharded")
    shard = document["chunk_grid"]["configuration"]["chunk_shape"]
    return math.prod(whole // part for whole, part in zip(shard, found["chunk_shape"], strict=True))


def shard_files(node: Path) -> Iterator[Path]:
    """The files of chunks of an array, in order of their coordinates."""

    def order(name: str) -> int:
        return int(name) if name.isdecimal() else -1

    for directory, names, files in os.walk(node / "c"):
        names.sort(key=order)
        for name in sorted(files, key=order):
            if name.isdecimal():
                yield Path(directory, name)


def _other_files(store: Path, live: Mapping[str, Any]) -> Iterator[Path]:
    shards = {store / key / "c" for key in live}
    for directory, names, files in os.walk(store):
        names[:] = [name for name in names if Path(directory, name) not in shards]
        for name in files:
            path = Path(directory, name)
            if not name.endswith(".tmp") and not path.is_symlink():
                yield path


def _directories(store: Path) -> Iterator[Path]:
    for directory, _, _ in os.walk(store, topdown=False):
        yield Path(directory)


def _summary(store: Path, members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    summary = {}
    for key, document in members.items():
        ours = document.get("attributes", {}).get("bluesky_zarr")
        if ours is None or counts_key(key) not in members:
            continue
        counts = read_whole(store / counts_key(key))
        summary[key] = {
            "expected": ours.get("expected"),
            "written": int(np.count_nonzero(counts)),
        }
    return summary
