"""A small array: in memory where it was touched, on disk in chunks, each replaced as a whole."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import crc32c
import numpy as np
from numcodecs.vlen import VLenUTF8

from bluesky_zarr.store._files import replace_bytes
from bluesky_zarr.store._metadata import Document, array_document, write_document

# A changed element rewrites its chunk: 32768 float64 are 256 KiB, a few a second even in a scan of
# a million points.
_CHUNK_ELEMENTS = 32768
_GROWING_ROWS = 4096


Place = tuple[tuple[int, ...], tuple[int, ...]]


class SmallArray:
    """An unsharded array that is held in memory where it was touched, and written chunk by chunk.

    `shape` is that of the whole array; with `growing` its first length is ignored and becomes the
    highest row set.
    """

    def __init__(
        self,
        node: Path,
        *,
        shape: Sequence[int],
        dims: Sequence[str],
        dtype: str,
        fill_value: Any,
        growing: bool = False,
        attributes: Mapping[str, Any] | None = None,
        units: str = "",
        long_name: str = "",
    ) -> None:
        self.node = node
        self.shape = tuple(shape)
        self.dims = tuple(dims)
        self.dtype = dtype
        self.fill_value = fill_value
        self.growing = growing
        self.rows = 0
        self.attributes = dict(attributes or {})
        self.units = units
        self.long_name = long_name
        self.chunks = _chunk_shape(self.shape, growing)
        self._blocks: dict[tuple[int, ...], np.ndarray] = {}
        self._dirty: set[tuple[int, ...]] = set()
        self._written_document: Document | None = None

    def place(self, cell: tuple[int, ...]) -> Place:
        """Chunk and element of a cell; arrays with the same `chunks` over the cell's dims have it
        in common.
        """
        lengths = self.chunks[: len(cell)]
        return (
            tuple(i // n for i, n in zip(cell, lengths, strict=True)),
            tuple(i % n for i, n in zip(cell, lengths, strict=True)),
        )

    def set(self, place: Place, value: Any) -> None:
        """Put one element, or one small array where the array has dims beyond those of the cell."""
        chunk, inside = place
        depth = len(chunk)
        if self.growing:
            self.rows = max(self.rows, chunk[0] * self.chunks[0] + inside[0] + 1)
        if depth == len(self.chunks):
            self._block(chunk)[inside] = value
            return
        value = np.broadcast_to(value, self.shape[depth:])
        lengths = self.chunks[depth:]
        for rest in np.ndindex(*(-(-s // n) for s, n in zip(value.shape, lengths, strict=True))):
            window = tuple(slice(i * n, (i + 1) * n) for i, n in zip(rest, lengths, strict=True))
            part = value[window]
            self._block(chunk + rest)[inside + tuple(slice(0, n) for n in part.shape)] = part

    def set_line(self, cells: Sequence[np.ndarray], values: np.ndarray) -> None:
        """Put one element each into the cells of a line, given by their indices along each dim."""
        if self.growing:
            self.rows = max(self.rows, int(cells[0].max()) + 1)
        chunks = np.stack([i // n for i, n in zip(cells, self.chunks, strict=True)])
        inside = [i % n for i, n in zip(cells, self.chunks, strict=True)]
        edges = np.flatnonzero(np.any(np.diff(chunks), axis=0)) + 1
        for start, stop in itertools.pairwise((0, *edges.tolist(), len(values))):
            chunk = tuple(chunks[:, start].tolist())
            self._block(chunk)[tuple(i[start:stop] for i in inside)] = values[start:stop]

    def set_all(self, values: np.ndarray) -> None:
        """Put the whole of a 1-D array."""
        (length,) = self.chunks
        for start in range(0, len(values), length):
            part = values[start : start + length]
            self._block((start // length,))[: len(part)] = part

    def _block(self, chunk: tuple[int, ...]) -> np.ndarray:
        self._dirty.add(chunk)
        block = self._blocks.get(chunk)
        if block is None:
            dtype = object if self.dtype == "str" else np.dtype(self.dtype)
            block = self._blocks[chunk] = np.full(self.chunks, self.fill_value, dtype)
        return block

    def take_over(self, other: SmallArray) -> None:
        """Hold what `other` holds; its own content is forgotten."""
        self.rows = other.rows
        self._blocks = {chunk: block.copy() for chunk, block in other._blocks.items()}
        self._dirty = set(self._blocks)

    def touch(self, other: SmallArray) -> None:
        """Hold a chunk without any value for each one that `other` holds."""
        for chunk in other._blocks:
            self._block(chunk)

    def flush(self) -> None:
        """Write the chunks that have changed; `write_document` makes new rows part of the array."""
        for chunk in sorted(self._dirty):
            path = self.node.joinpath("c", *map(str, chunk))
            encoded = self._encode(self._blocks[chunk])
            try:
                replace_bytes(path, encoded)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_bytes(path, encoded)
            self._dirty.discard(chunk)

    def write_document(self, length: int = 0) -> None:
        """Write the document if it has changed; the array is there for readers from then on.

        `length` is the first length if growing, at least the rows. A later one is for `lengthen`
        to write, as all arrays of the group have it in common.
        """
        shape = self.shape
        if self.growing:
            shape = (max(self.rows, length), *shape[1:])
        document = array_document(
            shape=shape,
            dtype=self.dtype,
            chunks=self.chunks,
            dims=self.dims,
            fill_value=self.fill_value,
            attributes=self.attributes,
            units=self.units,
            long_name=self.long_name,
        )
        described = {**document, "shape": self.shape} if self.growing else document
        if described != self._written_document:
            self.node.mkdir(exist_ok=True)
            write_document(self.node, document)
            self._written_document = described

    def _encode(self, block: np.ndarray) -> bytes:
        if block.dtype == object:
            data = bytes(VLenUTF8().encode(block.reshape(-1)))
        else:
            data = block.astype(block.dtype.newbyteorder("<"), copy=False).tobytes()
        return data + crc32c.crc32c(data).to_bytes(4, "little")


def _chunk_shape(shape: Sequence[int], growing: bool) -> tuple[int, ...]:
    # Whole trailing dims first, so that a chunk is a run of positions in C order.
    left, chunks = _CHUNK_ELEMENTS, []
    for axis in range(len(shape) - 1, -1, -1):
        length = _GROWING_ROWS if growing and axis == 0 else shape[axis]
        length = max(1, min(length, left))
        left //= length
        chunks.insert(0, length)
    return tuple(chunks)
