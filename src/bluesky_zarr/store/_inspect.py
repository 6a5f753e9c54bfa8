"""What is in a store: its arrays, how they are cut, how much of them is there, and what that takes
on disk.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_zarr._text import human_bytes, table
from bluesky_zarr.store._findings import findings
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._journal import Journal
from bluesky_zarr.store._kinds import holds_frames, is_frame_array
from bluesky_zarr.store._metadata import Document, nodes, read_document
from bluesky_zarr.store._paths import local_path
from bluesky_zarr.store._shard import aligned, record_bytes

_SHOWN = ("plan_name", "scan_id", "run_uid", "created_at", "published_at", "reason")


@dataclass(frozen=True)
class ArraySummary:
    """One array: `chunks` is the smallest piece that is read, `shards` that of a file (None if they
    are the same).

    `expected` and `written` are positions of frames (None where the array holds none, or nobody
    knows), `dead_bytes` those of frames that were written again or taken back.
    """

    key: str
    dims: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None
    codec: str
    expected: int | None
    written: int | None
    bytes_on_disk: int
    files: int
    dead_bytes: int


@dataclass(frozen=True)
class StoreSummary:
    """A store at one moment; prints as a table. `findings` are an adaptive scan's, as text."""

    path: Path
    status: str
    attributes: Mapping[str, Any]
    arrays: tuple[ArraySummary, ...]
    bytes_on_disk: int
    files: int
    dead_bytes: int
    journal_bytes: int | None
    findings: str = ""

    def __str__(self) -> str:
        facts = [
            f"{name} {self.attributes[name]}"
            for name in _SHOWN
            if self.attributes.get(name) is not None
        ]
        lines = [f"{self.path}: {self.status or 'not written by bluesky-zarr'}"]
        lines += [f"  {fact}" for fact in facts]
        size = f"  {human_bytes(self.bytes_on_disk)} in {self.files} files"
        if self.dead_bytes:
            size += f", {human_bytes(self.dead_bytes)} of them frames that were replaced"
        lines.append(size)
        if self.journal_bytes is not None:
            lines.append(f"  {human_bytes(self.journal_bytes)} in the journal beside it")
        rows = [
            (
                array.key,
                " ".join(f"{dim}:{n}" for dim, n in zip(array.dims, array.shape, strict=True)),
                array.dtype,
                _times(array.chunks),
                _times(array.shards) if array.shards else "-",
                array.codec,
                _frames(array),
                human_bytes(array.bytes_on_disk),
                str(array.files),
            )
            for array in self.arrays
        ]
        head = ("array", "dims", "dtype", "chunks", "shards", "codec", "frames", "size", "files")
        found = ["", self.findings] if self.findings else []
        return "\n".join([*lines, "", table(head, rows), *found])


def inspect(path: str | Path) -> StoreSummary:
    """Look at a store, published or running, or at any other Zarr v3 group; nothing is changed.

    Raises
    ------
    FileNotFoundError
        There is no Zarr v3 group or array.
    ValueError
        Its `zarr.json` is damaged.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_zarr.store import ZarrWriter
    >>> inspect(ZarrWriter(tempfile.mkdtemp() + "/scan.zarr").path).status
    'running'
    """
    store = local_path(path)
    root = read_document(store)
    attributes = root.get("attributes") or {}
    is_array = root["node_type"] == "array"
    documents = [("", root)] if is_array else nodes(store)
    arrays = tuple(
        _array(store, key, document, attributes.get("arrays") or {})
        for key, document in documents
        if document["node_type"] == "array"
    )
    sizes = list(_sizes(store))
    journal = Journal.path_of(store)
    return StoreSummary(
        path=store,
        status=str(attributes.get("status", "")),
        attributes=attributes,
        arrays=arrays,
        bytes_on_disk=sum(sizes),
        files=len(sizes),
        dead_bytes=sum(array.dead_bytes for array in arrays),
        journal_bytes=journal.stat().st_size if journal.exists() else None,
        findings="" if is_array else findings(store),
    )


def _array(store: Path, key: str, document: Document, noted: Mapping[str, Any]) -> ArraySummary:
    sizes = list(_sizes(store / key))
    grid = tuple(document["chunk_grid"]["configuration"].get("chunk_shape", document["shape"]))
    codecs: Sequence[Mapping[str, Any]] = document["codecs"]
    chunks, shards = grid, None
    if codecs and codecs[0]["name"] == "sharding_indexed":
        sharding = codecs[0]["configuration"]
        chunks, shards, codecs = tuple(sharding["chunk_shape"]), grid, sharding["codecs"]
    expected = written = None
    dead = 0
    if is_frame_array(document):
        frames = FrameArray(store, key, document)
        expected = document["attributes"]["bluesky_zarr"].get("expected")
        written, dead = _count(frames)
    elif holds_frames(document):
        expected = document["attributes"]["bluesky_zarr"].get("expected")
        written = (noted.get(key) or {}).get("written")
    dtype = document["data_type"]
    return ArraySummary(
        key=key,
        dims=tuple(
            str(name)
            for name in document.get("dimension_names") or [f"dim_{i}" for i in range(len(grid))]
        ),
        shape=tuple(document["shape"]),
        dtype=dtype if isinstance(dtype, str) else str(dtype.get("name")),
        chunks=chunks,
        shards=shards,
        codec=_codec(codecs),
        expected=expected,
        written=written,
        bytes_on_disk=sum(sizes),
        files=len(sizes),
        dead_bytes=dead,
    )


def _count(array: FrameArray) -> tuple[int, int]:
    """How many positions can be read, and how many bytes of the log nobody reads any more."""
    written = dead = 0
    for members in array.groups():
        with ShardGroup(array, members) as group:
            indexed = group.indexed().values()
            written += len(group.readable())
            used = sum(record_bytes(array.lead, n) for tiles in indexed for _, n in tiles.values())
            for file in group.files.values():
                end_index = file.header_bytes + 4 if array.published else 0
                dead += max(0, file.size - end_index - aligned(file.header_bytes))
            dead -= used
    return written, max(dead, 0)


def _sizes(directory: Path) -> Iterator[int]:
    for parent, _, names in os.walk(directory):
        for name in names:
            # A temporary file of a running writer may be gone again.
            with contextlib.suppress(FileNotFoundError):
                yield os.lstat(os.path.join(parent, name)).st_size


def _codec(codecs: Sequence[Mapping[str, Any]]) -> str:
    for codec in codecs:
        configuration = codec.get("configuration") or {}
        if codec["name"] == "blosc":
            return f"blosc-{configuration.get('cname')}-{configuration.get('clevel')}"
        if codec["name"] == "zstd":
            return f"zstd-{configuration.get('level')}"
        if codec["name"] not in ("bytes", "crc32c", "vlen-utf8"):
            return str(codec["name"])
    return "none"


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _frames(array: ArraySummary) -> str:
    if array.written is None:
        return "-"
    return f"{array.written}/{'?' if array.expected is None else array.expected}"
