"""Is a store what it says it is? Looks, changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bluesky_zarr._text import counted
from bluesky_zarr.store._check_relaid import check_relaid
from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._frame_array import (
    Cell,
    FrameArray,
    ShardGroup,
)
from bluesky_zarr.store._identity import is_alive
from bluesky_zarr.store._kinds import holds_frames, is_frame_array, made_by
from bluesky_zarr.store._metadata import Document, nodes, open_quietly, read_document
from bluesky_zarr.store._paths import local_path
from bluesky_zarr.store._provenance import FORMAT
from bluesky_zarr.store._report import Report

STATUSES = ("running", "complete", "stopped", "aborted", "failed", "recovered")

_RESTORE = "restore it from a copy"
_RESTORE_SHARD = "restore the shard file from a copy; the other frames can be read"


def validate(path: str | Path, deep: bool = False) -> Report:
    """Check a store, published or running: metadata, every index entry and record head, and that
    all agree.

    With `deep`, every chunk is read, too, and its checksum compared; that takes as long as reading
    the store. A Zarr v3 store that was not written by bluesky-zarr is checked as far as it goes,
    and the report says so. The report is false when something is wrong; each problem names the
    array, the position, the value and what to do. Nothing is changed.

    Parameters
    ----------
    path
        A path or `file://` URI.
    deep
        Read every chunk.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_zarr.store import ZarrWriter
    >>> print(validate(ZarrWriter(tempfile.mkdtemp() + "/scan.zarr").path))
    validate ...scan.zarr (running): ok
      looked at 0 arrays (without reading chunks)
    """
    store = local_path(path)
    report = Report(store, "validate")
    try:
        root = read_document(store)
    except (OSError, ValueError) as error:
        report.add(str(store), str(error), "check the path")
        return report
    _Validation(store, root, report, deep).run()
    return report


class _Validation:
    def __init__(self, store: Path, root: Document, report: Report, deep: bool) -> None:
        self.store = store
        self.root = root
        self.report = report
        self.deep = deep
        self.attributes: dict[str, Any] = root.get("attributes") or {}
        self.ours = made_by(self.attributes) == FORMAT["name"]
        report.status = str(self.attributes.get("status", "")) if self.ours else ""
        self.live = report.status == "running"
        self.documents: dict[str, Document] = {}
        self.counts = {"shard file": 0, "frame": 0, "chunk": 0}

    def run(self) -> None:
        if self.root["node_type"] == "array":
            self.documents[""] = self.root
        else:
            damaged = lambda node, error: self.report.add(str(node), str(error), _RESTORE)  # noqa: E731
            self.documents.update(nodes(self.store, on_error=damaged))
        if self.ours:
            self._root()
        else:
            self.report.notes.append(
                "not written by bluesky-zarr: it was checked that every array opens and its dims "
                "have names" + (", and that every chunk can be read" if self.deep else "")
            )
        arrays = {
            key: document
            for key, document in self.documents.items()
            if document["node_type"] == "array"
        }
        for key, document in arrays.items():
            array = self._opens(key)
            self._dims(key, document)
            if array is None:
                continue
            if is_frame_array(document):
                self._frames(key, document)
                continue
            if self.ours and holds_frames(document):
                noted = (self.attributes.get("arrays") or {}).get(key) or {}
                check_relaid(self.store, key, document, noted, self.report)
            if self.deep:
                self._chunks(key, document, array)
        self._lengths(arrays)
        looked_at = [
            counted(len(arrays), "array"),
            *(counted(number, noun) for noun, number in self.counts.items() if number),
        ]
        self.report.notes.append(
            f"looked at {', '.join(looked_at)}" + ("" if self.deep else " (without reading chunks)")
        )

    # ------------------ metadata

    def _root(self) -> None:
        where = "root attributes"
        status = self.attributes.get("status")
        if status not in STATUSES:
            self.report.add(
                where, f"the status is {status!r}, not one of {', '.join(STATUSES)}", _RESTORE
            )
        if self.live:
            writer = self.attributes.get("writer")
            if not isinstance(writer, Mapping):
                self.report.add(
                    where, "the status is 'running' and no 'writer' is named", "recover it"
                )
            elif is_alive(writer) is False:
                self.report.add(
                    where,
                    f"the status is 'running', but its writer (process {writer.get('pid')}) has "
                    "ended",
                    f"run recover({str(self.store)!r})",
                )
            return
        for name in ("created_at", "published_at", "versions", "arrays"):
            if name not in self.attributes:
                self.report.add(where, f"{name!r} is missing in a published store", _RESTORE)
        self._consolidated("", self.root)
        for key, document in self.documents.items():
            if document["node_type"] == "group" and "consolidated_metadata" in document:
                self._consolidated(key, document)

    def _consolidated(self, group: str, document: Document) -> None:
        where = f"{group or 'root'}: consolidated metadata"
        inside = (document.get("consolidated_metadata") or {}).get("metadata")
        if not isinstance(inside, dict):
            self.report.add(where, "there is none in a published store", "publish it again")
            return
        prefix = f"{group}/" if group else ""
        here = {
            key.removeprefix(prefix): d
            for key, d in self.documents.items()
            if key.startswith(prefix)
        }
        for key in sorted({*inside, *here}):
            if key not in inside or key not in here:
                missing = "the consolidated metadata" if key not in inside else "the store"
                self.report.add(where, f"{prefix}{key} is missing in {missing}", _RESTORE)
            elif _bare(inside[key]) != _bare(here[key]):
                self.report.add(where, f"{prefix}{key} differs from its own zarr.json", _RESTORE)

    def _opens(self, key: str) -> zarr.Array | None:
        try:
            array = open_quietly(self.store, path=key or None)
        except (
            Exception
        ) as error:  # Whatever zarr-python says about a document is what a reader would get.
            self.report.add(
                key, f"zarr-python cannot open it: {error}", "restore its zarr.json from a copy"
            )
            return None
        return array if isinstance(array, zarr.Array) else None

    def _dims(self, key: str, document: Document) -> None:
        names, shape = document.get("dimension_names"), document["shape"]
        if names is None or None in names or len(names) != len(shape):
            self.report.add(
                key,
                f"its dims are named {names}, its shape is {tuple(shape)}: xarray cannot open it",
                "add dimension_names to its zarr.json",
            )
            return
        older = (document.get("attributes") or {}).get("_ARRAY_DIMENSIONS")
        if self.ours and older != names:
            self.report.add(
                key, f"_ARRAY_DIMENSIONS is {older}, dimension_names is {names}", _RESTORE
            )

    def _lengths(self, arrays: Mapping[str, Document]) -> None:
        """In a group, a dim has one length; a running one that grows gets there at the end."""
        seen: dict[tuple[str, str], tuple[int, str]] = {}
        for key, document in arrays.items():
            names = document.get("dimension_names") or []
            group = key.rpartition("/")[0]
            for name, length in zip(names, document["shape"], strict=False):
                if name is None or (self.live and name == "event"):
                    continue
                known, other = seen.setdefault((group, name), (length, key))
                if known != length:
                    self.report.add(
                        key,
                        f"dim {name!r} has {length} positions here and {known} in {other}: xarray "
                        "cannot open the group",
                        "restore the zarr.json of the one that is wrong",
                    )

    # ------------------ frames

    def _frames(self, key: str, document: Document) -> None:
        try:
            array = FrameArray(self.store, key, document)
        except ValueError as error:
            self.report.add(key, str(error), _RESTORE)
            return
        if not self.live and not array.published:
            self.report.add(
                key, "its index is still where it is in a running store", "publish the store again"
            )
        readable: set[Cell] = set()
        for members in array.groups():
            with ShardGroup(array, members) as group:
                self.counts["shard file"] += len(members)
                for file, error in group.broken:
                    self.report.add(f"{key}: {self._relative(file)}", error, _RESTORE_SHARD)
                for place in group.files:
                    self._shard(array, group, place)
                readable |= set(group.readable())
                if self.deep and not self.live:
                    self._newest(array, group)
        self.counts["frame"] += len(readable)
        if not self.live:
            self._written(array, readable)

    def _shard(self, array: FrameArray, group: ShardGroup, place: Cell) -> None:
        file = group.files[place]
        where = f"{array.key}: {self._relative(file.path)}"
        if array.published and not file.end_index_is_whole():
            self.report.add(
                where,
                "the index at its end is not a whole copy of the one at its start; readers go by "
                "the one at the end",
                f"{_RESTORE}; the index at its start may be whole still",
            )
        number = array.shard_number(place)
        filled_up = self.deep and file.is_aligned(published=array.published)
        for index, extent in file.present():
            position, tile = array.locate(place, index)
            what = array.words(position, tile)
            offset, nbytes = extent
            if not array.holds(position, tile):
                self.report.add(
                    array.key,
                    f"{what}: an entry for a place that the array does not have",
                    _RESTORE_SHARD,
                )
                continue
            if offset < file.header_bytes or offset + nbytes > file.size:
                self.report.add(
                    array.key,
                    f"{what}: its entry points at bytes {offset} to {offset + nbytes} of a file of "
                    f"{file.size}",
                    _RESTORE_SHARD,
                )
                continue
            record = file.read_record(extent)
            if record is None:
                self.report.add(
                    array.key,
                    f"{what}: no whole record at byte {offset}, where its entry points",
                    _RESTORE_SHARD,
                )
            elif record.array_id != array.array_id:
                self.report.add(
                    array.key,
                    f"{what}: the record at byte {offset} is of another array "
                    f"({record.array_id.hex()})",
                    f"move {self._relative(file.path)} to the array it belongs to",
                )
            elif record.index != index or record.shard != number:
                self.report.add(
                    array.key,
                    f"{what}: its entry points at the record of "
                    f"{array.words(*array.locate(place, record.index))}"
                    + (f" of shard {record.shard}" if record.shard != number else ""),
                    _RESTORE_SHARD,
                )
            elif record.retracted:
                self.report.add(
                    array.key,
                    f"{what}: its entry points at a frame that was taken back",
                    _RESTORE_SHARD,
                )
            elif array.group > 1 and group.slots(position, {tile: extent}) is None:
                self.report.add(
                    array.key,
                    f"{what}: which of them have a frame is damaged, before byte {offset}",
                    _RESTORE_SHARD,
                )
            if self.deep:
                self.counts["chunk"] += 1
                if not file.chunk_is_whole(extent):
                    self.report.add(
                        array.key,
                        f"{what}: the {nbytes} bytes at byte {offset} are not what was written "
                        "(crc32c differs)",
                        _RESTORE_SHARD,
                    )
                if filled_up and not file.gaps_are_zeros(extent):
                    self.report.add(
                        array.key,
                        f"{what}: what fills up the record at byte {offset} is not zeros",
                        f"its frame is whole; {_RESTORE_SHARD}",
                    )

    def _newest(self, array: FrameArray, group: ShardGroup) -> None:
        """An entry that a flipped bit sends back to an older frame of its position looks right in
        all else.
        """
        indexed = group.indexed()
        for position, versions in group.versions().items():
            extents = indexed.get(position, {})
            for version in reversed(versions):
                if version.extents == extents:
                    break
                if version.number and group.is_whole(version):
                    self.report.add(
                        array.key,
                        f"{array.words(position)}: a whole frame (write {version.number}) is in "
                        "the file that the index "
                        + ("does not point at" if not extents else "passes over for an older one"),
                        _RESTORE_SHARD,
                    )
                    break

    def _written(self, array: FrameArray, readable: set[Cell]) -> None:
        noted = (self.attributes.get("arrays") or {}).get(array.key)
        if not isinstance(noted, Mapping) or noted.get("written") != len(readable):
            said = noted.get("written") if isinstance(noted, Mapping) else None
            self.report.add(
                array.key,
                f"{len(readable)} frames are in the index, the root attributes say {said}",
                _RESTORE,
            )
        key = f"{array.key}_written"
        counts = self._opens(key) if key in self.documents else None
        if counts is None:
            self.report.add(key, f"the counts of {array.key} are missing", _RESTORE)
            return
        try:
            values = np.asarray(counts[...])
        except Exception as error:
            self.report.add(key, f"it cannot be read: {error}", _RESTORE)
            return
        counted = {tuple(int(i) for i in cell) for cell in np.argwhere(values > 0)}
        for position in sorted(counted ^ readable)[:10]:
            count = (
                int(values[position])
                if all(p < s for p, s in zip(position, values.shape, strict=True))
                else 0
            )
            state = "is" if position in readable else "is not"
            self.report.add(
                key,
                f"{array.words(position, alone=True)}: counted {count} times, and {state} in the "
                "index",
                _RESTORE,
            )

    # ------------------ other arrays

    def _chunks(self, key: str, document: Document, array: zarr.Array) -> None:
        codecs = document.get("codecs") or []
        if codecs and codecs[-1].get("name") == "crc32c":
            chunks = self.store / key / "c"
            for file in sorted([chunks, *chunks.rglob("*")]):
                # Whoever is killed while it writes a chunk leaves a temporary file beside it, under
                # a name that no reader of the array asks for.
                if file.is_file() and all(n.isdigit() for n in file.relative_to(chunks).parts):
                    data = file.read_bytes()
                    self.counts["chunk"] += 1
                    if len(data) < 4 or checksum(memoryview(data)[:-4]) != data[-4:]:
                        self.report.add(
                            f"{key}: {self._relative(file)}",
                            "it is not what was written (crc32c differs)",
                            _RESTORE,
                        )
            return
        # Without a checksum over the file, only reading shows what is wrong, chunk by chunk to
        # bound the memory.
        sizes = array.chunks
        for number in np.ndindex(*(-(-s // c) for s, c in zip(array.shape, sizes, strict=True))):
            start = tuple(n * c for n, c in zip(number, sizes, strict=True))
            region = tuple(slice(s, s + c) for s, c in zip(start, sizes, strict=True))
            self.counts["chunk"] += 1
            try:
                array[region]
            except Exception as error:
                self.report.add(key, f"index {start}: its chunk cannot be read: {error}", _RESTORE)

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.store).as_posix()


def _bare(document: Any) -> Any:
    if not isinstance(document, dict):
        return document
    return {name: value for name, value in document.items() if name != "consolidated_metadata"}
