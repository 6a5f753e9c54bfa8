"""How a frame is cut into the tiles that are its inner chunks, each of them encoded; and back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bluesky_zarr.store._codecs import compressor_configuration, decoder, encoder


@dataclass(frozen=True)
class Part:
    """What one shard holds of a frame: the shard's coordinates along the frame's dims, and the
    tiles to cut out.

    A tile that lies outside of the frame, as the last ones of a shard can, is None.
    """

    coordinates: tuple[int, ...]
    tiles: tuple[tuple[slice, ...] | None, ...]


class Tiles:
    """The tiles of the frames of one array: `parts` says which shard holds which.

    Where a chunk spans several positions, `group` of them, a frame here is a block of that many.
    """

    def __init__(
        self,
        frame_shape: tuple[int, ...],
        dtype: np.dtype,
        *,
        tile: tuple[int, ...],
        shard: tuple[int, ...],
        group: int,
        codec: str,
    ) -> None:
        self.parts = _parts(frame_shape, tile, shard)
        slots = (group,) if group > 1 else ()
        self._dtype = dtype
        self._whole = tile == frame_shape
        self._block_shape = slots + frame_shape
        self._stored_tile = slots + tile
        self._encode = encoder(codec, dtype.itemsize)
        compressor = compressor_configuration(codec, dtype.itemsize)
        self._codecs = [*([compressor] if compressor else []), {"name": "crc32c"}]

    @property
    def nbytes(self) -> int:
        """Bytes of a tile before it is encoded."""
        return math.prod(self._stored_tile) * self._dtype.itemsize

    def encode(self, frame: np.ndarray, part: Part) -> list[memoryview | None]:
        """The tiles of a part of a frame, which is C-contiguous if it is not cut, and must stay as
        it is as long as they are used.
        """
        chunks: list[memoryview | None] = []
        for cut in part.tiles:
            if cut is None:
                chunks.append(None)
                continue
            tile = frame if self._whole else self._tile_of(frame, cut)
            # Seen as bytes: not every dtype is one that a buffer can be cast from later.
            chunks.append(memoryview(self._encode(tile.reshape(-1).view(np.uint8).data)))
        return chunks

    def _tile_of(self, frame: np.ndarray, cut: tuple[slice, ...]) -> np.ndarray:
        tile = frame[(..., *cut)]
        if tile.shape == self._stored_tile:
            return np.ascontiguousarray(tile)
        # Tiles at the edge are stored whole.
        padded = np.zeros(self._stored_tile, self._dtype)
        padded[tuple(slice(n) for n in tile.shape)] = tile
        return padded

    def decode(self, chunks: Sequence[Sequence[bytes | None]]) -> np.ndarray:
        """The frame of which these are the stored chunks, tile by tile for each part.

        Raises
        ------
        ValueError
            Their bytes are not what was written.
        """
        decode = decoder(self._codecs)
        block = np.empty(self._block_shape, self._dtype)
        for part, stored in zip(self.parts, chunks, strict=True):
            for cut, chunk in zip(part.tiles, stored, strict=True):
                if cut is None or chunk is None:
                    continue
                target = block[(..., *cut)]
                data = np.frombuffer(decode(chunk), self._dtype).reshape(self._stored_tile)
                target[...] = data[tuple(map(slice, target.shape))]
        return block


def _parts(
    frame: tuple[int, ...], tile: tuple[int, ...], shard: tuple[int, ...]
) -> tuple[Part, ...]:
    parts = []
    for coordinates in itertools.product(
        *(range(math.ceil(n / size)) for n, size in zip(frame, shard, strict=True))
    ):
        origin = [n * size for n, size in zip(coordinates, shard, strict=True)]
        grid = [range(size // step) for size, step in zip(shard, tile, strict=True)]
        tiles = tuple(_cut(frame, tile, origin, cell) for cell in itertools.product(*grid))
        parts.append(Part(coordinates, tiles))
    return tuple(parts)


def _cut(
    frame: tuple[int, ...], tile: tuple[int, ...], origin: Sequence[int], cell: tuple[int, ...]
) -> tuple[slice, ...] | None:
    starts = [begin + n * step for begin, n, step in zip(origin, cell, tile, strict=True)]
    if any(start >= size for start, size in zip(starts, frame, strict=True)):
        return None
    return tuple(slice(start, start + step) for start, step in zip(starts, tile, strict=True))
