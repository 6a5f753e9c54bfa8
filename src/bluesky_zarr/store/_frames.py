"""The frames of one array in its shard files: append, enter in the index, take back."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from bluesky_zarr.store._codecs import checksum, checksum_bytes, checksum_so_far
from bluesky_zarr.store._layout import Layout
from bluesky_zarr.store._open_shards import OpenShards, Place
from bluesky_zarr.store._progress import Progress
from bluesky_zarr.store._shard import (
    ALIGNMENT,
    ENTRY_BYTES,
    HEAD_BYTES,
    MISSING,
    Record,
    ShardFile,
    aligned,
    head_bytes,
    record_bytes,
)
from bluesky_zarr.store._slots import Slots, slots_bytes
from bluesky_zarr.store._tiles import Tiles

if TYPE_CHECKING:
    from typing_extensions import Buffer

PIECE_BYTES = 512 * 2**10
"""How much of a frame is checksummed and written at a time, while the interpreter is free."""
LATE_SECONDS = 0.0003
"""The checksum of a piece takes a tenth of this. A thread that comes back from it later had to wait
for the interpreter.
"""
BUSY_PIECE_BYTES = 16 * 2**20
"""How much goes out at a time then: most frames whole."""
BUSY_SECONDS = 0.02
"""For so long, before a small piece is tried again."""

_Extents = list[tuple[int, int]]
_NOTHING = (MISSING, MISSING)


class _Pieces:
    """Appends bytes to a file at an offset, as they come, a piece at a time.

    The kernel lets one write into a file at a time: while one worker writes a piece, another one
    checksums its next, and that is then still in the processor's cache when it is written. An index
    entry waits for a piece of another frame at most. Pieces end at multiples of their size in the
    file: the page cache then gets memory in large units for each.

    After each piece the worker needs the interpreter, and where an event loop is busy with it, both
    lose time whenever it changes hands. So as soon as a worker had to wait, what is left of its
    frame goes out as one large piece, and so do the next frames.
    """

    #: Until when pieces are large, by `perf_counter`: for the process, as the interpreter is.
    busy_until = 0.0

    def __init__(self, file: ShardFile, offset: int) -> None:
        self._file = file
        self._offset = offset
        self._waiting: list[Buffer] = []
        self._nbytes = 0

    def add(self, *buffers: bytes | memoryview) -> None:
        self._waiting += buffers
        self._nbytes += sum(map(len, buffers))

    def add_with_checksum(self, data: memoryview, behind: bytes) -> None:
        """Data, its checksum, and what stands behind that."""
        value = start = 0
        if data.nbytes <= 2 * PIECE_BYTES:
            self.add(data, checksum(data) + behind)
            return
        while start < data.nbytes:
            until = PIECE_BYTES - (self._offset + self._nbytes) % PIECE_BYTES
            if until < PIECE_BYTES // 4:
                until += PIECE_BYTES
            begun = perf_counter()
            busy = begun < _Pieces.busy_until
            if busy:
                until = BUSY_PIECE_BYTES
            piece = data[start : start + until]
            start += piece.nbytes
            value = checksum_so_far(piece, value)
            self._waiting.append(piece)
            self._nbytes += piece.nbytes
            if not busy and perf_counter() - begun > LATE_SECONDS:
                _Pieces.busy_until = begun + BUSY_SECONDS
            elif piece.nbytes == until:
                self.flush()
        self.add(checksum_bytes(value) + behind)

    def flush(self) -> None:
        if self._waiting:
            self._file.write(self._waiting, self._offset)
            self._offset += self._nbytes
            self._waiting = []
            self._nbytes = 0


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
        #: Whether the bytes of a frame are stored as they are.
        self.plain = codec == "none"
        self.progress = progress
        self._array_id = array_id

        # From here on a place in the scan is a chunk's: of one position, or of a group of them.
        ndim = len(scan_shape)
        scan_shape = (*scan_shape[:-1], math.ceil(scan_shape[-1] / self.group))
        self._scan_shape = scan_shape
        self._scan_shard = layout.grid[:ndim]
        self._scan_grid = tuple(
            math.ceil(n / part) for n, part in zip(scan_shape, self._scan_shard, strict=True)
        )
        frame_shard = layout.shard[ndim:]
        self._frame_grid = tuple(
            math.ceil(n / part) for n, part in zip(frame_shape, frame_shard, strict=True)
        )
        self._tiles = Tiles(
            frame_shape,
            dtype,
            tile=layout.inner[ndim:],
            shard=frame_shard,
            group=self.group,
            codec=codec,
        )
        self._tiles_in_shard = math.prod(layout.grid[ndim:])
        self._lead = slots_bytes(self.group)
        entries = math.prod(layout.grid)
        self._gap = bytes(aligned(self._lead + HEAD_BYTES) - self._lead - HEAD_BYTES)
        self._shards = OpenShards(
            node,
            entries=entries,
            expected_bytes=entries
            * (ENTRY_BYTES + record_bytes(self._lead, self._tiles.nbytes + 4)),
            lead=self._lead,
        )

        # Orders the changes of index entries.
        self._index = threading.Lock()
        self._latest = np.zeros(math.prod(scan_shape), np.uint64)
        self._latest_view = self._latest.data

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
        encoded = [self._tiles.encode(frame, part) for part in self._tiles.parts]
        places = self._places(flat)
        files = self._shards.acquire(places)
        try:
            extents = [
                self._append(file, place, tiles, number, time, slots)
                for file, place, tiles in zip(files, places, encoded, strict=True)
            ]
            self._enter(files, places, extents, flat, number, ranges)
        finally:
            self._shards.release(places)

    def _append(
        self,
        file: ShardFile,
        place: Place,
        tiles: Sequence[memoryview | None],
        number: int,
        time: float,
        slots: Slots | None,
    ) -> _Extents:
        total = sum(record_bytes(self._lead, tile.nbytes + 4) for tile in tiles if tile is not None)
        table = () if slots is None else (self._gap, slots.pack())
        offset = file.reserve(total)
        log = _Pieces(file, offset)
        extents: _Extents = []
        for index, tile in enumerate(tiles, place.first):
            if tile is None:
                extents.append(_NOTHING)
                continue
            nbytes = tile.nbytes + 4
            end = offset + record_bytes(self._lead, nbytes)
            head = head_bytes(self._array_id, place.number, index, number, time, nbytes)
            log.add(*table, head)
            log.add_with_checksum(tile, bytes(-nbytes % ALIGNMENT))
            extents.append((end - aligned(nbytes), nbytes))
            offset = end
        log.flush()
        return extents

    def _enter(
        self,
        files: Sequence[ShardFile],
        places: Sequence[Place],
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
            with self._shards.using(places) as files:
                number, previous = self._version_before(files, places, self._latest_view[flat])
                for file, place, new in zip(files, places, previous, strict=True):
                    old = file.read_entries(place.first, len(new))
                    # The head first: killed in between, a recovery must not adopt the record again.
                    # Readers do not look at heads.
                    file.mark_retracted([extent for extent in old if extent != _NOTHING])
                    file.set_entries(place.first, new)
                    self.dead_bytes += self._record_bytes(old) - self._record_bytes(new)
            self._latest_view[flat] = number
            self.progress.take_back(flat)
            return True

    def _version_before(
        self, files: Sequence[ShardFile], places: Sequence[Place], latest: int
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
                    files, places, self._tiles.parts, versions, strict=True
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
        with self._shards.using(places, written=False) as files:
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
                    chunks = [
                        [None if extent == _NOTHING else file.read_chunk(extent) for extent in part]
                        for file, part in zip(files, extents, strict=True)
                    ]
                    return self._tiles.decode(chunks), slots
                number, extents = self._version_before(files, places, number)
            return None

    def _record_bytes(self, extents: _Extents) -> int:
        return sum(
            record_bytes(self._lead, nbytes) for offset, nbytes in extents if offset != MISSING
        )

    # ------------------------------------------------------------------ places

    def _places(self, flat: int) -> list[Place]:
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
        for part in self._tiles.parts:
            shard = number
            for coordinate, grid in zip(part.coordinates, self._frame_grid, strict=True):
                shard = shard * grid + coordinate
            places.append(Place(shard, (*coordinates, *part.coordinates), first))
        return places

    def _position(self, flat: int) -> tuple[int, ...]:
        position = []
        for size in self._scan_shape[:0:-1]:
            flat, n = divmod(flat, size)
            position.append(n)
        position.append(flat)
        return tuple(reversed(position))

    # ------------------------------------------------------------------ the disk

    def sync(self) -> bool:
        """Wait until what is stored is on disk; whether there was anything to wait for. Raises
        OSError, and does not try the same bytes again.
        """
        return self._shards.sync()

    def close(self) -> None:
        """Close all files; nobody may be storing."""
        self._shards.close()


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
