"""One task: the images of a block become whole shards. Needs nothing but the files, so that it can
run in any process on any host that has them.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes._discover import Source, fixed_path
from bluesky_zarr.ingest.cubes._image import Image, read_image, write_fixed
from bluesky_zarr.ingest.cubes._layout import Block
from bluesky_zarr.store._arrays import ArrayWriter, Encoded
from bluesky_zarr.store._files import fsync_dir, fsync_path
from bluesky_zarr.store._pool import calls_ahead, in_order
from bluesky_zarr.store._whole_shard import WholeShard

# Chunks that are being encoded or wait to be written, whatever the number of cores.
_AHEAD_BYTES = 256_000_000

Place = tuple[int, int]
"""The numbers of a time step and of a subband."""


@dataclass(frozen=True)
class Task:
    """Everything that a worker has to know: where the cube is built and where the images are."""

    store: Path
    directory: Path
    fixed_dir: Path | None
    fix: bool
    block: Block
    sources: dict[Place, Source]


@dataclass(frozen=True)
class Done:
    """What became of a task: the crc32c of each file, and the shards that were written."""

    block: Block
    checksums: dict[Place, int]
    nbytes: int
    shards: tuple[Path, ...]


Results = Callable[[Iterator[Task]], Generator[Done, None, None]]
"""Does tasks, and gives back each one that is on disk."""


def convert_block(task: Task) -> Done:
    """Write the shards of a block, image by image: while one is encoded and written the next one is
    read, and no other. A shard appears whole or not at all.

    Raises
    ------
    FitsError
        An image cannot be used, or was changed since its header was read.
    OSError
        The disk does not take it.
    """
    array = ArrayWriter(task.store, "SKY")
    assert array.shards is not None
    per_shard = tuple(s // c for s, c in zip(array.shards, array.chunks, strict=True))
    checksums: dict[Place, int] = {}
    order: deque[tuple[int, ...]] = deque()

    def calls() -> Iterator[Callable[[], Encoded]]:
        for place, source, image in _images(task):
            checksums[place] = image.crc32c
            planes = image.planes
            if planes.shape != array.shape[2:]:
                raise FitsError(
                    task.directory / source.name,
                    f"it has {planes.shape} pixels, its header said {array.shape[2:]}",
                    "begin again when nobody writes it any more",
                )
            for chunk, values in _tiles(planes, array.chunks[3:]):
                order.append((*place, *chunk))
                yield functools.partial(array.encoded, values[np.newaxis, np.newaxis, np.newaxis])

    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    ahead = calls_ahead(chunk_bytes, _AHEAD_BYTES)
    shards: dict[tuple[int, ...], WholeShard] = {}
    with ExitStack() as stack:
        for encoded in in_order(calls(), ahead=ahead):
            chunk = order.popleft()
            at = tuple(c // n for c, n in zip(chunk, per_shard, strict=True))
            if at not in shards:
                shards[at] = stack.enter_context(array.shard(at))
            region = tuple(
                slice(c * n, (c + 1) * n) for c, n in zip(chunk, array.chunks, strict=True)
            )
            shards[at].append(array.number(region), encoded)
    nbytes = sum(source.nbytes for source in task.sources.values())
    return Done(task.block, checksums, nbytes, tuple(shard.path for shard in shards.values()))


def convert_durably(task: Task) -> Done:
    """As `convert_block`, and its shards are on disk then: what a worker of a cluster does."""
    done = convert_block(task)
    make_durable(task.store, done)
    return done


def make_durable(store: Path, done: Done) -> None:
    """Wait until shards and their names are on disk, so that their time step may count as done."""
    directories: set[Path] = set()
    for path in done.shards:
        fsync_path(path)
        directories.update(itertools.takewhile(lambda parent: parent != store, path.parents))
    for directory in sorted(directories, reverse=True):
        fsync_dir(directory)


def _images(task: Task) -> Iterator[tuple[Place, Source, Image]]:
    ordered = sorted(task.sources.items())
    with ThreadPoolExecutor(1, "ingest-read") as reader:
        following = reader.submit(_read, task, ordered[0][1])
        for number, (place, source) in enumerate(ordered, 1):
            image = following.result()
            if number < len(ordered):
                following = reader.submit(_read, task, ordered[number][1])
            yield place, source, image


def _read(task: Task, source: Source) -> Image:
    path = task.directory / source.name
    try:
        found = path.stat()
    except OSError as error:
        raise FitsError(
            path, f"it cannot be read ({error.strerror})", "put it back, and go on with --resume"
        ) from error
    if (found.st_size, found.st_mtime_ns) != (source.nbytes, source.mtime_ns):
        raise FitsError(
            path,
            f"it was changed since its header was read: {source.nbytes} bytes then, "
            f"{found.st_size} now",
            "begin again with --rebuild, when nobody writes it any more",
        )
    if task.fixed_dir is None:
        return read_image(path, fix=task.fix)
    copy = fixed_path(path, task.directory, task.fixed_dir)
    if task.fix:
        copy.parent.mkdir(parents=True, exist_ok=True)
        image = read_image(path)
        write_fixed(image, copy)
        return image
    # Its own checksum, not that of the copy: that file is the source.
    return read_image(copy, fix=False, source=path)


def _tiles(
    planes: np.ndarray, tile: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """The chunks of an image in C order: (polarization, l, m) of the grid, and the values."""
    (n_l, n_m), (tile_l, tile_m) = planes.shape[1:], tile
    for p, plane in enumerate(planes):
        for i, j in np.ndindex(-(-n_l // tile_l), -(-n_m // tile_m)):
            yield (
                (p, i, j),
                plane[i * tile_l : (i + 1) * tile_l, j * tile_m : (j + 1) * tile_m],
            )
