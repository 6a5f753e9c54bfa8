"""The frames of a sink that are on their way to the disk: bounded, numbered, counted."""

from __future__ import annotations

import mmap
import threading
from collections.abc import Callable

import numpy as np

from bluesky_zarr.store._pool import Job, shared_pool, worker_count

QUEUE_BYTES = 64 * 2**20
"""Raw bytes of frames that a sink holds at most; `write` waits beyond. One frame is always taken.

Of large frames it holds fewer: two more than there are workers keep all of them busy, and the
copies of few frames stay in the processor's cache. At least a quarter of this is always taken, so
that frames below a megabyte do not make `write` wait for every one of them.
"""


class FrameQueue:
    """Counts the blocks (frames, or groups of small ones) of one sink between `enter` and `leave`.

    All of them have the shape and dtype given; blocks `always_copied` should not leave the cache.
    """

    def __init__(
        self, block_shape: tuple[int, ...], dtype: np.dtype, *, always_copied: bool
    ) -> None:
        self._shape = block_shape
        self._dtype = dtype
        self._always_copied = always_copied
        self._block_bytes = int(np.prod(block_shape, dtype=np.int64)) * dtype.itemsize
        busy = (worker_count() + 2) * self._block_bytes
        self._room = min(QUEUE_BYTES, busy if always_copied else max(QUEUE_BYTES // 4, busy))
        self._lane = shared_pool().lane(self._block_bytes)
        self.number = 0
        # Guards all below; writers wait on it for room, `wait` for the end.
        self._turn = threading.Condition()
        self._in_flight = 0
        self._pending = 0
        self._spare: list[np.ndarray] = []

    def enter(self, check: Callable[[], None]) -> int:
        """Wait for room; the number of this write. `check` raises where no more are taken."""
        with self._turn:
            while self._in_flight and self._in_flight + self._block_bytes > self._room:
                self._turn.wait()
            # It may have failed or been closed while this frame waited.
            check()
            self.number = number = self.number + 1
            self._in_flight += self._block_bytes
            self._pending += 1
        return number

    def leave(self) -> None:
        """What entered is done with."""
        with self._turn:
            self._in_flight -= self._block_bytes
            self._pending -= 1
            self._turn.notify_all()

    def submit(self, job: Job) -> None:
        """Let a worker do it; it has to `leave`."""
        self._lane.submit(job)

    def wait(self) -> None:
        """Wait until all that entered has left."""
        with self._turn:
            while self._pending:
                self._turn.wait()

    # ------------------------------------------------------------------ buffers

    def buffer(self) -> np.ndarray:
        """A block to copy into, of any content; the memory of those `always_copied` is an mmap, the
        array's `base`.
        """
        # Touching new memory costs as much as the copy itself, so buffers are used again.
        try:
            return self._spare.pop()
        except IndexError:
            if not self._always_copied:
                return np.empty(self._shape, self._dtype)
            memory = mmap.mmap(-1, self._block_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
            return np.ndarray(self._shape, self._dtype, buffer=memory)

    def give_back(self, buffer: np.ndarray) -> None:
        """A block from `buffer` is not needed any more."""
        if len(self._spare) * self._block_bytes <= self._room:
            self._spare.append(buffer)

    def clear(self) -> None:
        """Forget the blocks that are kept for use."""
        self._spare.clear()
