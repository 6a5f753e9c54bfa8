"""Writes all of an array into another one that is cut otherwise, in bounded memory.

Files of the target are written one after the other, each once, from slabs of whole target chunks.
Where slabs that fit into memory would make chunks of the source be decoded more than twice, the
values take a way round by a scratch file, into which each chunk of the source goes once, in pieces
that lie in one slab.
"""

from __future__ import annotations

import errno
import functools
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bluesky_zarr.store._arrays import ArrayWriter
from bluesky_zarr.store._chunk_reader import ChunkReader
from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._cuts import Cell, Region, cells, grid, lengths, pieces, run, whole, within
from bluesky_zarr.store._files import pread_into, pwrite_all
from bluesky_zarr.store._pool import calls_ahead, in_order
from bluesky_zarr.store._whole_shard import WholeShard

MEMORY_BYTES = 256 * 2**20
"""What this takes at most, whatever the size of the array; more where three chunks of the source
or of the target are more.
"""
# A quarter for a slab, one for what is being read, one for what is being encoded; the rest is for
# indexes of shards, and for what the interpreter is slow to give back.
_SHARE = 4

_MOST_DECODES = 2.0


class Transposition:
    """The way from one array to another of the same shape and dtype, decided before anything is
    read; see `run`.

    `scratch_bytes` are needed on disk while it goes on, beside the target.
    """

    def __init__(
        self, source: ChunkReader, shards: Cell, chunks: Cell, *, memory: int = MEMORY_BYTES
    ) -> None:
        self._source = source
        self._shards = shards
        self._shape = source.shape
        self._ahead_memory = memory // _SHARE
        itemsize = source.dtype.itemsize
        most = max(1, memory // _SHARE // itemsize)
        both = tuple(
            min(math.lcm(s, c), n) for s, c, n in zip(source.chunks, chunks, shards, strict=True)
        )
        boxes = [run(shards, most, chunks)]
        if math.prod(both) <= most and all(b % c == 0 for b, c in zip(both, chunks, strict=True)):
            boxes.append(run(shards, most, both))
        decodes = [_decodes(self._shape, shards, box, source.chunks) for box in boxes]
        self._box = boxes[decodes.index(min(decodes))]
        self.scratch_bytes = 0
        if min(decodes) > _MOST_DECODES:
            # What goes by the scratch file at a time: whole chunks of both, in whole shards.
            self._stretch = tuple(
                -(-min(n, s) // z) * z
                for n, s, z in zip(self._shape, source.chunks, shards, strict=True)
            )
            self._source_box = run(self._stretch, most, source.chunks)
            part = map(min, self._stretch, self._shape)
            self.scratch_bytes = math.prod(part) * itemsize

    def run(self, target: ArrayWriter, scratch: Path) -> None:
        """Write all of `target`. Chunks of which the source has nothing are missing there, too.

        Raises
        ------
        ValueError
            A chunk of the source is damaged.
        OSError
            The disk does not take it.
        """
        if not self.scratch_bytes:
            for shard in cells(whole(self._shape), self._shards):
                self._write(target, shard, self._read)
            return
        for stretch in cells(whole(self._shape), self._stretch):
            with _Scratch(scratch, self._source) as store:
                for region in cells(stretch, self._source_box):
                    if self._source.present(region).any():
                        values = self._read(region)
                        for slab in self._slabs(stretch):
                            store.put(slab, region, values)
                        del values
                for shard in cells(stretch, self._shards):
                    self._write(target, shard, store.get)

    def _slabs(self, region: Region) -> Iterator[Region]:
        for shard in cells(region, self._shards):
            yield from pieces(shard, self._box)

    def _ahead(self, chunk_bytes: int) -> int:
        # Each is there twice: as it is stored, and its values.
        return calls_ahead(2 * chunk_bytes, self._ahead_memory)

    def _read(self, region: Region) -> np.ndarray:
        return self._source.read(region, ahead=self._ahead(self._source.chunk_bytes))

    def _write(
        self, target: ArrayWriter, region: Region, read: Callable[[Region], np.ndarray]
    ) -> None:
        place = tuple(r.start // n for r, n in zip(region, self._shards, strict=True))
        with target.shard(place) as shard:
            for slab in pieces(region, self._box):
                self._write_slab(target, shard, slab, read)

    def _write_slab(
        self,
        target: ArrayWriter,
        shard: WholeShard,
        slab: Region,
        read: Callable[[Region], np.ndarray],
    ) -> None:
        present = self._source.present(slab)
        corner = _touched(slab, self._source.chunks)
        chunks = [
            chunk
            for chunk in cells(slab, target.chunks)
            if present[within(_touched(chunk, self._source.chunks), corner)].any()
        ]
        if not chunks:
            return
        values = read(slab)
        calls = (functools.partial(target.encoded, values[within(c, slab)]) for c in chunks)
        ahead = self._ahead(math.prod(target.chunks) * values.itemsize)
        for chunk, parts in zip(chunks, in_order(calls, ahead=ahead), strict=True):
            shard.append(target.number(chunk), parts)


class _Scratch:
    """A file without a name that holds values in pieces, each for one slab."""

    def __init__(self, path: Path, source: ChunkReader) -> None:
        self._source = source
        self._pieces: dict[Cell, list[tuple[Region, int, bytes]]] = {}
        self._end = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        path.unlink()

    def put(self, slab: Region, region: Region, values: np.ndarray) -> None:
        """Keep what the values of a region hold of a slab."""
        part = _shared(slab, region)
        if part is None:
            return
        data = np.ascontiguousarray(values[within(part, region)]).reshape(-1).view("u1").data
        pwrite_all(self._fd, data, self._end)
        self._pieces.setdefault(_corner(slab), []).append((part, self._end, checksum(data)))
        self._end += data.nbytes

    def get(self, slab: Region) -> np.ndarray:
        """The values of a slab, with the fill value where nothing was kept."""
        values = np.full(lengths(slab), self._source.fill_value, self._source.dtype)
        for part, offset, found in self._pieces.get(_corner(slab), ()):
            piece = np.empty(lengths(part), self._source.dtype)
            data = piece.reshape(-1).view("u1").data
            pread_into(self._fd, data, offset)
            if checksum(data) != found:
                raise OSError(
                    errno.EIO, "a scratch file gave back something else than was written into it"
                )
            values[within(part, slab)] = piece
        return values

    def __enter__(self) -> _Scratch:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)


def _corner(region: Region) -> Cell:
    return tuple(r.start for r in region)


def _touched(region: Region, chunks: Cell) -> Region:
    return tuple(slice(r.start, r.stop) for r in grid(region, chunks))


def _shared(one: Region, other: Region) -> Region | None:
    shared = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return shared if all(s.start < s.stop for s in shared) else None


def _decodes(shape: Cell, shards: Cell, box: Cell, chunks: Cell) -> float:
    """How often a chunk of the source is decoded, in the mean."""
    times = 1.0
    for length, shard, size, chunk in zip(shape, shards, box, chunks, strict=True):
        starts = [
            start
            for first in range(0, length, shard)
            for start in range(first, min(first + shard, length), size)
        ]
        ends = [*starts[1:], length]
        touched = sum(
            -(-end // chunk) - start // chunk for start, end in zip(starts, ends, strict=True)
        )
        times *= touched / max(1, -(-length // chunk))
    return times
