"""The frames of a sink that are on their way to the disk: bounded, numbered, counted."""

from __future__ import annotations

import functools
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
        self._workers = worker_count()
        busy = (self._workers + 2) * self._block_bytes
        self._room = min(QUEUE_BYTES, busy if always_copied else max(QUEUE_BYTES // 4, busy))
        self._lane = shared_pool().lane(self._block_bytes)
        self.number = 0
        # Guards all below; writers wait for room, `wait` for the end. Always entered as the bare
        # lock: Ctrl-C in the `__enter__` of a Condition would leave it locked for ever.
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        # Numbers of those that entered, and whether a worker has begun with them.
        self._under_way: dict[int, bool] = {}
        self._spare: list[np.ndarray] = []

    def enter(self, check: Callable[[], None]) -> int:
        """Wait for room; the number of this write. `check` raises where no more are taken."""
        number = 0
        under_way = self._under_way
        try:
            with self._lock:
                while under_way and (len(under_way) + 1) * self._block_bytes > self._room:
                    self._turn.wait()
                # It may have failed or been closed while this frame waited.
                check()
                number = self.number + 1
                under_way[number] = False
                self.number = number
            return number
        except BaseException:  # Ctrl-C, perhaps after it was entered
            self.leave(number)
            raise

    def leave(self, number: int) -> None:
        """The write of this number is done with; says nothing new the second time."""
        with self._lock:
            self._under_way.pop(number, None)
            # A source that is woken for every frame takes the interpreter from workers and event
            # loops twice as often as for every other; nobody is idle before.
            left = len(self._under_way)
            if left <= self._workers or (left + 2) * self._block_bytes <= self._room:
                self._turn.notify_all()

    def submit(self, number: int, job: Job) -> None:
        """Let a worker do what entered under this number; it has to `leave`."""
        self._lane.submit(functools.partial(self._begin, number, job))

    def withdraw(self, number: int) -> bool:
        """Leave, unless a worker has begun with it: then that one does, and this is False."""
        with self._lock:
            begun = self._under_way.get(number, True)
            if not begun:
                del self._under_way[number]
                self._turn.notify_all()
        return not begun

    def _begin(self, number: int, job: Job) -> None:
        with self._lock:
            if number not in self._under_way:
                return
            self._under_way[number] = True
        job()

    def wait(self) -> None:
        """Wait until all that entered has left."""
        with self._lock:
            while self._under_way:
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
