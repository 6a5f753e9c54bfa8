"""Finish what a dead process left: a store with every frame that can be read, published as
recovered.

Nothing is deleted. Every step can be done again, so `recover` may itself be killed anywhere and
called once more.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.store._adopt import enter
from bluesky_zarr.store._event_arrays import event_array
from bluesky_zarr.store._fold import fold
from bluesky_zarr.store._frame_array import Cell, Extent, FrameArray, ShardGroup, Version
from bluesky_zarr.store._identity import is_alive, writer_in_words
from bluesky_zarr.store._journal import Journal, flown_line
from bluesky_zarr.store._kinds import is_frame_array, made_by, published_status
from bluesky_zarr.store._locks import only_recovery
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    Document,
    array_document,
    nodes,
    read_document,
    write_document,
    write_whole,
)
from bluesky_zarr.store._paths import local_path, store_uri
from bluesky_zarr.store._progress import counts_chunk, counts_key
from bluesky_zarr.store._provenance import FORMAT
from bluesky_zarr.store._publish import ON_DISK, publish
from bluesky_zarr.store._rebuild import Rebuild, is_of_frames
from bluesky_zarr.store._report import Report
from bluesky_zarr.store._small import SmallArray


def recover(path: str | Path, dry_run: bool = False) -> Report:
    """Publish a store whose writer died, with status "recovered".

    Every frame that was written whole is made readable, also one that the writer did not get round
    to entering in the index; of a position that was written several times, the newest whose bytes
    are whole. Counts come from the records in the shard files, events from the journal beside the
    store; so do arrays whose `zarr.json` a power cut has left empty or torn. The attribute `reason`
    says who died, and the status that the run had by its own account, if it got so far.

    The report is false where frames are damaged (they are named, and the rest is published) or
    where nothing could be done: the writer is alive, or runs on another host, another process is
    at it already, or this is no store.
    A published store is left as it is, which is no problem. With `dry_run`, the report says what
    would be done, and nothing is changed. Nothing is ever deleted.

    Parameters
    ----------
    path
        A path or `file://` URI.
    dry_run
        Only look.

    Raises
    ------
    OSError
        The disk does not take what has to be written; call again when it does.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_zarr.store import ZarrWriter
    >>> print(recover(ZarrWriter(tempfile.mkdtemp() + "/scan.zarr").path))
    recover ...scan.zarr (running): 1 problem
    ...it is being written by process ...
    """
    store = local_path(path)
    report = Report(store, "recover (dry run)" if dry_run else "recover")
    try:
        root = read_document(store)
    except (OSError, ValueError) as error:
        report.add(str(store), str(error), "check the path; a damaged file has to come from a copy")
        return report
    if not _is_ours_to_do(store, root.get("attributes") or {}, report):
        return report
    with contextlib.nullcontext(True) if dry_run else only_recovery(store) as alone:
        if not alone:
            report.add(
                str(store),
                "another process is recovering it at this moment",
                "wait until that one is done; there is nothing left to do then",
            )
        # It may have been done while this one came here.
        elif published := published_status(store):
            report.status = published
            report.notes.append(f"published already ({published}): nothing to do")
        else:
            _Recovery(store, root, report, dry_run).run()
    return report


def _is_ours_to_do(store: Path, attributes: Mapping[str, Any], report: Report) -> bool:
    report.status = str(attributes.get("status", ""))
    if made_by(attributes) != FORMAT["name"]:
        report.add(
            str(store), "it was not written by bluesky-zarr", "recover only stores that were"
        )
        return False
    if report.status != "running":
        report.notes.append(f"published already ({report.status}): nothing to do")
        return False
    dead = True
    for what, writer in writers(store, attributes).items():
        alive = is_alive(writer) if writer else False
        dead &= alive is False
        who = writer_in_words(writer, attributes.get("created_at"))
        if alive:
            report.add(
                str(store),
                f"{what} is being written by {who}",
                "wait for the process, or end it, and call again; a session that could not publish "
                "a store does so before its next plan, or by bluesky_zarr.store.publish(path)",
            )
            break
        if alive is None:
            report.add(
                str(store),
                f"{what} was being written by {who}, and this host cannot tell whether that "
                "process is alive",
                f"call recover on {writer.get('host')}",
            )
            break
    return dead


def writers(store: Path, attributes: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The identities of the processes that write a store: of "it", and of each array of frames."""
    found: dict[str, Any] = {"it": attributes.get("writer")}
    for key, document in nodes(store, on_error=lambda *_: None):
        # Each process that writes frames into the store is noted at its array.
        if is_frame_array(document):
            found[key] = document["attributes"]["bluesky_zarr"].get("writer")
    return {key: who if isinstance(who, Mapping) else {} for key, who in found.items()}


