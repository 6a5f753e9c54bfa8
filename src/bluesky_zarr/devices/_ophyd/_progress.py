"""Frames on their way, those that can be read, and those that documents have announced."""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Sequence

from .._binding import Binding

__all__ = ["Progress"]


class Progress:
    """Frames counted for ophyd-async, over every run of a stage. Safe from several threads.

    `taken` counts those that went into documents. Frames become readable in the order in which
    they came: workers may finish the second one first, and a document that announced it would
    announce the first one as well.
    """

    def __init__(self) -> None:
        self.taken = 0
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Binding, int]] = deque()
        self._ready: deque[tuple[Binding, int]] = deque()
        # Cells of frames that became readable before the ones ahead of them.
        self._done: dict[Binding, set[int]] = {}
        # Where frames are on their way that were forgotten.
        self._late: set[Binding] = set()

    @property
    def readable(self) -> int:
        """How many frames can be read."""
        return self.taken + len(self._ready)

    @property
    def unannounced(self) -> int:
        """How many frames came that no document has announced."""
        return len(self._waiting) + len(self._ready)

    @property
    def came(self) -> int:
        """How many frames came, readable or not."""
        return self.taken + self.unannounced

    @property
    def collectable(self) -> int:
        """How far one document can go: to the end of a run of neighbours."""
        with self._lock:
            return self.taken + len(self._run(len(self._ready)))

    def restart(self) -> None:
        """Count from zero, unless frames are on their way to a document.

        Devices that fly together are collected by their counters: all begin at zero, however many
        frames each of them took before.
        """
        with self._lock:
            if not self.unannounced:
                self.taken = 0

    def add(self, binding: Binding, cells: Iterable[int]) -> int:
        """Frames for these cells are on their way; how many came so far."""
        with self._lock:
            self._waiting.extend([(binding, cell) for cell in cells])
            return self.taken + self.unannounced

    def withdraw(self, binding: Binding, cells: Iterable[int]) -> None:
        """Frames for these cells were not stored."""
        with self._lock:
            lost = {(binding, cell) for cell in cells}
            self._waiting = deque(frame for frame in self._waiting if frame not in lost)

    def written(self, binding: Binding) -> None:
        """Some frames of an array became readable."""
        with self._lock:
            done = self._done.setdefault(binding, set())
            for start, stop in binding.sink.collect():
                done.update(range(start, stop))
            waiting, ready = self._waiting, self._ready
            while waiting:
                owner, cell = waiting[0]
                cells = done if owner is binding else self._done.get(owner, ())
                if cell not in cells:
                    break
                self._done[owner].discard(cell)
                ready.append(waiting.popleft())

    def forget(self) -> bool:
        """Forget what no document has announced; whether the count of readable frames changed.

        The counters of devices that are collected together have to stay equal, so these frames
        were never counted.
        """
        with self._lock:
            changed = bool(self._ready)
            self._late.update(binding for binding, _ in self._waiting)
            self._waiting.clear()
            self._ready.clear()
            self._done.clear()
            return changed

    @property
    def late(self) -> list[Binding]:
        """Arrays that forgotten frames are on their way to: not to be counted as those that come
        next, which may be for the same cells. Drain these before more frames come.
        """
        with self._lock:
            return list(self._late)

    def drained(self, binding: Binding) -> None:
        """All frames of a late array can be read."""
        with self._lock:
            binding.sink.collect()
            self._done.pop(binding, None)
            self._late.discard(binding)

    def take(self, frames: int) -> tuple[Binding, Sequence[int]] | None:
        """The cells of the frames up to the `frames`-th that one document can announce."""
        with self._lock:
            run = self._run(min(frames - self.taken, len(self._ready)))
            if not run:
                return None
            binding = self._ready[0][0]
            for _ in run:
                self._ready.popleft()
            self.taken += len(run)
            return binding, run

    def _run(self, most: int) -> list[int]:
        """The longest start of what is ready whose cells climb or fall by ones."""
        run: list[int] = []
        step = 0
        for binding, cell in itertools.islice(self._ready, max(0, most)):
            if binding is not self._ready[0][0]:
                break
            if len(run) == 1:
                step = cell - run[0]
            if run and (abs(step) != 1 or cell - run[-1] != step):
                break
            run.append(cell)
        return run
