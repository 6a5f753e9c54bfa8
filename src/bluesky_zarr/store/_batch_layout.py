"""How an array that is written in blocks is cut where nobody says how it will be read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from bluesky_zarr.store._cuts import run
from bluesky_zarr.store._layout import MAX_SHARD_BYTES, MIN_INNER_BYTES


def batch_layout(
    shape: Sequence[int], dtype: DTypeLike
) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Chunks of 1 to 100 MB (if the array is that large), and shards of them where there would be
    many files.

    Returns (chunks, None) where one file for each chunk is fine, else (chunks, shards). The slowest
    dims are cut first, so that a block of whole chunks is one run of the array in C order.

    Examples
    --------
    >>> batch_layout((100, 1000, 1000), "float32")
    ((4, 1000, 1000), (100, 1000, 1000))
    """
    shape = tuple(max(1, int(n)) for n in shape)
    itemsize = np.dtype(dtype).itemsize
    chunk = run(shape, max(1, 16 * MIN_INNER_BYTES // itemsize), (1,) * len(shape))
    count = math.prod(math.ceil(n / c) for n, c in zip(shape, chunk, strict=True))
    if count <= 8:
        return chunk, None
    return chunk, run(shape, max(1, MAX_SHARD_BYTES // itemsize), chunk)
