"""One image in memory, cut into the chunks of a cube."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bluesky_zarr.store._strided import copy_values


class Tiles:
    """Room for the chunks of one image, to be filled by one image after another.

    Parameters
    ----------
    shape
        Of an image: polarization, l, m.
    tile
        Of a chunk: l, m. Those at the edge are filled up with NaN.
    """

    def __init__(self, shape: tuple[int, ...], tile: tuple[int, ...]) -> None:
        self.shape = shape
        self._tile = tile
        planes, *lengths = shape
        grid = [-(-n // t) for n, t in zip(lengths, tile, strict=True)]
        # (polarization, chunk of l, chunk of m, l, m)
        self._values = np.full((planes, *grid, *tile), np.nan, "<f4")

    def put(self, plane: int, row: int, values: np.ndarray) -> None:
        """Fill in rows of the sky, from `row` on: (dec, ra), float32 in any byte order."""
        size_l, size_m = self._tile
        end = row + len(values)
        for j in range(row // size_m, -(-end // size_m)):
            first, last = max(row, j * size_m), min(end, (j + 1) * size_m)
            for i in range(self._values.shape[1]):
                part = values[first - row : last - row, i * size_l : (i + 1) * size_l].T
                tile = self._values[plane, i, j]
                copy_values(tile[: len(part), first - j * size_m : last - j * size_m], part)

    def fill(self, planes: np.ndarray) -> None:
        """Fill in an image: (polarization, l, m)."""
        for number, plane in enumerate(planes):
            self.put(number, 0, plane.T)

    def __iter__(self) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
        """The chunks in C order: (polarization, l, m) of the grid, and the values."""
        for place in np.ndindex(self._values.shape[:3]):
            yield place, self._values[place]
