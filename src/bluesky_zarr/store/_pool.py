"""The threads that encode and write frames: one pool for the whole process, shared by every sink.

The codecs, the checksum and the writing release the GIL, so a thread for each core keeps the cores
busy and more would only take memory. Sinks get equal parts of them, in bytes; how much each may
have waiting is bounded by the sink.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import operator
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, wait
from typing import TypeVar

_logger = logging.getLogger(__name__)

NICENESS = 5
"""Of the pool's threads, on Linux: a third of the share of another thread that wants a core. More
would let other programs on the machine hold the frames up."""

CALL_BYTES = 8 * 2**20
"""What a call of `in_order` is taken for when it shares the workers with frames."""

# Of the 32 MiB that malloc(3) keeps at most (mallopt(3), M_MMAP_THRESHOLD), less what it adds.
_LARGEST_KEPT = 32 * 2**20 - 2**16

Job = Callable[[], None]


class Lane:
    """One sink's way into the pool: jobs of `cost` bytes each, done in the order they come."""

    def __init__(self, pool: WorkerPool, cost: int) -> None:
        self.cost = cost
        self.served = 0
        self.jobs: deque[Job] = deque()
        self._pool = pool

    def submit(self, job: Job) -> None:
        """Queue a job. It has to deal with its own errors: one that comes out is only logged."""
        self._pool.put(self, job)


class WorkerPool:
    """A fixed number of threads that run the jobs of all lanes.

    The next job is taken from the lane that has had the fewest bytes, so that a camera with large
    frames does not hold up one with small ones. What a lane did not ask for while it had no jobs
    is not made good.
    """

    def __init__(self, workers: int) -> None:
        # Guards the lanes, of which `_waiting` are those with jobs. Always entered as the bare
        # lock, for the reason that `FrameQueue` has.
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._waiting: list[Lane] = []
        self._served = 0
        self._ended = False
        self._threads = [
            threading.Thread(target=self._run, name=f"bluesky-zarr-{number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def lane(self, cost: int) -> Lane:
        """A new lane."""
        return Lane(self, cost)

    def put(self, lane: Lane, job: Job) -> None:
        """Queue a job of a lane."""
        with self._lock:
            # The job first: Ctrl-C after any line must not leave a lane that waits without one.
            lane.jobs.append(job)
            if lane not in self._waiting:
                lane.served = max(lane.served, self._served)
                self._waiting.append(lane)
            self._turn.notify()

    def finish(self) -> None:
        """Run what is queued, then end the threads."""
        with self._lock:
            self._ended = True
            self._turn.notify_all()
        for thread in self._threads:
            thread.join()

    def _next(self) -> Job | None:
        with self._lock:
            while not self._waiting:
                if self._ended:
                    return None
                self._turn.wait()
            lane = min(self._waiting, key=operator.attrgetter("served"))
            self._served = lane.served
            lane.served += lane.cost
            job = lane.jobs.popleft()
            if not lane.jobs:
                self._waiting.remove(lane)
            return job

    def _run(self) -> None:
        _go_behind()
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException:
                _logger.exception("a job of the frame writers failed")
            # The last frame must not live on in this name while the thread waits for the next.
            del job


T = TypeVar("T")


def calls_ahead(nbytes: int, most: int) -> int:
    """How many calls that take `nbytes` of memory each may be under way within `most` bytes: one,
    at least, and no more than keep the cores busy while one is waited for and written.
    """
    return max(1, min(3 * worker_count(), most // max(1, nbytes)))


def in_order(calls: Iterable[Callable[[], T]], *, ahead: int = 0) -> Generator[T, None, None]:
    """Make calls in the pool of this process and give their results in the order of the calls.

    So many as `ahead`, or else two for each core, are under way, or done and not yet taken, at
    most: what `calls` makes is made only then. An error of a call is raised where its result would
    come. Not for use in a job of the pool, which would wait for itself.

    Examples
    --------
    >>> list(in_order(lambda n=n: n * n for n in range(4)))
    [0, 1, 4, 9]
    """
    lane = shared_pool().lane(CALL_BYTES)
    ahead = ahead or 2 * worker_count()
    waiting: deque[Future[T]] = deque()
    try:
        for call in calls:
            if len(waiting) == ahead:
                yield waiting.popleft().result()
            future: Future[T] = Future()
            lane.submit(functools.partial(_settle, future, call))
            waiting.append(future)
            del call, future
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Whoever cleans up after an error must not find files that come later.
        wait(waiting)


def _settle(future: Future[T], call: Callable[[], T]) -> None:
    try:
        result = call()
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def _go_behind() -> None:
    """Let the threads of plans and cameras go first where cores are short.

    They need little, but at once. Where the system has no such thing, all go alike.
    """
    if hasattr(os, "SCHED_BATCH"):
        with contextlib.suppress(OSError):
            # Of this thread alone: a batch thread does not interrupt others when it wakes up.
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)


def _keep_freed_memory() -> None:
    """Let memory that a codec has freed stay with this process, for the next chunk.

    The C library of Linux gives blocks that are larger than any that was freed before back to the
    system, and to get them anew, page by page, takes a codec a sixth (zstd) to a third (lz4) of its
    time. It goes by the largest block freed so far, up to 32 MiB; so one is freed that nobody has
    touched. Elsewhere this does nothing.
    """
    bytes(_LARGEST_KEPT)


def worker_count() -> int:
    """How many threads the pool has: one for each core that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


_pool_lock = threading.Lock()
_pool: WorkerPool | None = None


def shared_pool() -> WorkerPool:
    """The pool of this process, made when it is first asked for."""
    global _pool
    with _pool_lock:
        if _pool is None:
            _keep_freed_memory()
            _pool = WorkerPool(worker_count())
            # Daemon threads are cut off when the interpreter ends; what was handed over is still
            # written.
            atexit.register(_pool.finish)
        return _pool


def _begin_anew_in_child() -> None:
    """A fork has no threads but one: its parent's pool would never do anything, and its parent's
    locks, held at that moment, would never be let go.
    """
    global _pool, _pool_lock
    if _pool is not None:
        atexit.unregister(_pool.finish)
    _pool, _pool_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_begin_anew_in_child)
