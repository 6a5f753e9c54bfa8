"""Which positions of a scan have their frame: counts, kept in memory and in the array
`<key>_written`.
"""

from __future__ import annotations

import math
import threading
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._files import replace_bytes

FLUSH_SECONDS = 1.0
"""How often the counts go to disk, at most."""

# Small enough to be replaced once a second.
_CHUNK_ELEMENTS = 16_384


def counts_key(key: str) -> str:
    """The key of the array that counts the writes of the frame array `key`.

    Examples
    --------
    >>> counts_key("primary/cam")
    'primary/cam_written'
    """
    return f"{key}_written"


def counts_chunk(scan_shape: tuple[int, ...], *, growing: bool) -> tuple[int, ...]:
    """The chunk of the array of counts: the fastest dims whole, a part of the next, one of each
    slower one.
    """
    if growing:
        return (_CHUNK_ELEMENTS,)
    chunk = [1] * len(scan_shape)
    room = _CHUNK_ELEMENTS
    for axis in range(len(scan_shape) - 1, -1, -1):
        chunk[axis] = max(1, min(scan_shape[axis], room))
        room //= chunk[axis]
        if chunk[axis] < scan_shape[axis]:
            break
    return tuple(chunk)


class Progress:
    """How often each position was written; `node` is the directory of the array of counts, which
    must exist.

    All of it is safe from several threads. `readable` positions have a frame, `completed` counts
    all writes.
    """

    def __init__(self, node: Path, scan_shape: tuple[int, ...], chunk: tuple[int, ...]) -> None:
        self.readable = 0
        self.completed = 0
        self._node = node
        self._scan_shape = scan_shape
        self._chunk = chunk
        axis = next((axis for axis, n in enumerate(chunk) if n > 1), len(chunk) - 1)
        self._axis = axis
        self._slab = math.prod(scan_shape[axis + 1 :])
        self._lock = threading.Lock()
        self._counts = np.zeros(math.prod(scan_shape), np.uint32)
        # Single elements of a memoryview cost a third of those of an array.
        self._view = self._counts.data
        self._fresh: list[list[int]] = []
        self._dirty: set[int] = set()
        self._flushing = threading.Lock()
        self._flushed = time.monotonic()

    def resize(self, length: int) -> None:
        """Make room for `length` positions of a growing scan, or fewer."""
        with self._lock:
            counts = np.zeros(length, np.uint32)
            kept = min(length, len(self._counts))
            counts[:kept] = self._counts[:kept]
            self._counts, self._view, self._scan_shape = counts, counts.data, (length,)

    def count(self, flat: int) -> int:
        """How often the position with this C-order number was written."""
        return self._view[flat] if flat < len(self._view) else 0

    def counts(self) -> npt.NDArray[np.uint32]:
        """A copy of all counts, in the scan's shape."""
        with self._lock:
            return self._counts.reshape(self._scan_shape).copy()

    def used_length(self) -> int:
        """How many positions there are up to the last one written."""
        filled = np.flatnonzero(self._counts)
        return int(filled[-1]) + 1 if len(filled) else 0

    def add_range(self, start: int, stop: int) -> None:
        """One more frame at each position from `start` to before `stop` is readable.

        They are neighbours along the fastest dim of the scan, and fewer than a chunk of the array
        of counts has elements.
        """
        with self._lock:
            counts = self._counts[start:stop]
            self.readable += int(np.count_nonzero(counts == 0))
            counts += 1
            self.completed += stop - start
            self._mark_dirty(start)
            self._mark_dirty(stop - 1)
            self._fresh.append([start, stop])

    def add(self, flat: int) -> None:
        """One more frame at this position is readable."""
        with self._lock:
            count = self._view[flat]
            self._view[flat] = count + 1
            self.readable += count == 0
            self.completed += 1
            self._mark_dirty(flat)
            fresh = self._fresh
            if fresh and fresh[-1][1] == flat:
                fresh[-1][1] = flat + 1
            elif fresh and fresh[-1][0] == flat + 1:
                fresh[-1][0] = flat
            else:
                fresh.append([flat, flat + 1])

    def take_back(self, flat: int) -> None:
        """One frame less at this position."""
        with self._lock:
            self._view[flat] -= 1
            self._mark_dirty(flat)
            if self._view[flat] == 0:
                self.readable -= 1
                self._fresh = [
                    [start, stop]
                    for low, high in self._fresh
                    for start, stop in ((low, min(high, flat)), (max(low, flat + 1), high))
                    if start < stop
                ]

    def collect(self) -> list[tuple[int, int]]:
        """C-order ranges [start, stop) of positions that became readable, or got a newer frame,
        since the last call.
        """
        with self._lock:
            fresh, self._fresh = self._fresh, []
        merged: list[tuple[int, int]] = []
        for start, stop in sorted(fresh):
            if merged and start <= merged[-1][1]:
                merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
            else:
                merged.append((start, stop))
        return merged

    # The number of a chunk counts pieces of `chunk[axis]` along the first dim that a chunk does not
    # have one of.
    def _mark_dirty(self, flat: int) -> None:
        lead, place = divmod(flat // self._slab, self._scan_shape[self._axis])
        self._dirty.add(lead * self._pieces() + place // self._chunk[self._axis])

    def _pieces(self) -> int:
        # A growing scan has one dim, so that its number of pieces counts for nothing.
        return (
            1
            if self._axis == 0
            else math.ceil(self._scan_shape[self._axis] / self._chunk[self._axis])
        )

    def flush_if_due(self) -> None:
        """Replace the chunks of the array of counts that changed, at most once a second; raises
        OSError.
        """
        if time.monotonic() - self._flushed < FLUSH_SECONDS or not self._flushing.acquire(
            blocking=False
        ):
            return
        try:
            self._flush()
        finally:
            self._flushing.release()

    def flush(self) -> None:
        """Replace the chunks of the array of counts that changed; raises OSError."""
        with self._flushing:
            self._flush()

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        with self._lock:
            dirty, self._dirty = self._dirty, set()
            chunks = [self._chunk_of(number) for number in dirty]
        try:
            for coordinates, block in chunks:
                path = self._node.joinpath("c", *map(str, coordinates))
                path.parent.mkdir(parents=True, exist_ok=True)
                data = block.tobytes()
                replace_bytes(path, data + checksum(data))
        except BaseException:
            # Once the disk takes bytes again, or after Ctrl-C, they are to go out.
            with self._lock:
                self._dirty |= dirty
            raise

    def _chunk_of(self, number: int) -> tuple[tuple[int, ...], np.ndarray]:
        axis, chunk, shape = self._axis, self._chunk, self._scan_shape
        lead, piece = divmod(number, self._pieces()) if axis else (0, number)
        leading = tuple(int(n) for n in np.unravel_index(lead, shape[:axis])) if axis else ()
        part = self._counts.reshape(shape)[leading][piece * chunk[axis] : (piece + 1) * chunk[axis]]
        # Chunks at the edge are stored whole.
        block = np.zeros(chunk[axis:], "<u4")
        block[tuple(slice(n) for n in part.shape)] = part
        return (*leading, piece, *(0,) * (len(shape) - axis - 1)), block
