"""Doing tasks in this process, one after the other, with encoders on all cores."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing

from bluesky_zarr.ingest.cubes._task import Done, Task, convert_blocks, make_durable

# Blocks that wait for the disk while the next one is converted.
_WAITING = 2


def convert_here(tasks: Iterator[Task]) -> Generator[Done, None, None]:
    """Do tasks, and give each one back when it is on disk. The disk is waited for on the side."""
    with ThreadPoolExecutor(1, "ingest-sync") as disk, closing(convert_blocks(tasks)) as converted:
        waiting: deque[Future[Done]] = deque()
        for done in converted:
            waiting.append(disk.submit(_durable, done))
            while len(waiting) > _WAITING or (waiting and waiting[0].done()):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _durable(done: Done) -> Done:
    make_durable(done)
    return done
