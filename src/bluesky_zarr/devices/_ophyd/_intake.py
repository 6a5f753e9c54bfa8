"""Frames on their way from a source to their places."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from .._binding import Binding
from .._source import FrameSource
from ._counter import Counter
from ._exposure import Exposure
from ._progress import Progress

__all__ = ["Intake"]


class Intake:
    """Takes what a source delivers, on any thread, to the places of the exposure under way.

    Parameters
    ----------
    source
        Where frames come from; its `deliver`, `deliver_many` and `fail` are connected.
    on_frame
        Called with each good frame of a step scan, before it is written.
    progress, counter
        Told of each frame that came, and that can be read.
    """

    def __init__(
        self,
        source: FrameSource,
        on_frame: Callable[[np.ndarray, float], None] | None,
        progress: Progress,
        counter: Counter,
    ) -> None:
        self.name = ""
        #: Held by whoever looks at the exposure and its quota, and changes them.
        self.lock = threading.RLock()
        self.exposure = Exposure(None, flown=False, told=False)
        #: The last frame's array and cell, until the next exposure.
        self.last: tuple[Binding, int] | None = None
        #: The count of frames at which somebody's wait for a row is over.
        self.row_end = 0
        self._source = source
        self._on_frame = on_frame
        self._progress = progress
        self._counter = counter
        source.deliver = self.deliver
        source.deliver_many = self.deliver_many
        source.fail = counter.fail

    def deliver(self, frame: np.ndarray) -> None:
        """Take one frame to its place. Blocks while storage is behind.

        Raises
        ------
        ValueError
            When the frame is not what the source promised. It is not stored.
        RuntimeError
            When nobody asked for a frame. It is not stored.
        """
        exposure, binding, cells, before = self._expect(1)
        now = time.time()
        with self._storing(binding, cells):
            if self._on_frame is not None and not exposure.flown and binding.fits(frame):
                self._on_frame(frame, now)
            # Not under the lock: this waits while storage is behind, the event loop must not.
            binding.sink.write(frame, cells[0], copy=not self._source.fresh_frames, time=now)
            self._end_row(exposure, binding, before)
        self.last = binding, cells[0]

    def deliver_many(self, frames: np.ndarray) -> None:
        """Take frames that follow one another, of shape (n, *a frame's), to their places.

        Raises
        ------
        ValueError, RuntimeError
            As for `deliver`; none of them is stored.
        """
        if not len(frames):
            return
        exposure, binding, cells, before = self._expect(len(frames))
        now = time.time()
        with self._storing(binding, cells):
            if self._on_frame is not None and not exposure.flown and binding.fits(frames[-1]):
                self._on_frame(frames[-1], now)
            binding.sink.write_many(frames, cells[0], time=now)
            self._end_row(exposure, binding, before)
        self.last = binding, cells[-1]

    def written(self, binding: Binding) -> None:
        """Some frames of an array can be read now, or its workers met an error."""
        error = binding.sink.error
        if error is not None:
            self._counter.fail(error)
            return
        self._progress.written(binding)
        if not self.exposure.flown or self._progress.readable >= self.row_end > 0:
            self._counter.show()
        else:
            self._counter.show_soon()

    def flush(self, binding: Binding) -> None:
        """Store a group that is not full; what goes wrong fails the point."""
        try:
            binding.sink.flush()
        except (OSError, RuntimeError) as error:
            self._counter.fail(error)

    def _expect(self, number: int) -> tuple[Exposure, Binding, Sequence[int], int]:
        """Count frames that have come, and find their cells; how many came before them."""
        with self.lock:
            exposure = self.exposure
            binding = exposure.binding
            if binding is None or binding.closed or exposure.quota < number:
                # No error of the next point's: a camera that is being stopped may be late.
                raise RuntimeError(
                    f"'{self.name}' delivered {_frames(number)} that nobody asked for: not "
                    "stored. Trigger or kick off the detector first, and deliver one frame "
                    "per exposure."
                )
            exposure.quota -= number
            try:
                cells = exposure.cells(binding, number)
            except IndexError as error:  # more frames than the scan has points
                self._counter.fail(error)
                raise
            exposure.taken += number
            binding.next += number
            came = self._progress.add(binding, cells)
            return exposure, binding, cells, came - number

    def _end_row(self, exposure: Exposure, binding: Binding, before: int) -> None:
        # Looked at when the frame is in its group: `completes_at` flushes what was there before.
        if not exposure.flown or before < self.row_end <= self._progress.came:
            binding.sink.flush()

    @contextlib.contextmanager
    def _storing(self, binding: Binding, cells: Sequence[int]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._progress.withdraw(binding, cells)
            if not binding.closed:  # no error of the next run's
                self._counter.fail(error)
            raise


def _frames(number: int) -> str:
    return "a frame" if number == 1 else f"{number} frames"
