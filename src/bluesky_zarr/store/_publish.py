"""Publication: a running store becomes a finished one, in many steps of which the last one
counts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.store._files import fsync_dir, fsync_path
from bluesky_zarr.store._metadata import (
    consolidated,
    nodes,
    open_quietly,
    plain,
    read_document,
    write_document,
)
from bluesky_zarr.store._paths import store_path
from bluesky_zarr.store._progress import counts_key
from bluesky_zarr.store._provenance import FORMAT, utc_now
from bluesky_zarr.store._shard import ShardFile
from bluesky_zarr.store._table import level

STATUSES = ("complete", "stopped", "aborted", "failed", "recovered")
"""What a published store can be."""

_PUBLISHED_INDEX = {
    "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    "index_location": "end",
}


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
    shard file gets the index that published stores have, is trimmed and synced; all other files are
    synced; the metadata of each array is replaced; directories are synced; each group gets its
    consolidated metadata; and last the root, which says the status.

    Args:
        uri: of the store, `file:///data/scan.zarr`, or an absolute path.
        status: one of `STATUSES`.
        attributes: more attributes of the root.
        reason: why, of a store that is not complete.

    Raises:
        PublishedError: it is published with another status. With the same, nothing is done.
        FileNotFoundError: there is no store.
        ValueError: no such status, the node is no store of ours, or a shard file is damaged.
        OSError: the disk refused; call it again when it does not.
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
    if root["node_type"] != "group" or found.get("format", {}).get("name") != FORMAT["name"]:
        raise ValueError(
            f"{str(store)!r} is a Zarr {root['node_type']} that bluesky-zarr did not make; "
            "nothing is done"
        )
    if found.get("status") == status:
        return
    if found.get("status") != "running":
        raise PublishedError(
            f"{str(store)!r} is published as {found.get('status')!r} already and cannot become "
            f"{status!r}; "
            "a published store is never changed"
        )
    level(store)
    members = dict(nodes(store))
    live = {key: document for key, document in members.items() if is_live(document)}
    for key, document in live.items():
        for path in shard_files(store / key):
            with ShardFile(path, entry_count(document)) as shard:
                shard.publish()
            yield f"shard {path.relative_to(store)}"
    for path in _other_files(store, live):
        fsync_path(path)
    yield "files synced"
    for key, document in live.items():
        document["codecs"][0]["configuration"].update(_PUBLISHED_INDEX)
        write_document(store / key, document, sync=True)
        yield f"array {key}"
    for directory in _directories(store):
        fsync_dir(directory)
    # The name of the store itself, without which a power cut would leave nothing.
    fsync_dir(store.parent)
    yield "directories synced"
    for key, document in members.items():
        if document["node_type"] == "group":
            write_document(store / key, consolidated(store / key), sync=True)
            yield f"group {key}"
    document = consolidated(store)
    kept = {
        name: value for name, value in document.get("attributes", {}).items() if name != "writer"
    }
    document["attributes"] = {
        **kept,
        **plain(dict(attributes or {})),
        **({"reason": reason} if reason else {}),
        "status": status,
        "published_at": utc_now(),
        "arrays": _summary(store, members),
    }
    write_document(store, document, sync=True)
    yield "root"


def is_live(document: Mapping[str, Any]) -> bool:
    """Whether a node is an array of shards that is in the phase of being written."""
    sharding = _sharding(document)
    return sharding is not None and sharding.get("index_location") == "start"


def entry_count(document: Mapping[str, Any]) -> int:
    """How many inner chunks a shard of a sharded array has."""
    sharding = _sharding(document)
    if sharding is None:
        raise ValueError("the array is not sharded")
    shard = document["chunk_grid"]["configuration"]["chunk_shape"]
    return math.prod(
        whole // part for whole, part in zip(shard, sharding["chunk_shape"], strict=True)
    )


def _sharding(document: Mapping[str, Any]) -> dict[str, Any] | None:
    codecs = document.get("codecs") or [{}]
    return codecs[0]["configuration"] if codecs[0].get("name") == "sharding_indexed" else None


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
        counts = open_quietly(store, path=counts_key(key))[...]  # pyright: ignore[reportIndexIssue, reportArgumentType]
        summary[key] = {
            "expected": ours.get("expected"),
            "written": int(np.count_nonzero(np.asarray(counts))),
        }
    return summary
