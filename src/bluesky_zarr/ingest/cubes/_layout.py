"""How a cube is cut into chunks, shards and tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from bluesky_zarr.store._layout import MAX_SHARD_BYTES, Layout

DIMS = ("time", "frequency", "polarization", "l", "m")
_ITEM_BYTES = 4
# A shard may span several time steps only in as far as there remain this many tasks, for workers
# to share and for a conversion that was killed to go on from.
_LEAST_TASKS = 32


def cube_layout(shape: tuple[int, ...], chunk_lm: int) -> Layout:
    """Chunks of one image each, and shards of at most 512 MB (raw).

    A shard holds whole images, of as many subbands as fit; of small images also of several time
    steps, if there are many. Only an image that is larger is spread over several.

    Parameters
    ----------
    shape
        Time, frequency, polarization, l, m.
    chunk_lm
        Pixels of a chunk along l and m; 0 for the whole plane.

    Examples
    --------
    >>> cube_layout((1000, 12, 1, 4096, 4096), 1024)
    Layout(inner=(1, 1, 1, 1024, 1024), shard=(1, 6, 1, 4096, 4096))
    >>> cube_layout((10, 12, 1, 1024, 1024), 0).shard
    (1, 12, 1, 1024, 1024)
    """
    times, frequencies, polarizations, n_l, n_m = shape
    tile = tuple(min(n, chunk_lm) if chunk_lm else n for n in (n_l, n_m))
    plane = [math.ceil(n / t) * t for n, t in zip((n_l, n_m), tile, strict=True)]
    for axis in (0, 1):
        fits = MAX_SHARD_BYTES // (_ITEM_BYTES * tile[axis] * plane[1 - axis])
        plane[axis] = tile[axis] * _equal_part(plane[axis] // tile[axis], fits)
    room = max(1, MAX_SHARD_BYTES // (_ITEM_BYTES * plane[0] * plane[1]))
    p = _equal_part(polarizations, room)
    f = _equal_part(frequencies, room // p) if p == polarizations else 1
    t = 1
    if f == frequencies:
        t = _equal_part(times, min(room // (p * f), times // _LEAST_TASKS))
    return Layout((1, 1, 1, *tile), (t, f, p, *plane))


def _equal_part(length: int, most: int) -> int:
    """The largest of equal parts of a length that are at most so long."""
    return math.ceil(length / math.ceil(length / max(1, most)))


@dataclass(frozen=True, order=True)
class Block:
    """What one task converts: all images of some time steps [start, stop) and some subbands
    [start, stop), which are one whole shard or, of large images, several.
    """

    times: tuple[int, int]
    frequencies: tuple[int, int]

    def places(self) -> Iterator[tuple[int, int]]:
        """Time step and subband of each image in it."""
        for time in range(*self.times):
            for frequency in range(*self.frequencies):
                yield time, frequency


def blocks(shape: tuple[int, ...], layout: Layout) -> Iterator[Block]:
    """All tasks of a cube, one time after the other."""
    (times, frequencies), (t, f) = shape[:2], layout.shard[:2]
    for time in range(0, times, t):
        for frequency in range(0, frequencies, f):
            yield Block((time, min(time + t, times)), (frequency, min(frequency + f, frequencies)))
