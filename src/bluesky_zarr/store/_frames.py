"""The shard files of one array of frames: encode, append, enter in the index, take back."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bluesky_zarr.store._codecs import checksum, compressor_configuration, decoder, encoder
from bluesky_zarr.store._files import fsync_dir
from bluesky_zarr.store._layout import Layout
from bluesky_zarr.store._progress import Progress
from bluesky_zarr.store._shard import (
    ENTRY_BYTES,
    HEAD_BYTES,
    MISSING,
    Record,
    ShardFile,
    head_bytes,
)
from bluesky_zarr.store._slots import Slots, slots_bytes

if TYPE_CHECKING:
    from typing_extensions import Buffer

MAX_OPEN_SHARDS = 16
"""How many shard files an array keeps open."""

_Extents = list[tuple[int, int]]


@dataclass(frozen=True)
class _Part:
    """What one shard holds of a frame: the shard's coordinates along the frame's dims, and the
    tiles to cut out.

    A tile that lies outside of the frame, as the last ones of a shard can, is None.
    """

    coordinates: tuple[int, ...]
    tiles: tuple[tuple[slice, ...] | None, ...]


class _Place(NamedTuple):
    """Where a part of a frame belongs: a shard, by its number and coordinates, and its first entry
    there.
    """

    number: int
    coordinates: tuple[int, ...]
    first: int


class _Open:
    __slots__ = ("file", "users")

    def __init__(self, file: ShardFile) -> None:
        self.file = file
        self.users = 0


_Chunk = tuple[memoryview, bytes]
_NOTHING = (MISSING, MISSING)


class FrameFiles:
    """The shard files beneath `node`, the directory of an array of frames. Safe from several
    threads.

    Positions are C-order numbers of the scan's cells. Of two frames for one position the one with
    the higher write number is what the index points at, whichever is stored last. `dead_bytes`
    counts what no entry points at any more.
    """

    def __init__(
        self,
        node: Path,
        *,
        scan_shape: tuple[int, ...],
        frame_shape: tuple[int, ...],
        dtype: np.dtype,
        layout: Layout,
        codec: str,
        array_id: bytes,
        progress: Progress,
    ) -> None:
        self.dead_bytes = 0
        #: How many positions along the fastest scan dim a chunk spans.
        self.group = layout.inner[len(scan_shape) - 1]
        self.progress = progress
        self._node = node
        self._dtype = dtype
        self._array_id = array_id
        self._encode = encoder(codec, dtype.itemsize)
        compressor = compressor_configuration(codec, dtype.itemsize)
        self._codecs = [*([compressor] if compressor else []), {"name": "crc32c"}]

        # From here on a place in the scan is a chunk's: of one position, or of a group of them.
        ndim = len(scan_shape)
        scan_shape = (*scan_shape[:-1], math.ceil(scan_shape[-1] / self.group))
        self._scan_shape = scan_shape
        self._scan_shard = layout.grid[:ndim]
        self._scan_grid = tuple(
            math.ceil(n / part) for n, part in zip(scan_shape, self._scan_shard, strict=True)
        )
        self._tile = layout.inner[ndim:]
        slots = (self.group,) if self.group > 1 else ()
        self._block_shape = slots + frame_shape
        self._stored_tile = slots + self._tile
        self._lead = slots_bytes(self.group)
        frame_shard = layout.shard[ndim:]
        self._frame_grid = tuple(
            math.ceil(n / part) for n, part in zip(frame_shape, frame_shard, strict=True)
        )
        self._parts = _parts(frame_shape, self._tile, frame_shard)
        self._whole = self._tile == frame_shape
        self._tiles_in_shard = math.prod(layout.grid[ndim:])
        self._entries = math.prod(layout.grid)
        tile_bytes = math.prod(self._stored_tile) * dtype.itemsize
        record_bytes = self._lead + HEAD_BYTES + tile_bytes + 4
        self._expected_shard_bytes = self._entries * (ENTRY_BYTES + record_bytes)

        # Orders the changes of index entries.
        self._index = threading.Lock()
        self._latest = np.zeros(math.prod(scan_shape), np.uint64)
        self._latest_view = self._latest.data

        self._files = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._unsynced: dict[int, _Place] = {}

    def resize(self, length: int) -> None:
        """Make room for `length` positions of a growing scan."""
        with self._index:
            chunks = math.ceil(length / self.group)
            latest = np.zeros(chunks, np.uint64)
            kept = min(chunks, len(self._latest))
            latest[:kept] = self._latest[:kept]
            self._latest, self._latest_view = latest, latest.data
            self.progress.resize(length)
            self._scan_shape = (chunks,)

    def store(
        self,
        frame: np.ndarray,
        flat: int,
        number: int,
        time: float,
        slots: Slots | None = None,
        ranges: Sequence[tuple[int, int]] = (),
    ) -> None:
        """Store a frame of the array's dtype (C-contiguous, if it is not cut in tiles); it is
        readable on return.

        Where a chunk spans several positions, `frame` is the block of all of them, `flat` the
        chunk's number, `slots` says what is in the block, and `ranges` are the positions
        [start, stop) that are new in it.

        Raises
        ------
        OSError
            The disk refused.
        """
        encoded = [self._encoded(frame, part) for part in self._parts]
        places = self._places(flat)
        files = self._acquire(places)
        try:
            with contextlib.ExitStack() as turns:
                # The kernel lets one write into a file at a time. An entry that had to wait for the
                # bytes of the next frame would keep its worker from checksumming the one after, so
                # bytes and entry go out in one turn. All take the files in the same order.
                for file in files:
                    turns.enter_context(file.turn)
                extents = [
                    self._append(file, place, tiles, number, time, slots)
                    for file, place, tiles in zip(files, places, encoded, strict=True)
                ]
                self._enter(files, places, extents, flat, number, ranges)
        finally:
            self._release(places)

    def _encoded(self, frame: np.ndarray, part: _Part) -> list[_Chunk | None]:
        chunks: list[_Chunk | None] = []
        for cut in part.tiles:
            if cut is None:
                chunks.append(None)
                continue
            tile = frame if self._whole else self._tile_of(frame, cut)
            # Seen as bytes: not every dtype is one that a buffer can be cast from later.
            encoded = memoryview(self._encode(tile.reshape(-1).view(np.uint8).data))
            chunks.append((encoded, checksum(encoded)))
        return chunks

    def _tile_of(self, frame: np.ndarray, cut: tuple[slice, ...]) -> np.ndarray:
        tile = frame[(..., *cut)]
        if tile.shape == self._stored_tile:
            return np.ascontiguousarray(tile)
        # Tiles at the edge are stored whole.
        padded = np.zeros(self._stored_tile, self._dtype)
        padded[tuple(slice(n) for n in tile.shape)] = tile
        return padded

    def _append(
        self,
        file: ShardFile,
        place: _Place,
        tiles: list[_Chunk | None],
        number: int,
        time: float,
        slots: Slots | None,
    ) -> _Extents:
        fixed = self._lead + HEAD_BYTES + 4
        total = sum(fixed + tile[0].nbytes for tile in tiles if tile is not None)
        table = () if slots is None else (slots.pack(),)
        begin = offset = file.reserve(total)
        buffers: list[Buffer] = []
        extents: _Extents = []
        for index, tile in enumerate(tiles, place.first):
            if tile is None:
                extents.append(_NOTHING)
                continue
            encoded, crc = tile
            offset += self._lead + HEAD_BYTES
            nbytes = encoded.nbytes + 4
            head = head_bytes(self._array_id, place.number, index, number, time, nbytes)
            buffers += (*table, head, encoded, crc)
            extents.append((offset, nbytes))
            offset += nbytes
        file.write(buffers, begin)
        return extents

    def _enter(
        self,
        files: Sequence[ShardFile],
        places: Sequence[_Place],
        extents: Sequence[_Extents],
        flat: int,
        number: int,
        ranges: Sequence[tuple[int, int]],
    ) -> None:
        with self._index:
            latest = self._latest_view[flat]
            if number < latest:
                # A newer frame for this position went faster.
                self.dead_bytes += sum(map(self._record_bytes, extents))
            else:
                for file, place, new in zip(files, places, extents, strict=True):
                    if latest:
                        old = file.read_entries(place.first, len(new))
                        self.dead_bytes += self._record_bytes(old)
                    file.set_entries(place.first, new)
                self._latest_view[flat] = number
            if self.group == 1:
                self.progress.add(flat)
            for start, stop in ranges:
                self.progress.add_range(start, stop)

    def take_back(self, flat: int) -> bool:
        """Let the index point at the version before the newest one of a position.

        The version before is found in the records of the shard files. Nobody may write this
        position meanwhile. False if there is none to take back.
        """
        places = self._places(flat)
        with self._index:
            if not self.progress.count(flat):
                return False
            files = self._acquire(places)
            try:
                number, previous = self._version_before(files, places, self._latest_view[flat])
                for file, place, new in zip(files, places, previous, strict=True):
                    old = file.read_entries(place.first, len(new))
                    # The head first: killed in between, a recovery must not adopt the record again.
                    # Readers do not look at heads.
                    file.mark_retracted([extent for extent in old if extent != _NOTHING])
                    file.set_entries(place.first, new)
                    self.dead_bytes += self._record_bytes(old) - self._record_bytes(new)
            finally:
                self._release(places)
            self._latest_view[flat] = number
            self.progress.take_back(flat)
            return True

    def _version_before(
        self, files: Sequence[ShardFile], places: Sequence[_Place], latest: int
    ) -> tuple[int, list[_Extents]]:
        versions: list[dict[int, dict[int, Record]]] = []
        for file, place in zip(files, places, strict=True):
            found: dict[int, dict[int, Record]] = {}
            for record in file.records(self._array_id):
                inside = 0 <= record.index - place.first < self._tiles_in_shard
                if inside and not record.retracted and record.number < latest:
                    found.setdefault(record.number, {})[record.index] = record
            versions.append(found)
        for number in sorted(set.intersection(*map(set, versions)), reverse=True):
            extents = [
                _whole_version(
                    file,
                    [(place.first + k) if cut else None for k, cut in enumerate(part.tiles)],
                    found[number],
                )
                for file, place, part, found in zip(
                    files, places, self._parts, versions, strict=True
                )
            ]
            if all(extent is not None for extent in extents):
                return number, [extent for extent in extents if extent is not None]
        return 0, [[_NOTHING] * self._tiles_in_shard for _ in places]

    def load(
        self, chunk: int, slot: int | None = None, count: int = 0
    ) -> tuple[np.ndarray, Slots] | None:
        """The block of a chunk that spans several positions, and what is in it; None if there is
        none. With a `slot`, the newest one in which that slot was written `count` times.

        Raises
        ------
        ValueError
            Its bytes are not what was written.
        """
        places = self._places(chunk)
        files = self._acquire(places)
        try:
            number = int(self._latest_view[chunk])
            if not number:
                return None
            extents = [
                file.read_entries(place.first, self._tiles_in_shard)
                for file, place in zip(files, places, strict=True)
            ]
            while number:
                slots = Slots.unpack(files[0].read_lead(extents[0][0]), self.group)
                if slots is None:
                    raise ValueError(f"the table of chunk {chunk} is not what was written")
                if slot is None or slots.counts[slot] == count:
                    return self._decoded(files, extents), slots
                number, extents = self._version_before(files, places, number)
            return None
        finally:
            self._release(places, written=False)

    def _decoded(self, files: Sequence[ShardFile], extents: Sequence[_Extents]) -> np.ndarray:
        decode = decoder(self._codecs)
        block = np.empty(self._block_shape, self._dtype)
        for file, part, found in zip(files, self._parts, extents, strict=True):
            for cut, extent in zip(part.tiles, found, strict=True):
                if cut is None:
                    continue
                data = np.frombuffer(decode(file.read_chunk(extent)), self._dtype)
                target = block[(..., *cut)]
                inside = tuple(map(slice, target.shape))
                target[...] = data.reshape(self._stored_tile)[inside]
        return block

    def _record_bytes(self, extents: _Extents) -> int:
        fixed = self._lead + HEAD_BYTES
        return sum(fixed + nbytes for offset, nbytes in extents if offset != MISSING)

    # ------------------------------------------------------------------ places

    def _places(self, flat: int) -> list[_Place]:
        coordinates: list[int] = []
        number = local = 0
        for n, part, grid in zip(
            self._position(flat), self._scan_shard, self._scan_grid, strict=True
        ):
            coordinate, rest = divmod(n, part)
            coordinates.append(coordinate)
            # The grid's first length counts for nothing here, so a growing array keeps its numbers.
            number = number * grid + coordinate
            local = local * part + rest
        first = local * self._tiles_in_shard
        places = []
        for part in self._parts:
            shard = number
            for coordinate, grid in zip(part.coordinates, self._frame_grid, strict=True):
                shard = shard * grid + coordinate
            places.append(_Place(shard, (*coordinates, *part.coordinates), first))
        return places

    def _position(self, flat: int) -> tuple[int, ...]:
        position = []
        for size in self._scan_shape[:0:-1]:
            flat, n = divmod(flat, size)
            position.append(n)
        position.append(flat)
        return tuple(reversed(position))

    # ------------------------------------------------------------------ files

    def _acquire(self, places: Sequence[_Place]) -> list[ShardFile]:
        files = []
        with self._files:
            for place in places:
                shard = self._open.get(place.number)
                if shard is None:
                    self._close_idle()
                    try:
                        shard = _Open(self._open_file(place.coordinates))
                    except BaseException:
                        for done in places[: len(files)]:
                            self._open[done.number].users -= 1
                        raise
                    self._open[place.number] = shard
                else:
                    self._open.move_to_end(place.number)
                shard.users += 1
                files.append(shard.file)
        return files

    def _release(self, places: Sequence[_Place], *, written: bool = True) -> None:
        with self._files:
            for place in places:
                self._open[place.number].users -= 1
                if written:
                    self._unsynced[place.number] = place

    def _open_file(self, coordinates: tuple[int, ...]) -> ShardFile:
        path = self._node.joinpath("c", *map(str, coordinates))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            ShardFile.create(path, self._entries)
        expected = self._expected_shard_bytes
        return ShardFile(path, self._entries, expected_bytes=expected, lead=self._lead)

    def _close_idle(self) -> None:
        for number in list(self._open):
            if len(self._open) < MAX_OPEN_SHARDS:
                break
            if not self._open[number].users:
                self._open.pop(number).file.close()

    def sync(self) -> None:
        """Wait until what is stored is on disk; raises OSError, and does not try the same bytes
        again.
        """
        with self._files:
            unsynced, self._unsynced = self._unsynced, {}
        directories: set[Path] = set()
        for place in unsynced.values():
            (file,) = self._acquire([place])
            try:
                file.sync()
            finally:
                self._release([place], written=False)
            parents = itertools.takewhile(lambda path: path != self._node.parent, file.path.parents)
            directories.update(parents)
        for directory in directories:
            fsync_dir(directory)

    def close(self) -> None:
        """Close all files; nobody may be storing."""
        with self._files:
            for shard in self._open.values():
                shard.file.close()
            self._open.clear()


def _parts(
    frame: tuple[int, ...], tile: tuple[int, ...], shard: tuple[int, ...]
) -> tuple[_Part, ...]:
    parts = []
    for coordinates in itertools.product(
        *(range(math.ceil(n / size)) for n, size in zip(frame, shard, strict=True))
    ):
        origin = [n * size for n, size in zip(coordinates, shard, strict=True)]
        grid = [range(size // step) for size, step in zip(shard, tile, strict=True)]
        parts.append(
            _Part(
                coordinates,
                tuple(_cut(frame, tile, origin, cell) for cell in itertools.product(*grid)),
            )
        )
    return tuple(parts)


def _cut(
    frame: tuple[int, ...], tile: tuple[int, ...], origin: Sequence[int], cell: tuple[int, ...]
) -> tuple[slice, ...] | None:
    starts = [begin + n * step for begin, n, step in zip(origin, cell, tile, strict=True)]
    if any(start >= size for start, size in zip(starts, frame, strict=True)):
        return None
    return tuple(slice(start, start + step) for start, step in zip(starts, tile, strict=True))


def _whole_version(
    file: ShardFile, indices: Sequence[int | None], records: dict[int, Record]
) -> _Extents | None:
    """The extents of a version of a frame in one shard; None if not every tile is there and
    undamaged.
    """
    extents: _Extents = []
    for index in indices:
        if index is None:
            extents.append(_NOTHING)
            continue
        record = records.get(index)
        if record is None or not file.chunk_is_whole((record.offset, record.nbytes)):
            return None
        extents.append((record.offset, record.nbytes))
    return extents