class _Recovery:
    def __init__(self, store: Path, root: Document, report: Report, dry_run: bool) -> None:
        self.store = store
        self.attributes: dict[str, Any] = root["attributes"]
        self.report = report
        self.dry_run = dry_run

    def run(self) -> None:
        self._journal()
        Rebuild(self.store, self.report, self.dry_run).run()
        documents = dict(nodes(self.store, on_error=self._unreadable))
        for key, document in documents.items():
            if is_frame_array(document):
                try:
                    array = FrameArray(self.store, key, document)
                except ValueError as error:
                    self._unreadable(self.store / key, error)
                else:
                    self._frames(array)
        if any(problem.where.endswith(DOCUMENT) for problem in self.report.problems):
            self.report.notes.append(
                "not published: an array whose zarr.json is damaged would be left out"
            )
            return
        if self.dry_run:
            self.report.notes.append("dry run: nothing was changed")
            return
        fold(self.store)
        publish(store_uri(self.store), status="recovered", reason=self._reason())
        self.report.status = "recovered"
        self.report.notes.append("published as recovered")

    def _unreadable(self, node: Path, error: Exception) -> None:
        if self.dry_run and (not is_of_frames(node) or (node / ON_DISK).exists()):
            return  # what becomes of it is among the notes
        self.report.add(str(node / DOCUMENT), str(error), "restore it from a copy and call again")

    # ------------------ journal

    def _journal(self) -> None:
        self.last_status: dict[str, Any] = {}
        rows = 0
        damaged: list[int] = []
        last = 0
        for number, entry in Journal.lines(self.store):
            if entry is None:
                damaged.append(number)
                continue
            kind, payload = entry
            rows += _rows(kind, payload)
            if kind == "status":
                self.last_status = payload
            last = number
        if rows:
            self.report.notes.append(f"{rows} events in the journal")
        # The process died while it wrote the last line: that is how it should look.
        for number in damaged[:-1] if damaged and damaged[-1] > last else damaged:
            self.report.add(
                f"{Journal.path_of(self.store).name}: line {number}",
                "it is not what was written (crc32c differs); what it held is left out",
                "compare with the documents of the run",
            )

    def _reason(self) -> str:
        writer = self.attributes.get("writer")
        who = writer_in_words(writer, self.attributes.get("created_at"))
        reason = f"the writer died: {who}"
        if self.last_status.get("status"):
            reason += f"; the run had ended as {self.last_status['status']!r}"
            if self.last_status.get("reason"):
                reason += f" ({self.last_status['reason']})"
        return reason

    # ------------------ frames

    def _frames(self, array: FrameArray) -> None:
        counts: dict[Cell, int] = {}
        times: dict[Cell, float] = {}
        changed = adopted = 0
        for members in array.groups():
            with ShardGroup(array, members, writable=not self.dry_run) as group:
                for path, error in group.broken:
                    self._set_aside(array, path, error)
                indexed, versions = group.indexed(), group.versions()
                for position in sorted({*indexed, *versions}):
                    of_position = versions.get(position, [])
                    extents = indexed.get(position, {})
                    good = self._newest_whole(array, group, position, of_position, extents)
                    if good is not None and array.group == 1:
                        counts[position] = of_position.index(good) + 1
                        times[position] = good.time
                    elif good is not None:
                        for cell, (count, time) in group.filled(position, good.extents).items():
                            counts[cell], times[cell] = count, time
                        if group.slots(position, good.extents) is None:
                            self.report.add(
                                array.key,
                                f"{array.words(position)}: which of them have a frame is damaged; "
                                "all are counted",
                                "compare with the events of the run",
                            )
                    wanted = good.extents if good is not None else {}
                    if wanted != extents:
                        changed += 1
                        adopted += not extents
                        if not self.dry_run:
                            enter(group, position, extents, wanted)
                if array.published and not self.dry_run:
                    # Killed while it was published: publication passes over arrays that it has
                    # done.
                    for file in group.files.values():
                        file.publish()
        expected = "" if array.growing else f" of {math.prod(array.scan_shape)}"
        note = f"{array.key}: {len(counts)}{expected} frames are readable"
        if changed:
            note += (
                f" ({adopted} had not been entered in the index, "
                f"{changed - adopted} entries were set right)"
            )
        self.report.notes.append(note)
        if not self.dry_run:
            self._write_counts(array, counts)
            self._write_times(array, times)

    def _newest_whole(
        self,
        array: FrameArray,
        group: ShardGroup,
        position: Cell,
        versions: list[Version],
        extents: dict[Cell, Extent],
    ) -> Version | None:
        damaged = False
        for version in reversed(versions):
            if group.is_whole(version):
                if damaged:
                    self.report.add(
                        array.key,
                        f"{array.words(position)}: its newest frame is damaged, the one before it "
                        "is read (write "
                        f"{version.number or 'unknown'})",
                        "measure it again if the two differed",
                    )
                return version
            # What never was in the index was being written when the process died: it was not
            # announced.
            damaged |= version.extents == extents
        if damaged or (extents and not versions):
            self.report.add(
                array.key,
                f"{array.words(position)}: its frame is damaged and is marked as missing",
                "measure it again; the bytes are still in the shard file",
            )
        return None

    def _set_aside(self, array: FrameArray, path: Path, error: str) -> None:
        aside = path.with_name(f".{path.name}.damaged")
        self.report.add(
            f"{array.key}: {path.relative_to(self.store).as_posix()}",
            error,
            f"it is set aside as {aside.name!r}, so that the rest can be read; its frames are "
            "missing",
        )
        if not self.dry_run:
            os.replace(path, aside)

    def _write_counts(self, array: FrameArray, counts: Mapping[Cell, int]) -> None:
        node = self.store / counts_key(array.key)
        shape = array.scan_shape
        if array.growing:
            shape = (max((position[0] + 1 for position in counts), default=0),)
            _set_length(array.node, array.document, shape[0])
        try:
            document = read_document(node)
        except FileNotFoundError:
            # Killed between the making of the two arrays, or it was damaged.
            document = array_document(
                shape=shape,
                dtype="uint32",
                chunks=counts_chunk(shape, growing=array.growing),
                dims=array.dims[: array.scan_ndim],
                long_name=f"how often each position of {array.node.name} was written",
            )
            node.mkdir(exist_ok=True)
            write_document(node, document)
        if array.growing:
            _set_length(node, document, shape[0])
        values = np.zeros(shape, np.uint32)
        for position, count in counts.items():
            values[position] = count
        write_whole(node, values)

    def _write_times(self, array: FrameArray, times: Mapping[Cell, float]) -> None:
        """When the frames were taken, where no events say it: a store that a writer made without a
        run.
        """
        group = array.node.parent
        if times and not any(kind == "stream" for kind, _ in Journal.read(self.store)):
            node: SmallArray = event_array(
                group,
                "time",
                array.dims[: array.scan_ndim],
                array.scan_shape,
                growing=array.growing,
            )
            for position, time in times.items():
                node.set(node.place(position), time)
            node.flush()
            node.write_document()


def _rows(kind: str, payload: Mapping[str, Any]) -> int:
    """How many events a line of the journal is; 0 where it does not say it, as `fold` then does."""
    if kind == "flown":
        with contextlib.suppress(KeyError, TypeError, OverflowError):
            return len(flown_line(payload))
    return int(kind == "row")


def _set_length(node: Path, document: Document, length: int) -> None:
    if document["shape"][0] != length:
        document["shape"][0] = length
        write_document(node, document)
