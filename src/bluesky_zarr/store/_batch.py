"""A store that is built beside its place and gets there in one rename, when it is whole.

For what is made from something that still exists: archived files, another store. A store of a run
is written at its place from the start, by `ZarrWriter`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from bluesky_zarr.store._arrays import ArrayWriter
from bluesky_zarr.store._blocks import array_of_blocks
from bluesky_zarr.store._codecs import compressor_configuration
from bluesky_zarr.store._files import exchange, fsync_dir, rename_new, temporary_path
from bluesky_zarr.store._identity import process_identity, writer_in_words
from bluesky_zarr.store._kinds import holds_frames, is_table_array, made_by, published_status
from bluesky_zarr.store._locks import OnlyWriter
from bluesky_zarr.store._metadata import nodes, read_document
from bluesky_zarr.store._paths import check_key, store_path
from bluesky_zarr.store._provenance import FORMAT
from bluesky_zarr.store._publish import STATUSES, publish, sync_small_files
from bluesky_zarr.store._report import Report
from bluesky_zarr.store._root import StoreRoot
from bluesky_zarr.store._validate import validate

LOCK = ".writer.lock"


class InvalidStoreError(ValueError):
    """A store that was to be published is not what it says it is; `report` says where."""

    def __init__(self, report: Report) -> None:
        super().__init__(
            f"{str(report.path)!r} is not published, as it is not whole:\n{report}\n"
            "Its target is as it was"
        )
        self.report = report


class BatchStore:
    """A store at `<target>.tmp` until `publish` gives it the name of its target.

    One process builds it at a time; others may fill its arrays, each by an `ArrayWriter` of its
    own. A process that dies leaves the `.tmp` and nothing else. Leaving a `with` block without
    `publish` leaves it too; see `discard`.

    Parameters
    ----------
    target
        `file:///data/m51.zarr`, or an absolute path. Directories that are missing are made.
    attributes
        Of the root.
    codec
        Of arrays that name none; see `ZarrWriter`.
    resume
        Go on with the `.tmp` that a dead process left.
    replace
        Let the new store take the place of one that exists: that one stays until then, and is
        then deleted. One with acquired frames or events is refused, and so is what is no
        published store of bluesky-zarr.

    Raises
    ------
    FileExistsError
        The target exists, or its `.tmp` does and `resume` is not given.
    BlockingIOError
        Another process, or this one, is building it; the message says who.
    ValueError
        A codec that does not exist, or a target that is no path of a store.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> with BatchStore(tempfile.mkdtemp() + "/cube.zarr") as store:
    ...     sky = store.create_array("sky", shape=(4, 6), dtype="float32", dims=("y", "x"))
    ...     sky.write((0, 0), np.ones((4, 6), "float32"))
    ...     path = store.publish()
    >>> path.name, (path.parent / "cube.zarr.tmp").exists()
    ('cube.zarr', False)
    """

    def __init__(
        self,
        target: str | Path,
        *,
        attributes: Mapping[str, Any] | None = None,
        codec: str = "blosc-zstd-1",
        resume: bool = False,
        replace: bool = False,
    ) -> None:
        compressor_configuration(codec, 1)
        self.target = store_path(target)
        #: Where the store is built.
        self.path = _built_at(self.target)
        finish_replacing(self.target)
        self._codec = codec
        self._replace = replace
        if os.path.lexists(self.target):
            self._check_replaceable()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.mkdir(exist_ok=True)
        self._check_not_replaced()
        self._lock = OnlyWriter(self.path / LOCK)
        if not self._lock.held:
            raise BlockingIOError(
                f"{str(self.path)!r} is being written by {self._builder()}; wait until that is "
                "done, or choose another target"
            )
        try:
            if not resume and os.listdir(self.path) != [LOCK]:
                raise FileExistsError(
                    f"{str(self.path)!r} was left by {self._builder()}, which did not finish; what "
                    "it was made from still exists, so delete it and begin again"
                )
            #: Whether all that is left to do for what was resumed is to publish it.
            self.finished = bool(published_status(self.path))
            if not self.finished:
                self._root = StoreRoot(self.path, dict(attributes or {}), ours=(LOCK,))
                self._root.set_attributes("", {"writer": process_identity()})
        except BaseException:
            self._lock.release()
            raise

    def create_group(self, key: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Make a group (and those above it) unless it exists, and set attributes of it."""
        self._running().make_groups(key)
        if attributes:
            self.set_attributes(key, attributes)

    def set_attributes(self, key: str, attributes: Mapping[str, Any]) -> None:
        """Add attributes to a node, or replace them; the key "" is the root. FileNotFoundError
        where there is no such node.
        """
        self._running().set_attributes(key, attributes)

    def create_array(
        self,
        key: str,
        *,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        dims: Sequence[str],
        chunks: Sequence[int] | None = None,
        shards: Sequence[int] | None = None,
        units: str = "",
        fill_value: Any = None,
        codec: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> ArrayWriter:
        """Make an N-D array and return what fills it.

        Parameters are those of `ZarrWriter.create_array`; the dtype "str" is text of any length.

        Raises
        ------
        ValueError
            Lengths that do not fit together, or a chunk that is larger than the array.
        FileExistsError
            The key exists.
        """
        document = array_of_blocks(
            check_key(key),
            shape=shape,
            dtype=dtype,
            dims=dims,
            chunks=chunks,
            shards=shards,
            units=units,
            fill_value=fill_value,
            codec=self._codec if codec is None else codec,
            attributes=attributes,
        )
        return self.add_array(key, document)

    def add_array(self, key: str, document: Mapping[str, Any]) -> ArrayWriter:
        """As `create_array`, of an array that its whole `zarr.json` describes."""
        self._running().create_arrays({key: document})
        return ArrayWriter(self.path, key)

    def open_array(self, key: str) -> ArrayWriter:
        """What fills an array that is there already, of a store that is resumed."""
        return ArrayWriter(self.path, key)

    def sync(self) -> None:
        """Wait until all that has been written is on disk: before something else says that it is
        there. Raises OSError.
        """
        sync_small_files(self.path)

    def publish(
        self,
        status: str = "complete",
        attributes: Mapping[str, Any] | None = None,
        *,
        deep: bool = False,
    ) -> Path:
        """Publish the store, validate it, and give it the name of its target in one step.

        Everything is on disk before; see `bluesky_zarr.store.publish`. With `deep`, validation
        reads every chunk. Returns the target.

        Raises
        ------
        InvalidStoreError
            It is not whole. It stays where it is built, and the target is as it was.
        FileExistsError
            Somebody else has made the target meanwhile.
        OSError
            The disk refused; call it again when it does not.
        """
        publish(self.path, status=status, attributes=attributes)
        report = validate(self.path, deep=deep)
        if not report:
            raise InvalidStoreError(report)
        replaced = self._replace and os.path.lexists(self.target)
        if replaced:
            self._check_replaceable()
            # What has one is new; see finish_replacing.
            (self.target / LOCK).unlink(missing_ok=True)
            (self.path / LOCK).write_text(_directory_identity(self.target))
            exchange(self.path, self.target)
        else:
            try:
                rename_new(self.path, self.target)
            except FileExistsError:
                raise FileExistsError(
                    f"{str(self.target)!r} was made by somebody else meanwhile and is not "
                    f"overwritten; the new store is whole, rename {str(self.path)!r}"
                ) from None
        fsync_dir(self.target.parent)
        if replaced:
            _delete(self.path)
        (self.target / LOCK).unlink()
        self.close()
        return self.target

    def discard(self) -> None:
        """Delete what was built, and let go of it. Nobody may be filling an array.

        What has got to its target already stays there.
        """
        if self._lock.is_at(self.path / LOCK):
            _delete(self.path)
        self.close()

    def close(self) -> None:
        """Let others build it; what is there stays as it is."""
        self._lock.release()

    def __enter__(self) -> BatchStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------ what is there already

    def _running(self) -> StoreRoot:
        if self.finished:
            raise FileExistsError(f"{str(self.path)!r} is finished; publish it as it is")
        return self._root

    def _builder(self) -> str:
        try:
            attributes = read_document(self.path).get("attributes") or {}
        except (OSError, ValueError):
            attributes = {}
        return writer_in_words(attributes.get("writer"), attributes.get("created_at"))

    def _check_replaceable(self) -> None:
        if not self._replace:
            raise FileExistsError(
                f"{str(self.target)!r} exists and is not overwritten; choose another target"
            )
        if not self._was_published_here():
            raise FileExistsError(
                f"{str(self.target)!r} is no published store of bluesky-zarr and is not replaced; "
                "choose another target"
            )
        for what, keys in _acquired(self.target).items():
            raise FileExistsError(
                f"{str(self.target)!r} holds acquired {what} ({', '.join(keys)}), which are "
                "never replaced; choose another target"
            )

    def _was_published_here(self) -> bool:
        try:
            attributes = read_document(self.target)["attributes"]
        except (OSError, ValueError):
            return False
        return made_by(attributes) == FORMAT["name"] and attributes.get("status") in STATUSES

    def _check_not_replaced(self) -> None:
        """A published store without a lock file is none that was being built."""
        if published_status(self.path) and not (self.path / LOCK).exists():
            raise FileExistsError(
                f"{str(self.path)!r} is a store that was published, and nothing says that "
                f"{self.target.name!r} has replaced it; move it away, or delete it"
            )


def finish_replacing(target: Path) -> None:
    """Delete the store that `target` has replaced, where the process that did it died before.

    The lock file of a new store stays in it until the old one is gone, and names the directory of
    that one: nothing else is deleted, and never acquired frames.

    Raises
    ------
    BlockingIOError
        The process that publishes the new one is still at it.
    """
    if not (target / LOCK).exists():
        return
    turn = OnlyWriter(target / LOCK)
    try:
        if not turn.held:
            raise BlockingIOError(
                f"{str(target)!r} is being published by another process; wait until that is done"
            )
        old = _built_at(target)
        replaced = (target / LOCK).read_text()
        if old.is_dir() and replaced == _directory_identity(old) and not (old / LOCK).exists():
            if _acquired(old):
                return
            # The names may have been swapped in memory only.
            fsync_dir(target.parent)
            _delete(old)
        (target / LOCK).unlink()
    finally:
        turn.release()


def _built_at(target: Path) -> Path:
    return target.with_name(f"{target.name}.tmp")


def _directory_identity(path: Path) -> str:
    """What stays the same of a directory when it is renamed, and no other one has."""
    found = path.stat()
    return f"{found.st_dev}:{found.st_ino}"


def _acquired(store: Path) -> dict[str, list[str]]:
    """The keys of arrays of acquired frames and events: only what could be made again may go."""
    kinds = {"frames": holds_frames, "events": is_table_array}
    found = {
        what: [key for key, document in nodes(store) if acquired(document)]
        for what, acquired in kinds.items()
    }
    return {what: keys for what, keys in found.items() if keys}


def _delete(path: Path) -> None:
    # Under another name, so that nobody begins in a directory that is half deleted.
    aside = temporary_path(path)
    os.rename(path, aside)
    shutil.rmtree(aside)
