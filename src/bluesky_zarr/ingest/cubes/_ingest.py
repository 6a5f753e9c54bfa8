"""The steps of a conversion, each a plain function, and all of them in a row."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from bluesky_zarr.ingest.cubes._config import CubesConfig
from bluesky_zarr.ingest.cubes._contents import attributes, make_arrays
from bluesky_zarr.ingest.cubes._discover import ImageSet, discover
from bluesky_zarr.ingest.cubes._here import convert_here
from bluesky_zarr.ingest.cubes._layout import Block, blocks, cube_layout
from bluesky_zarr.ingest.cubes._state import State, StateError, replaces, state_path
from bluesky_zarr.ingest.cubes._task import Results, Task
from bluesky_zarr.store._batch import BatchStore, InvalidStoreError, finish_replacing
from bluesky_zarr.store._metadata import read_document
from bluesky_zarr.store._paths import store_path

_logger = logging.getLogger(__name__)


class OutputExistsError(FileExistsError):
    """There is a cube, or an unfinished one, and nobody said what to do with it."""


class Progress(Protocol):
    """What is told about a conversion while it runs."""

    def looked_at(self, done: int, total: int) -> None:
        """So many headers have been read."""
        ...

    def begin(self, files: int, nbytes: int) -> None:
        """So much is to be converted."""
        ...

    def converted(self, files: int, nbytes: int) -> None:
        """So much more has been converted."""
        ...


@dataclass(frozen=True)
class Ingested:
    """A cube that was published.

    Parameters
    ----------
    path
        Of the store.
    shape
        Time, frequency, polarization, l, m.
    files, nbytes
        How many images are in it, and their size.
    missing
        Times [MJD, UTC] and frequencies [Hz] that no image has: NaN in the cube.
    duplicates
        Files that were left out, each with the one that was kept.
    attributes
        Of its root.
    """

    path: Path
    shape: tuple[int, ...]
    files: int
    nbytes: int
    missing: tuple[tuple[float, float], ...]
    duplicates: tuple[tuple[str, str], ...]
    attributes: dict[str, Any]


@dataclass
class Conversion:
    """A conversion under way: the input, the store that is built, and how far it has come."""

    config: CubesConfig
    images: ImageSet
    store: BatchStore
    state: State

    def tasks(self) -> Iterator[Task]:
        """What is left to do, one task for each block."""
        for block in self._blocks():
            sources = {
                place: self.images.sources[place]
                for place in block.places()
                if place in self.images.sources
            }
            if sources:
                images = self.images
                yield Task(
                    self.store.path, images.directory, images.fixed_dir, images.fix, block, sources
                )
            else:
                self.state.add(block, {})

    def left(self) -> tuple[int, int]:
        """Files and bytes that are left to do."""
        sources = self.images.sources
        found = [sources[p] for b in self._blocks() for p in b.places() if p in sources]
        return len(found), sum(source.nbytes for source in found)

    def _blocks(self) -> Iterator[Block]:
        layout = cube_layout(self.images.shape, self.config.chunk_lm)
        for block in blocks(self.images.shape, layout):
            if not all(step in self.state.done for step in range(*block.times)):
                yield block


def open_output(config: CubesConfig) -> BatchStore:
    """Open the store that is built, which is locked from then on.

    Raises
    ------
    OutputExistsError
        There is a cube, finished or not, and neither ``rebuild`` nor ``resume`` was asked for.
    BlockingIOError
        Somebody else is building it; the message says who.
    """
    target = store_path(config.target)
    if target.parent.exists() and not target.parent.is_dir():
        raise ValueError(f"the output directory {str(target.parent)!r} is a file; give another")
    finish_replacing(target)
    exists = os.path.lexists(target)
    unfinished = target.with_name(f"{target.name}.tmp")
    if config.resume:
        return BatchStore(target, codec=config.codec, resume=True, replace=replaces(target))
    if not config.rebuild:
        if (unfinished / "zarr.json").exists():
            # Whoever builds it is named; there is nothing to choose then.
            BatchStore(target, codec=config.codec, resume=True, replace=exists).close()
            raise OutputExistsError(
                f"{str(unfinished)!r} was left by a conversion that did not finish; give --resume "
                "to go on with it, or --rebuild to begin again"
            )
        if exists:
            raise OutputExistsError(
                f"{str(target)!r} exists; give --rebuild to build it anew (the old cube stays "
                "until the new one is published), --resume to go on with a conversion that was "
                "interrupted, or another --name"
            )
        return BatchStore(target, codec=config.codec)
    store = BatchStore(target, codec=config.codec, resume=True, replace=exists)
    # Under the lock only: it could be somebody else's.
    state_path(target).unlink(missing_ok=True)
    if store.finished:
        store.discard()
        store = BatchStore(target, codec=config.codec, replace=exists)
    return store


def validate_input(config: CubesConfig, progress: Progress | None = None) -> ImageSet:
    """Look at all headers: time, frequency, grid and beam of each file. Nothing is written.

    Raises
    ------
    FitsError
        A file cannot be used; it is named, with what to do.
    ValueError
        No file was found.
    """
    images = discover(
        config.input_dir,
        on_duplicate=config.on_duplicate,
        fix=not config.skip_header_fixing,
        fixed_dir=config.fixed_dir,
        on_file=progress.looked_at if progress else None,
    )
    missing = images.missing
    if missing:
        shown = ", ".join(
            f"MJD {images.times[t]:.5f} {images.frequencies[f] / 1e6:g} MHz" for t, f in missing[:5]
        )
        _logger.warning(
            "%d of %d images are missing and will be NaN: %s%s",
            len(missing),
            len(images.times) * len(images.frequencies),
            shown,
            ", ..." if len(missing) > 5 else "",
        )
    return images


def prepare(config: CubesConfig, images: ImageSet, store: BatchStore) -> Conversion:
    """Make the arrays and coordinates of the cube, or take up what an interrupted conversion left.

    Raises
    ------
    StateError
        What was left is of another data set.
    """
    fingerprint = f"{images.fingerprint} {config.chunk_lm} {config.codec}"
    replace = os.path.lexists(store.target)
    path = state_path(store.target)
    frequencies = len(images.frequencies)
    state = State(path, fingerprint, images.grid.checksum, frequencies, replace)
    if config.resume and state.take_up():
        _sweep(store)
        return Conversion(config, images, store, state)
    if store.finished:
        raise StateError(
            f"{str(store.path)!r} is a whole store, and nothing says what it was made from; begin "
            "again with --rebuild"
        )
    # Of an attempt that was killed before its state was written, or that is begun again.
    for left in store.path.iterdir():
        if left.is_dir():
            shutil.rmtree(left)
    make_arrays(config, images, store)
    # The state says that they are there, also after a power cut.
    store.sync()
    state.write()
    return Conversion(config, images, store, state)


def convert(
    conversion: Conversion,
    results: Results = convert_here,
    progress: Progress | None = None,
) -> None:
    """Convert all images that are left.

    Parameters
    ----------
    conversion
        Of `prepare`.
    results
        Does tasks, and gives back each one that is on disk: in this process, or on a cluster.
    progress
        Is told what has been done.

    Raises
    ------
    FitsError
        An image cannot be used. What was done stays, for ``resume``.
    OSError
        The disk does not take it. Likewise.
    """
    if progress:
        progress.begin(*conversion.left())
    if conversion.store.finished:
        return
    try:
        with contextlib.closing(results(conversion.tasks())) as found:
            for done in found:
                conversion.state.add(done.block, done.checksums)
                if progress:
                    progress.converted(len(done.checksums), done.nbytes)
    finally:
        conversion.state.write()


def publish(conversion: Conversion) -> Ingested:
    """Validate the cube, make it durable and give it its name, in one step that comes last.

    Raises
    ------
    InvalidStoreError
        It is not whole; nothing is published.
    """
    images, store, state = conversion.images, conversion.store, conversion.state
    if not store.finished:
        # A worker of a cluster may have been killed.
        _sweep(store)
        found = np.zeros(images.shape[:2], "uint32")
        for step, checksums in state.done.items():
            found[step] = [0 if value is None else value for value in checksums]
        store.open_array("source_crc32c").write((0, 0), found)
        store.set_attributes("", attributes(images, state.data_set))
    path = store.publish()
    state.remove()
    return _ingested(path, images)


def _sweep(store: BatchStore) -> None:
    """Delete what processes that died were writing. Nothing that has such a name is part of the
    store.
    """
    for pattern in (".*.tmp", "*.partial"):  # this package's, and zarr-python's
        for left in store.path.rglob(pattern):
            left.unlink(missing_ok=True)


def _ingested(path: Path, images: ImageSet) -> Ingested:
    return Ingested(
        path,
        images.shape,
        len(images.sources),
        images.nbytes,
        tuple((float(images.times[t]), float(images.frequencies[f])) for t, f in images.missing),
        images.duplicates,
        read_document(path)["attributes"],
    )


@dataclass(frozen=True)
class Steps:
    """The functions that do the steps, in their order; an orchestrator gives its own, around
    these.
    """

    validate_input: Callable[..., ImageSet] = validate_input
    prepare: Callable[..., Conversion] = prepare
    convert: Callable[..., None] = convert
    publish: Callable[..., Ingested] = publish


def _published_already(config: CubesConfig) -> bool:
    """Whether there is nothing that ``resume`` could go on with, but a cube that is done."""
    target = config.target
    finish_replacing(target)
    unfinished = target.with_name(f"{target.name}.tmp")
    return config.resume and target.exists() and not unfinished.exists()


def ingest_cube(
    config: CubesConfig, progress: Progress | None = None, steps: Steps | None = None
) -> Ingested:
    """Convert FITS images to one published cube.

    Parameters
    ----------
    config
        What and how.
    progress
        Is told how far it is.
    steps
        Functions to do the steps with, if not the plain ones.

    Raises
    ------
    FitsError
        An image cannot be used; it is named, with what to do.
    OutputExistsError
        There is a cube, and neither ``rebuild`` nor ``resume`` was asked for.
    StateError
        What is to be resumed is of another data set.
    BlockingIOError
        Somebody else is building the cube.
    ValueError
        No file was found, or the scheduler does not answer.
    OSError
        The disk does not take it; go on with ``resume`` when it does.
    """
    steps = steps or Steps()
    if _published_already(config):
        return _same_as_published(config, steps.validate_input(config, progress))
    from bluesky_zarr.ingest.cubes._cluster import cluster

    store = open_output(config)
    try:
        with cluster(config) as results:
            images = steps.validate_input(config, progress)
            conversion = steps.prepare(config, images, store)
            steps.convert(conversion, results, progress)
            return steps.publish(conversion)
    except InvalidStoreError:
        # Nothing can be gone on with, and what it was made from still exists.
        state_path(store.target).unlink(missing_ok=True)
        store.discard()
        raise
    except BaseException:
        # An attempt that failed before there was anything to go on with leaves nothing.
        if not state_path(store.target).exists() and store.path.exists():
            store.discard()
        raise
    finally:
        store.close()


def _same_as_published(config: CubesConfig, images: ImageSet) -> Ingested:
    attributes = read_document(config.target).get("attributes") or {}
    if attributes.get("data_set") != f"{images.fingerprint} {config.chunk_lm} {config.codec}":
        raise OutputExistsError(
            f"{str(config.target)!r} is complete and was made from other files or with other "
            "options; there is nothing to go on with: give --rebuild, or another --name"
        )
    state_path(config.target).unlink(missing_ok=True)
    return _ingested(config.target, images)
