"""N-D arrays that are written in blocks: whole files by the pool of this process, the rest by
zarr-python.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr

from bluesky_zarr.store._codecs import checksum, encoder_of
from bluesky_zarr.store._cuts import Cell, Region, cells, whole, within
from bluesky_zarr.store._files import replace_bytes
from bluesky_zarr.store._kinds import is_frame_array, sharding
from bluesky_zarr.store._metadata import open_for_blocks, read_document
from bluesky_zarr.store._paths import check_inside
from bluesky_zarr.store._pool import calls_ahead, in_order
from bluesky_zarr.store._strided import copy_values
from bluesky_zarr.store._whole_shard import WholeShard

if TYPE_CHECKING:
    from typing_extensions import Buffer

_BYTES_AHEAD = 64 * 2**20

Encoded = tuple["Buffer", bytes]
"""A chunk as it is stored: encoded, and its crc32c."""


class ArrayWriter:
    """Fills an N-D array of a store with blocks.

    Any number of threads and processes may each have one of the same array, as long as no two
    write into the same file. What it writes depends on the values alone: the same blocks give the
    same bytes.

    Parameters
    ----------
    store
        The directory of the store, which is being written.
    key
        Of an array made by `BatchStore.create_array` or `ZarrWriter.create_array`.

    Raises
    ------
    FileNotFoundError
        There is no such array.
    ValueError
        It is an array of frames, or none that bluesky-zarr writes.
    """

    def __init__(self, store: str | Path, key: str) -> None:
        self.key = key
        self.node = check_inside(Path(store), key)
        document = read_document(self.node)
        if is_frame_array(document):
            raise ValueError(
                f"array {key!r} takes frames from its sink; write blocks into one of create_array()"
            )
        if document["node_type"] != "array":
            raise ValueError(f"{key!r} is a group; give the key of an array")
        array = open_for_blocks(self.node)
        self._array: zarr.Array[Any] = array
        self.shape: Cell = tuple(array.shape)
        self.dims: tuple[str, ...] = tuple(document["dimension_names"] or ())
        self.dtype = array.dtype
        grid: Cell = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
        sharded = sharding(document)
        #: The smallest piece that is read, and the shape of a file of them (None: of one chunk).
        self.chunks: Cell = tuple(sharded["chunk_shape"]) if sharded else grid
        self.shards: Cell | None = grid if sharded else None
        self._file_shape = grid
        self._grid: Cell = tuple(g // c for g, c in zip(grid, self.chunks, strict=True))
        self._text = document["data_type"] == "string"
        if not self._text:
            codecs = sharded["codecs"] if sharded else document["codecs"]
            self._encode = encoder_of(codecs)
            self._stored_dtype = np.dtype(self.dtype).newbyteorder("<")
            # A copy of its values, and them encoded.
            chunk_bytes = 2 * math.prod(self.chunks) * self._stored_dtype.itemsize
            self._ahead = calls_ahead(chunk_bytes, _BYTES_AHEAD)

    def write(self, start: Sequence[int], block: Any) -> None:
        """Write a block, whose first element is at `start`.

        Files that the block covers as far as the array goes (shards, or chunks that are files) are
        encoded by all cores and put in their places whole, which takes 64 MiB (or one chunk, if
        that is larger) beyond the block. Of a file that it covers in part, the rest is read and
        all of it written again, which takes many times as long.

        Parameters
        ----------
        start
            The block's first element along each dim.
        block
            Of the array's rank and exactly its dtype; of text, anything numpy sees as text.

        Raises
        ------
        ValueError
            The block does not fit; nothing is written.
        OSError
            The disk does not take it; files that were done before are whole.
        """
        begin, block = self._checked(start, block)
        chunk_files = []
        region = tuple(slice(b, b + n) for b, n in zip(begin, block.shape, strict=True))
        for part in cells(region, self._file_shape):
            piece = block[within(part, region)]
            place = tuple(p.start // n for p, n in zip(part, self._file_shape, strict=True))
            if self._text or part != self._region(place):
                self._array[part] = piece
            elif self.shards is None:
                chunk_files.append(functools.partial(self._write_chunk, place, piece))
            else:
                self._write_shard(place, piece)
        if chunk_files:
            for _ in in_order(chunk_files, ahead=self._ahead):
                pass

    def shard(self, place: Sequence[int]) -> WholeShard:
        """A new file for the shard at this place of the grid of shards, to be filled chunk by chunk
        in bounded memory; see `encoded`.

        Raises
        ------
        ValueError
            The array has no shards, or none there.
        """
        if self.shards is None:
            raise ValueError(f"array {self.key!r} is not sharded; use write()")
        place = tuple(map(operator.index, place))
        if len(place) != len(self.shape) or any(
            not 0 <= p * n < max(length, 1)
            for p, n, length in zip(place, self._file_shape, self.shape, strict=True)
        ):
            raise ValueError(f"array {self.key!r} of {self.shape} has no shard at {place}")
        return WholeShard(self._path(place), math.prod(self._grid))

    def number(self, region: Region) -> int:
        """The number in its shard of the inner chunk that begins where this region does."""
        number = 0
        for part, size, count in zip(region, self.chunks, self._grid, strict=True):
            number = number * count + part.start // size % count
        return number

    def encoded(self, values: np.ndarray) -> Encoded:
        """The stored form of a chunk with these values: at the edge of the array they are filled
        up to a whole one.
        """
        if values.shape != self.chunks:
            padded = np.full(self.chunks, self._array.fill_value, self._stored_dtype)
            copy_values(padded[tuple(map(slice, values.shape))], values)
            values = padded
        elif not values.flags.c_contiguous or values.dtype != self._stored_dtype:
            whole_chunk = np.empty(self.chunks, self._stored_dtype)
            copy_values(whole_chunk, values)
            values = whole_chunk
        data = self._encode(values.reshape(-1).view("u1").data)
        return data, checksum(data)

    def _write_shard(self, place: Cell, values: np.ndarray) -> None:
        # In C order, which makes the bytes depend on nothing else.
        windows = list(cells(whole(values.shape), self.chunks))
        calls = (functools.partial(self.encoded, values[window]) for window in windows)
        with self.shard(place) as shard:
            for window, parts in zip(windows, in_order(calls, ahead=self._ahead), strict=True):
                shard.append(self.number(window), parts)

    def _write_chunk(self, place: Cell, values: np.ndarray) -> None:
        path = self._path(place)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, b"".join(self.encoded(values)))

    # ------------------ where things are

    def _region(self, place: Cell) -> Region:
        return tuple(
            slice(p * n, min((p + 1) * n, length))
            for p, n, length in zip(place, self._file_shape, self.shape, strict=True)
        )

    def _path(self, place: Cell) -> Path:
        return self.node.joinpath("c", *map(str, place))

    def _checked(self, start: Sequence[int], block: Any) -> tuple[Cell, np.ndarray]:
        block = np.asarray(block)
        begin = tuple(map(operator.index, start))
        what = f"block for {self.key!r}"
        if not len(begin) == block.ndim == len(self.shape):
            raise ValueError(
                f"{what}: start {begin} has {len(begin)} dims and the block {block.ndim}, the "
                f"array has {len(self.shape)}"
            )
        if self._text and block.dtype.kind in "UTO":
            strange = next((v for v in block.flat if not isinstance(v, str)), None)
            if strange is not None:
                raise ValueError(f"{what}: text expected, got {strange!r}; convert it explicitly")
        elif block.dtype != self.dtype:
            raise ValueError(
                f"{what}: {self.dtype} expected, got {block.dtype}; convert it explicitly: no "
                "silent wrap"
            )
        if any(
            n < 0 or n + length > size
            for n, length, size in zip(begin, block.shape, self.shape, strict=True)
        ):
            raise ValueError(
                f"{what}: {block.shape} from {begin} on is out of bounds of the shape "
                f"{self.shape}; give a region inside of it"
            )
        return begin, block
