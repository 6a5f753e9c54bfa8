"""Reads regions of a published array, each chunk decoded by the pool, in bounded memory.

zarr-python reads the same. Here it is known how much memory that takes, whatever the chunks are,
and which chunks there are at all.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.store._codecs import checksum, decoder
from bluesky_zarr.store._cuts import Cell, Region, cells, grid, lengths, whole, within
from bluesky_zarr.store._kinds import sharding
from bluesky_zarr.store._metadata import open_array_quietly
from bluesky_zarr.store._pool import in_order
from bluesky_zarr.store._shard import ENTRY_BYTES, MISSING

# Their indexes are in memory: 1 MiB each, at most.
_OPEN_SHARDS = 16


class ChunkReader:
    """An array of a published store that bluesky-zarr wrote.

    Not for several threads at a time. Raises ValueError where a codec is not known here.
    """

    def __init__(self, node: Path, document: Mapping[str, Any]) -> None:
        self.node = node
        array = open_array_quietly(node)
        self.shape: Cell = tuple(document["shape"])
        self.dtype = array.dtype
        self.fill_value = array.fill_value
        file_shape: Cell = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        found = sharding(dict(document))
        #: The smallest piece that can be read.
        self.chunks: Cell = tuple(found["chunk_shape"]) if found else file_shape
        self.chunk_bytes = math.prod(self.chunks) * self.dtype.itemsize
        self.codecs: list[dict[str, Any]] = (found or document)["codecs"]
        self._decode = decoder(self.codecs)
        self._sharded = found is not None
        self._grid: Cell = tuple(f // c for f, c in zip(file_shape, self.chunks, strict=True))
        self._index_first = bool(found) and found.get("index_location") == "start"
        self._index_is_checked = bool(found) and found["index_codecs"][-1]["name"] == "crc32c"
        self._most_open = _OPEN_SHARDS
        self._open: dict[Cell, tuple[int, np.ndarray] | None] = {}

    def present(self, region: Region) -> np.ndarray:
        """Which chunks that a region touches there are: bool, over the grid of chunks."""
        ranges = grid(region, self.chunks)
        found = np.zeros([len(r) for r in ranges], bool)
        files = tuple(slice(r.start, r.stop) for r in ranges)
        for part in cells(files, self._grid):
            place = tuple(p.start // g for p, g in zip(part, self._grid, strict=True))
            opened = self._file(place)
            if opened is not None:
                corner = tuple(slice(p * g, None) for p, g in zip(place, self._grid, strict=True))
                there = (opened[1][:, 0] != np.uint64(MISSING)).reshape(self._grid)
                found[within(part, files)] = there[within(part, corner)]
        return found

    def fraction(self) -> float:
        """How many of the chunks that the array could have there are, as a fraction."""
        possible = math.prod(-(-n // c) for n, c in zip(self.shape, self.chunks, strict=True))
        files = tuple(c * g for c, g in zip(self.chunks, self._grid, strict=True))
        found = 0
        for part in cells(whole(self.shape), files):
            opened = self._file(tuple(p.start // n for p, n in zip(part, files, strict=True)))
            if opened is not None:
                found += int(np.count_nonzero(opened[1][:, 0] != np.uint64(MISSING)))
        return found / max(1, possible)

    def read(self, region: Region, *, ahead: int) -> np.ndarray:
        """The values of a region, with the fill value where there is no chunk.

        `ahead` chunks are read and decoded at a time, each with up to twice its size in memory.

        Raises
        ------
        ValueError
            A chunk, or the index of a shard, is not what was written.
        """
        values = np.full(lengths(region), self.fill_value, self.dtype)
        # A file must not be closed while one of the chunks under way is in it.
        self._most_open = max(_OPEN_SHARDS, ahead + 2)
        calls = (
            functools.partial(self._read_chunk, *located, part, values[within(part, region)])
            for part in cells(region, self.chunks)
            if (located := self._locate(part)) is not None
        )
        for _ in in_order(calls, ahead=ahead):
            pass
        return values

    def _locate(self, part: Region) -> tuple[int, int, int] | None:
        """File, offset and length of the chunk that a part lies in."""
        chunk = tuple(p.start // n for p, n in zip(part, self.chunks, strict=True))
        opened = self._file(tuple(c // g for c, g in zip(chunk, self._grid, strict=True)))
        if opened is None:
            return None
        inside = tuple(c % g for c, g in zip(chunk, self._grid, strict=True))
        offset, nbytes = opened[1][np.ravel_multi_index(inside, self._grid) if inside else 0]
        return None if offset == MISSING else (opened[0], int(offset), int(nbytes))

    def _read_chunk(self, fd: int, offset: int, nbytes: int, part: Region, out: np.ndarray) -> None:
        try:
            data = self._decode(_read(fd, nbytes, offset))
            values = np.frombuffer(data, self.dtype.newbyteorder("<")).reshape(self.chunks)
        except ValueError as error:
            start = tuple(p.start for p in part)
            raise ValueError(
                f"{str(self.node)!r}: the chunk with index {start} cannot be read: {error}; run "
                "validate on the store, and restore the file from a copy"
            ) from None
        corner = tuple(
            slice(p.start // n * n, None) for p, n in zip(part, self.chunks, strict=True)
        )
        out[...] = values[within(part, corner)]

    def _file(self, place: Cell) -> tuple[int, np.ndarray] | None:
        """The open file and its index; None where there is none."""
        if place in self._open:
            opened = self._open[place] = self._open.pop(place)
            return opened
        while len(self._open) >= self._most_open:
            self._close(next(iter(self._open)))
        try:
            fd = os.open(self.node.joinpath("c", *map(str, place)), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            opened = None
        else:
            opened = (fd, self._index(fd, place))
        self._open[place] = opened
        return opened

    def _index(self, fd: int, place: Cell) -> np.ndarray:
        size = os.fstat(fd).st_size
        if not self._sharded:
            return np.array([[0, size]], "<u8")
        nbytes = math.prod(self._grid) * ENTRY_BYTES + 4 * self._index_is_checked
        data = _read(fd, nbytes, 0 if self._index_first else max(0, size - nbytes))
        body = data[:-4] if self._index_is_checked else data
        if len(data) < nbytes or (self._index_is_checked and checksum(body) != data[-4:]):
            os.close(fd)
            raise ValueError(
                f"{str(self.node.joinpath('c', *map(str, place)))!r}: its index is damaged; run "
                "validate on the store, and restore the file from a copy"
            )
        return np.frombuffer(body, "<u8").reshape(-1, 2)

    def _close(self, place: Cell) -> None:
        opened = self._open.pop(place)
        if opened is not None:
            os.close(opened[0])

    def close(self) -> None:
        """Close all files."""
        for place in list(self._open):
            self._close(place)

    def __enter__(self) -> ChunkReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read(fd: int, nbytes: int, offset: int) -> bytes:
    parts = []
    while nbytes > 0 and (part := os.pread(fd, nbytes, offset)):
        parts.append(part)
        nbytes -= len(part)
        offset += len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
