"""One task: the images of a block become whole shards. Needs nothing but the files, so that it can
run in any process on any host that has them.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes._discover import Source, fixed_path
from bluesky_zarr.ingest.cubes._image import Image, read_image, write_fixed
from bluesky_zarr.ingest.cubes._layout import Block
from bluesky_zarr.ingest.cubes._plain import read_plain
from bluesky_zarr.ingest.cubes._tiles import Tiles
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

    store: Path
    block: Block
    checksums: dict[Place, int]
    nbytes: int
    shards: tuple[Path, ...]


Results = Callable[[Iterator[Task]], Generator[Done, None, None]]
"""Does tasks, and gives back each one that is on disk."""


def convert_blocks(tasks: Iterable[Task]) -> Generator[Done, None, None]:
    """Write the shards of blocks of one cube, image by image and in order: while one is encoded and
    written the next one is read, and no other. A shard appears whole or not at all.

    Raises
    ------
    FitsError
        An image cannot be used, or was changed since its header was read. Blocks before it are
        done.
    OSError
        The disk does not take it.
    """
    tasks = iter(tasks)
    first = next(tasks, None)
    if first is None:
        return
    array = ArrayWriter(first.store, "SKY")
    room: list[Tiles] = []
    order: deque[tuple[_Filled, tuple[int, ...], bool]] = deque()

    def calls(images: Iterator[Future[_Filled]]) -> Iterator[Callable[[], Encoded]]:
        for following in images:
            try:
                image = following.result()
            except Exception as error:
                # It comes after all that is good before it.
                yield functools.partial(_fail, error)
                return
            chunks = list(image.tiles)
            for number, (chunk, values) in enumerate(chunks, 1):
                order.append((image, chunk, number == len(chunks)))
                yield functools.partial(array.encoded, values[np.newaxis, np.newaxis, np.newaxis])

    chunk_bytes = math.prod(array.chunks) * array.dtype.itemsize
    ahead = calls_ahead(chunk_bytes, _AHEAD_BYTES)
    shards: dict[tuple[int, ...], WholeShard] = {}
    checksums: dict[Place, int] = {}
    # Closed, not left to whoever keeps the error: nothing is read or encoded any more after it.
    images = contextlib.closing(_read_ahead(itertools.chain([first], tasks), array, room))
    try:
        with images as read, contextlib.closing(in_order(calls(read), ahead=ahead)) as results:
            for encoded in results:
                image, chunk, is_whole = order.popleft()
                _append(array, shards, (*image.place, *chunk), encoded)
                if not is_whole:
                    continue
                room.append(image.tiles)
                checksums[image.place] = image.checksum
                if image.is_last:
                    for shard in shards.values():
                        shard.commit()
                    yield _done(image.task, checksums, shards)
                    shards, checksums = {}, {}
    except BaseException:
        for shard in shards.values():
            shard.discard()
        raise


def _append(
    array: ArrayWriter,
    shards: dict[tuple[int, ...], WholeShard],
    chunk: tuple[int, ...],
    encoded: Encoded,
) -> None:
    """Append a chunk to its shard, which is begun with its first one."""
    assert array.shards is not None
    start = tuple(c * n for c, n in zip(chunk, array.chunks, strict=True))
    at = tuple(s // n for s, n in zip(start, array.shards, strict=True))
    if at not in shards:
        shards[at] = array.shard(at)
    region = tuple(slice(s, s + n) for s, n in zip(start, array.chunks, strict=True))
    shards[at].append(array.number(region), encoded)


def _done(
    task: Task, checksums: dict[Place, int], shards: dict[tuple[int, ...], WholeShard]
) -> Done:
    nbytes = sum(source.nbytes for source in task.sources.values())
    paths = tuple(shard.path for shard in shards.values())
    return Done(task.store, task.block, checksums, nbytes, paths)


def _fail(error: Exception) -> Encoded:
    raise error


def convert_durably(task: Task) -> Done:
    """Convert one block, whose shards are on disk then: what a worker of a cluster does."""
    (done,) = convert_blocks([task])
    make_durable(done)
    return done


def make_durable(done: Done) -> None:
    """Wait until shards and their names are on disk, so that their time step may count as done."""
    directories: set[Path] = set()
    for path in done.shards:
        fsync_path(path)
        directories.update(itertools.takewhile(lambda parent: parent != done.store, path.parents))
    for directory in sorted(directories, reverse=True):
        fsync_dir(directory)


@dataclass(frozen=True)
class _Filled:
    """An image that was read, whether it is the last one of its task, and the crc32c of its
    file.
    """

    task: Task
    place: Place
    is_last: bool
    tiles: Tiles
    checksum: int


def _read_ahead(
    tasks: Iterable[Task], array: ArrayWriter, room: list[Tiles]
) -> Generator[Future[_Filled], None, None]:
    """The images of tasks, of which one is being read while the one before is made use of."""
    with ThreadPoolExecutor(1, "ingest-read") as reader:
        waiting: deque[Future[_Filled]] = deque()
        for task in tasks:
            last = max(task.sources)
            for place in sorted(task.sources):
                waiting.append(reader.submit(_fill, task, place, place == last, array, room))
                if len(waiting) > 1:
                    yield waiting.popleft()
        while waiting:
            yield waiting.popleft()


def _fill(
    task: Task, place: Place, is_last: bool, array: ArrayWriter, room: list[Tiles]
) -> _Filled:
    # New memory takes longer to touch than to fill: what is free is used again.
    tiles = room.pop() if room else Tiles(array.shape[2:], array.chunks[3:])
    return _Filled(task, place, is_last, tiles, _read(task, task.sources[place], tiles))


def _read(task: Task, source: Source, tiles: Tiles) -> int:
    """Fill in an image; returns the crc32c of its file."""
    path = task.directory / source.name
    _check_unchanged(path, source)
    if source.plain is not None:
        with _gone_in_words(path):
            checksum = read_plain(path, source.plain, source.nbytes, tiles)
        # Half of it may be the old image, and half the new one.
        _check_unchanged(path, source)
        return checksum
    image = _image(task, path)
    _check_unchanged(path, source)
    if image.planes.shape != tiles.shape:
        raise FitsError(
            path,
            f"it has {image.planes.shape} pixels, its header said {tiles.shape}",
            "begin again when nobody writes it any more",
        )
    tiles.fill(image.planes)
    return image.crc32c


def _check_unchanged(path: Path, source: Source) -> None:
    with _gone_in_words(path):
        found = path.stat()
    if (found.st_size, found.st_mtime_ns) != (source.nbytes, source.mtime_ns):
        raise FitsError(
            path,
            f"it was changed since its header was read: {source.nbytes} bytes then, "
            f"{found.st_size} now",
            "begin again with --rebuild, when nobody writes it any more",
        )


@contextlib.contextmanager
def _gone_in_words(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FitsError(
            path, f"it cannot be read ({error.strerror})", "put it back, and go on with --resume"
        ) from error


def _image(task: Task, path: Path) -> Image:
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
