"""A new store takes the place of a published one, which is kept under another name.

The new one is `scan.new-1.zarr` until it is published. Then the two swap names, so that at every
moment there is a whole store at `scan.zarr`, and the old one becomes `scan.replaced-1.zarr`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from pathlib import Path

from bluesky_zarr.store._files import exchange_at_once, fsync_dir, rename_new
from bluesky_zarr.store._journal import Journal
from bluesky_zarr.store._kinds import made_by
from bluesky_zarr.store._metadata import read_document
from bluesky_zarr.store._provenance import FORMAT


class Overwrite:
    """What a store that is to overwrite `target` needs: a name beside it, `path`, and `finish`.

    Raises
    ------
    FileExistsError
        The target is not a published store of ours, or documents of a run point to it.
    OSError
        The directory cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        #: Where the new store is, now.
        self.path = target
        self._journal: Path | None = None
        self._old: Path | None = None
        if os.path.lexists(target):
            _check_replaceable(target)
            self.path = _beside(target)

    def finish(self) -> None:
        """Give the new store, which is published, the name of its target, and the old one another.

        Goes on where it was when the disk refused.

        Raises
        ------
        FileExistsError
            The target has become something that cannot be overwritten; the new store stays where
            it is.
        OSError
            The disk refused; call it again.
        """
        if self.path != self.target:
            new = self.path
            if not os.path.lexists(self.target):
                _check_journal(self.target)
                rename_new(new, self.target)
            else:
                _check_replaceable(self.target)
                if exchange_at_once(new, self.target):
                    self._old = new
                else:
                    _keep(self.target, self.target)
                    rename_new(new, self.target)
            self.path = self.target
            self._journal = Journal.path_of(new)
        if self._journal is not None:
            if self._journal.exists():
                os.rename(self._journal, Journal.path_of(self.target))
            self._journal = None
        if self._old is not None:
            _keep(self._old, self.target)
            self._old = None
        fsync_dir(self.target.parent)


def _check_replaceable(target: Path) -> None:
    if target.is_symlink():
        raise FileExistsError(
            f"{str(target)!r} is a symbolic link and is not overwritten; give the path of the store"
        )
    try:
        attributes = read_document(target)["attributes"]
    except (OSError, ValueError) as error:
        raise FileExistsError(
            f"{str(target)!r} is no Zarr store and is not overwritten ({error}); choose another "
            "path"
        ) from error
    if made_by(attributes) != FORMAT["name"]:
        raise FileExistsError(
            f"{str(target)!r} is a Zarr store that bluesky-zarr did not make, and is not "
            "overwritten; choose another path"
        )
    if attributes.get("status") == "running":
        raise FileExistsError(
            f"{str(target)!r} is not published and is not overwritten; publish it, or recover it "
            "if its writer died"
        )
    if attributes.get("run_uid"):
        raise FileExistsError(
            f"{str(target)!r} is the store of run {attributes['run_uid']}, whose documents would "
            "point to other data; choose another path"
        )
    _check_journal(target)


def _check_journal(target: Path) -> None:
    journal = Journal.path_of(target)
    if journal.exists():
        raise FileExistsError(
            f"{str(journal)!r} is the log of what was measured at {target.name!r}, which is "
            "therefore not overwritten; choose another path"
        )


def _beside(target: Path) -> Path:
    number = 1
    while True:
        path = _named(target, f"new-{number}")
        number += 1
        if Journal.path_of(path).exists():
            continue
        with contextlib.suppress(FileExistsError):
            path.mkdir()  # nobody else takes it from now on
            return path


def _keep(old: Path, target: Path) -> None:
    for number in itertools.count(1):
        with contextlib.suppress(FileExistsError):
            rename_new(old, _named(target, f"replaced-{number}"))
            return


def _named(target: Path, word: str) -> Path:
    suffix = ".zarr" if target.name.endswith(".zarr") else ""
    return target.with_name(f"{target.name.removesuffix('.zarr')}.{word}{suffix}")
