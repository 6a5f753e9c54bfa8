"""How an array is cut: inner chunks, the smallest piece that is read, and shards, the files that
hold them.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from bluesky_zarr.store._cuts import edges, run

MAX_SHARD_BYTES = 512_000_000
"""The largest shard: raw bytes, as if nothing were compressed."""
MAX_FILES_PER_GB = 3.0
MAX_INNER_BYTES = 100_000_000
MIN_INNER_BYTES = 1_000_000
GROUP_BYTES = 2**20
"""How large a chunk of several small frames of a flown source gets, at most. What a chunk costs
besides its bytes is then a sixth of what they cost; a larger one would make a reader of one frame
read more for little.
"""
MIN_GROUP = 4
"""Fewer frames, so large ones, are not worth a copy: each has a chunk of its own."""
BATCH_INNER_BYTES = 2**20
"""How large an inner chunk gets where all frames are there before the first one is written."""
MAX_GROUP = 4096
"""The most frames in one chunk."""

# The index of a shard is read as a whole and made as a whole: 16 bytes for each inner chunk, so 1
# MiB here.
_MAX_INNER_PER_SHARD = 65_536
# Where nobody knows how many frames come, a store of three must not begin with a large index.
_MAX_POSITIONS_PER_GROWING_SHARD = 4096
_MIN_POSITIONS_PER_GROWING_SHARD = 64

# A series of more positions is in several chunks: with fewer pixels in each, a store would have to
# be cut in too many pieces to be re-laid.
_MIN_SERIES_TILE = 256

_TILE = {"frames": None, "balanced": 512, "series": 128}


@dataclass(frozen=True)
class Layout:
    """Shapes in elements, over all dims of the array: of the inner chunks, and of the shards that
    are its files.

    Raises
    ------
    ValueError
        The two are not of one length, or a shard is not a whole number of inner chunks.

    Examples
    --------
    >>> Layout(inner=(1, 512, 512), shard=(60, 2048, 2048))
    Layout(inner=(1, 512, 512), shard=(60, 2048, 2048))
    """

    inner: tuple[int, ...]
    shard: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "inner", tuple(int(n) for n in self.inner))
        object.__setattr__(self, "shard", tuple(int(n) for n in self.shard))
        if len(self.inner) != len(self.shard):
            raise ValueError(
                f"inner chunks of {self.inner} have {len(self.inner)} dims, shards of "
                f"{self.shard} have "
                f"{len(self.shard)}; give both over all dims of the array, scan dims first"
            )
        if any(
            part < 1 or whole < 1 or whole % part
            for whole, part in zip(self.shard, self.inner, strict=True)
        ):
            raise ValueError(
                f"a shard of {self.shard} is not a whole number of inner chunks of {self.inner}; "
                "choose a shard that is a multiple in every dim"
            )

    @property
    def grid(self) -> tuple[int, ...]:
        """How many inner chunks a shard has along each dim."""
        return tuple(whole // part for whole, part in zip(self.shard, self.inner, strict=True))

    def files(self, shape: Sequence[int]) -> int:
        """How many shard files an array of this shape has."""
        return math.prod(math.ceil(n / part) for n, part in zip(shape, self.shard, strict=True))


def choose_layout(
    shape: Sequence[int],
    dims: Sequence[str],
    dtype: DTypeLike,
    access: str = "frames",
    *,
    frame_ndim: int,
    growing: bool = False,
    flown: bool = False,
    batch: bool = False,
) -> Layout:
    """The layout of an array of frames: shards of at most 512 MB and at most about 3 files per GB.

    Of a live one, an inner chunk never spans two positions of the scan, so that each frame is
    readable as soon as it is written; only of a flown source, small frames that follow one another
    along the fastest scan dim are grouped, in chunks of a megabyte. A shard takes the fastest
    scan dims whole, and of the next one an equal part.

    Parameters
    ----------
    shape
        Scan dims, then frame dims, in elements. Of a growing array, the first is how many
        frames are expected, or 0 where nobody knows.
    dims
        The name of each dim.
    dtype
        Of the elements.
    access
        What is read most: "frames" (a whole frame in each inner chunk), "series" (one pixel
        at all positions: tiles of 128 x 128), or "balanced" (tiles of 512 x 512).
    frame_ndim
        How many of the dims, from the last, are the frame's.
    growing
        Whether the first dim can get longer.
    flown
        Whether frames come in rows along the fastest scan dim.
    batch
        Whether all frames are there already, as when a store is re-laid. Inner chunks then are
        what is read (of about a megabyte): for "series" they span as many positions as they can,
        for "balanced" so many that a frame and a series are read at the same cost.

    Raises
    ------
    ValueError
        Another `access`, or lengths that do not fit together.

    Examples
    --------
    >>> choose_layout((600, 2048, 2048), ("event", "cam_y", "cam_x"), "uint16", frame_ndim=2)
    Layout(inner=(1, 2048, 2048), shard=(60, 2048, 2048))
    >>> choose_layout(
    ...     (5, 20, 6, 2048, 2048),
    ...     ("w", "y", "x", "cam_y", "cam_x"),
    ...     "uint16",
    ...     "balanced",
    ...     frame_ndim=2,
    ... )
    Layout(inner=(1, 1, 1, 512, 512), shard=(1, 10, 6, 2048, 2048))
    >>> dims = ("event", "cam_y", "cam_x")
    >>> choose_layout((600, 2048, 2048), dims, "uint16", "series", frame_ndim=2, batch=True)
    Layout(inner=(600, 30, 29), shard=(600, 180, 2059))
    """
    shape = tuple(int(n) for n in shape)
    if access not in _TILE:
        raise ValueError(
            f"layout {access!r} is none of {', '.join(map(repr, _TILE))}; or give a "
            "Layout(inner, shard)"
        )
    if len(dims) != len(shape):
        raise ValueError(
            f"dims {tuple(dims)} name {len(dims)} dims, the shape {shape} has {len(shape)}; "
            "name each"
        )
    if not 0 <= frame_ndim < len(shape):
        raise ValueError(
            f"frame_ndim={frame_ndim} leaves no scan dim in the shape {shape}; give a smaller one"
        )
    scan, frame = shape[: len(shape) - frame_ndim], shape[len(shape) - frame_ndim :]
    itemsize = np.dtype(dtype).itemsize
    if batch:
        return _batch(scan, frame, itemsize, access)
    tile, part = _tiles(frame, access, itemsize)
    position_bytes = math.prod(part) * itemsize
    position_tiles = math.prod(p // t for p, t in zip(part, tile, strict=True))
    most = max(1, min(MAX_SHARD_BYTES // position_bytes, _MAX_INNER_PER_SHARD // position_tiles))
    group = 1
    if flown and tile == frame and MIN_GROUP * position_bytes <= GROUP_BYTES:
        group = max(1, min(MAX_GROUP, GROUP_BYTES // position_bytes, most))
    if growing:
        if scan[0] == 0:
            # In an index, a group takes the room of one frame.
            most = min(most, _MAX_POSITIONS_PER_GROWING_SHARD * group)
            scan = (most, *scan[1:])
        else:
            scan = (max(scan[0], min(most, _MIN_POSITIONS_PER_GROWING_SHARD)), *scan[1:])
    *slow, fast = (max(1, n) for n in scan)
    # In equal parts, so that the last chunk of a row is no small one.
    group = math.ceil(fast / math.ceil(fast / group))
    *slow, fast = _box((*slow, math.ceil(fast / group)), max(1, most // group))
    inner = (*(1 for _ in slow), group)
    return Layout(inner=inner + tile, shard=(*slow, fast * group, *part))


def _tiles(
    frame: tuple[int, ...], access: str, itemsize: int
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The tile of a frame, and the part of a frame in a shard: all of it, in whole tiles, if that
    is small enough.
    """
    frame = tuple(max(1, n) for n in frame)
    edge = _TILE[access]
    tile = frame
    if edge is not None:
        edge = edge**2 if len(frame) == 1 else edge
        tile = tuple(min(n, edge) for n in frame)
    part = tuple(math.ceil(n / t) * t for n, t in zip(frame, tile, strict=True))
    # A frame beyond the size of a shard is spread over several, if its tiles allow it.
    for axis in range(len(part)):
        rest = math.prod(part[:axis] + part[axis + 1 :]) * itemsize
        fits = max(1, MAX_SHARD_BYTES // (rest * tile[axis]))
        tiles = part[axis] // tile[axis]
        if tiles > fits:
            balanced = math.ceil(tiles / math.ceil(tiles / fits))
            part = (*part[:axis], balanced * tile[axis], *part[axis + 1 :])
    return tile, part


def _box(scan: tuple[int, ...], most: int) -> tuple[int, ...]:
    """The part of the scan's dims in a shard, of at most `most` positions, with as few shards as
    can be.

    The fastest dims are taken whole while they fit, the next in equal parts. Where that leaves
    shards half empty, cutting the last whole dim in a few equal parts too can need fewer.
    """
    best: tuple[int, tuple[int, ...]] | None = None
    for cuts in range(1, 9):
        box = [1] * len(scan)
        room = most
        may_cut = True
        for axis in range(len(scan) - 1, -1, -1):
            size = scan[axis]
            next_fits = axis > 0 and size * scan[axis - 1] <= room
            if may_cut and size <= room and not next_fits:
                size = math.ceil(size / cuts)
                may_cut = False
            elif size > room:
                size = math.ceil(size / math.ceil(size / room))
            box[axis] = size
            room //= size
        shards = math.prod(math.ceil(n / part) for n, part in zip(scan, box, strict=True))
        if best is None or shards < best[0]:
            best = (shards, tuple(box))
        # Two thirds full is 3 files per GB.
        if shards == 1 or shards * most <= 1.5 * math.prod(scan):
            break
    assert best is not None
    return best[1]


def _batch(scan: tuple[int, ...], frame: tuple[int, ...], itemsize: int, access: str) -> Layout:
    shape = tuple(max(1, n) for n in scan + frame)
    scan, frame = shape[: len(scan)], shape[len(scan) :]
    chunk = max(1, BATCH_INNER_BYTES // itemsize)
    tile = edges(frame, max(1, MAX_INNER_BYTES // itemsize))
    if access == "frames":
        positions = GROUP_BYTES // itemsize // math.prod(tile)
    elif access == "series":
        positions = chunk // min(math.prod(frame), _MIN_SERIES_TILE)
    else:
        # As many elements in the chunks of a frame as in those of a series.
        positions = math.isqrt(math.prod(scan) * chunk // math.prod(frame))
    box = run(scan, max(1, positions), (1,) * len(scan))
    if access != "frames":
        tile = edges(frame, max(1, chunk // math.prod(box)))
    inner = box + tile
    most = min(MAX_SHARD_BYTES // itemsize, _MAX_INNER_PER_SHARD * math.prod(inner))
    return Layout(inner, run(shape, most, inner))


def warn_about(
    layout: Layout, shape: Sequence[int], dtype: DTypeLike, *, stacklevel: int = 2
) -> None:
    """Warn, with the numbers, where a user's own layout is outside what `choose_layout` keeps
    to.
    """
    itemsize = np.dtype(dtype).itemsize
    inner_bytes = math.prod(layout.inner) * itemsize
    shard_bytes = math.prod(layout.shard) * itemsize
    total_bytes = math.prod(shape) * itemsize
    files = layout.files(shape)
    complaints = []
    if inner_bytes > MAX_INNER_BYTES:
        complaints.append(
            f"inner chunks of {inner_bytes / 1e6:.0f} MB (at most {MAX_INNER_BYTES / 1e6:.0f} MB)"
        )
    if shard_bytes > MAX_SHARD_BYTES:
        complaints.append(
            f"shards of {shard_bytes / 1e6:.0f} MB (at most {MAX_SHARD_BYTES / 1e6:.0f} MB)"
        )
    per_gb = files / max(total_bytes / 1e9, 1e-9)
    if files > MAX_FILES_PER_GB + 1 and per_gb > MAX_FILES_PER_GB + 1:
        complaints.append(
            f"{files} files for {total_bytes / 1e9:.3g} GB, {per_gb:.3g} files per GB (at most "
            f"{MAX_FILES_PER_GB:.0f})"
        )
    if complaints:
        warnings.warn(
            f"the layout inner={layout.inner}, shard={layout.shard} for the shape {tuple(shape)} "
            "makes "
            f"{'; '.join(complaints)}; choose_layout() gives one that does not",
            stacklevel=stacklevel + 1,
        )
