"""Documents that a power cut has left empty or torn are made anew, where it is certain what they
said.

What is small in a stream is written without waiting for the disk, so its `zarr.json` can be empty
afterwards; the journal says all of it once more. What cannot be made again is left as it is.
"""

from __future__ import annotations

import os
from pathlib import Path

from bluesky_zarr.store._files import link_new
from bluesky_zarr.store._fold import fold
from bluesky_zarr.store._metadata import DOCUMENT, encode_document, group_document, nodes
from bluesky_zarr.store._progress import counts_key
from bluesky_zarr.store._publish import ON_DISK
from bluesky_zarr.store._report import Report

_ASIDE = f".{DOCUMENT}.damaged"


def is_of_frames(node: Path) -> bool:
    """Whether the directory is that of an array of frames, whatever its document looks like."""
    return node.with_name(counts_key(node.name)).is_dir()


class Rebuild:
    """Makes the damaged documents beneath a store anew, and says so in the notes of a report.

    Those of groups that have members, of frames that were flushed, of counts, and of what `fold`
    writes. The damaged ones stay
    beside as `.zarr.json.damaged`. May be killed anywhere and run again.
    """

    def __init__(self, store: Path, report: Report, dry_run: bool) -> None:
        self.store = store
        self.report = report
        self.dry_run = dry_run

    def run(self) -> None:
        """Do it, or with `dry_run` only note what is damaged.

        Raises
        ------
        OSError
            The disk does not take what has to be written.
        """
        while groups := [node for node in self._damaged() if _has_members(node)]:
            for node in groups:
                self._note(node, "a group; attributes that somebody gave it are lost")
            if self.dry_run:
                return
            for node in groups:
                _set_aside(node)
                link_new(node / DOCUMENT, encode_document(group_document()))
        damaged = self._damaged()
        for node in [node for node in damaged if (node / ON_DISK).exists()]:
            self._note(node, "that of the last flush; its length is in the records")
            damaged.remove(node)
            if not self.dry_run:
                _set_aside(node)
                os.link(node / ON_DISK, node / DOCUMENT)
        # Beside frames whose document cannot be read nothing can be written.
        if any(is_of_frames(node) for node in damaged):
            return
        counts = [node for node in damaged if _is_counts(node)]
        for node in counts:
            self._note(node, "counts; they are in the records of the frames")
        others = [node for node in damaged if node not in counts]
        if self.dry_run:
            for node in others:
                self._note(node, "if the journal says what it was")
            return
        for node in damaged:
            _set_aside(node)
        if others:
            fold(self.store)
        for node in others:
            if (node / DOCUMENT).exists():
                self._note(node, "from the journal")
            else:
                (node / _ASIDE).rename(node / DOCUMENT)

    def _damaged(self) -> list[Path]:
        damaged: list[Path] = []
        groups = [self.store]
        for key, document in nodes(self.store, on_error=lambda node, _: damaged.append(node)):
            if document["node_type"] == "group":
                groups.append(self.store / key)
        for group in groups:
            # Set aside by one that was killed before it had made the document anew.
            damaged += [
                aside.parent
                for aside in sorted(group.glob(f"*/{_ASIDE}"))
                if not (aside.parent / DOCUMENT).exists()
            ]
        return damaged

    def _note(self, node: Path, how: str) -> None:
        what = "would be" if self.dry_run else "was"
        key = node.relative_to(self.store).as_posix()
        self.report.notes.append(f"{key}: its damaged {DOCUMENT} {what} made anew ({how})")


def _has_members(node: Path) -> bool:
    return any(True for name in (DOCUMENT, _ASIDE) for _ in node.glob(f"*/{name}"))


def _is_counts(node: Path) -> bool:
    frames = node.name.removesuffix(counts_key(""))
    return frames != node.name and (node.with_name(frames) / DOCUMENT).exists()


def _set_aside(node: Path) -> None:
    if (node / DOCUMENT).exists():
        (node / DOCUMENT).replace(node / _ASIDE)
