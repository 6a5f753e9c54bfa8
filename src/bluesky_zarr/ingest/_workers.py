"""Work in other processes, in order, with a bounded number of pieces under way."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from bluesky_zarr.ingest._errors import IngestError

T = TypeVar("T")


class Workers:
    """So many processes; with 1, the work is done in this one.

    Leaving the `with` block waits until nobody works any more: what was written can then be
    deleted, and nothing comes back.
    """

    def __init__(self, count: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._count = count
        if count > 1:
            # Forked children would inherit locks and threads of this process.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(count, context, initializer=_leave_with_parent)

    def map(self, function: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        """The function's results, in the order of the arguments; the function and they have to be
        picklable.

        Raises
        ------
        IngestError
            A worker died. Errors of the function are raised as they are.
        """
        if self._pool is None:
            yield from (function(*each) for each in arguments)
            return
        waiting: deque[Future[T]] = deque()
        try:
            for each in arguments:
                if len(waiting) == 16 * self._count:
                    yield waiting.popleft().result()
                waiting.append(self._pool.submit(function, *each))
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise IngestError(
                "a worker process died, perhaps for lack of memory; start again with fewer workers"
            ) from error

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)


def _leave_with_parent() -> None:
    """End this process when the one that started it is gone; a pool's workers would wait for
    ever.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="leave-with-parent", daemon=True).start()
