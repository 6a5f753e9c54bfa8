"""A sink for small frames of a flown source, which go out together: see `_grouping`."""

from __future__ import annotations

import functools
import math
import time as _time
from collections.abc import Sequence
from typing import Any

import numpy as np

from bluesky_zarr.store._grouping import Block, Grouping
from bluesky_zarr.store._positions import Index
from bluesky_zarr.store._queue import FrameQueue
from bluesky_zarr.store._sink import FrameSink
from bluesky_zarr.store._slots import Slots

_now = _time.time


class GroupedSink(FrameSink):
    """A `FrameSink` whose inner chunks span several positions along the fastest scan dim.

    Its frames are always copied. A frame becomes readable with the others of its chunk, or after
    `group_seconds`. Blocks that no codec works on are stored by the call that fills them.
    """

    def __init__(self, *args: Any, capacity: int, group_seconds: float, **options: Any) -> None:
        super().__init__(*args, capacity=capacity, **options)
        self._inline = self._files.plain
        self._grouping = Grouping(
            self._positions,
            self._files.group,
            seconds=group_seconds,
            capacity=capacity,
            fill_value=math.nan if self._dtype.kind == "f" else 0,
            byte_wise=bool(self._frame_shape)
            and self._dtype == self._stored_dtype
            and self._dtype.char in "?bBhHiIlLqQefd",
            take=self._queue.buffer,
            store=self._store_block,
            load=self._load_block,
        )
        self._run = self._grouping.run

    def _new_queue(self) -> FrameQueue:
        shape = (self._files.group, *self._frame_shape)
        return FrameQueue(shape, self._stored_dtype, always_copied=True)

    def write(
        self,
        frame: Any,
        index: Index | None = None,
        *,
        copy: bool = True,
        time: float | None = None,
    ) -> int:
        # Nearly every frame is an array that fits and has the next slot of the run. It is put there
        # without a call that can be done without; all others go the long way, which does the same.
        if (
            self._failure.error is None
            and type(frame) in self._kinds
            and frame.dtype is self._dtype
            and frame.shape == self._frame_shape
        ):
            run = self._run
            turn = run.turn
            free = turn.free
            try:
                del free[1]
            except IndexError:
                pass
            else:
                try:
                    ahead = run.ahead
                    slot = run.end - run.step * ahead
                    if ahead > 1 and (
                        index is None or (type(index) is int and index == run.first + slot)
                    ):
                        memory = run.memory
                        if memory is None:
                            run.block[slot] = frame
                        else:
                            memory.seek(slot * run.frame_bytes)
                            memory.write(frame)
                        run.times[slot] = _now() if time is None else time
                        run.ahead = ahead - 1
                        return run.top - ahead
                except ValueError:  # not C-contiguous
                    pass
                finally:
                    free.append(None)
                    if turn.waiting:
                        turn.wake()
        return self._grouping.write(self._checked(frame), index, time)

    def write_many(
        self,
        frames: np.ndarray,
        index: Index | None = None,
        *,
        time: float | Sequence[float] | None = None,
    ) -> int:
        return self._grouping.write_many(frames, index, self._checked_times(frames, time))

    def flush(self) -> None:
        super().flush()
        self._grouping.flush()

    def drain(self) -> None:
        if self._failure.error is None:
            self._grouping.flush()
        super().drain()

    def _take_back(self, index: Index) -> bool:
        flat = self._grouping.retract(index)
        if flat is None:
            return False
        self._queue.wait()
        self._failure.check()
        self._files.progress.take_back(flat)
        return True

    def _take_no_more(self) -> None:
        try:
            self._grouping.close()
        except (OSError, RuntimeError) as error:
            self._failure.keep(error)
        super()._take_no_more()

    # ------------------------------------------------------------------ blocks

    def _store_block(self, block: Block) -> None:
        growth = self._growth
        if growth is not None and block.last >= growth.room:
            with self._failure:
                growth.make_room(block.last)
        number, completed = 0, self.completed
        try:
            number = self._queue.enter(self._check_open)
            arguments = (block.array, block.array, block.chunk, number, _now())
            grouped = {"slots": block.slots, "ranges": block.ranges}
            if not self._inline:
                self._queue.submit(number, functools.partial(self._store, *arguments, **grouped))
                return
            self._store_now(*arguments, **grouped)
            if self.notify is None:
                self._queue.leave(number)
            else:
                # Not from here: the turn of the open block is held, and whoever is notified may
                # have a lock of its own that somebody holds who is writing.
                self._queue.submit(number, functools.partial(self._tell, number))
            self._failure.check()
        except BaseException:
            withdrawn = self._queue.withdraw(number)
            block.taken = (
                self.completed > completed if self._inline else not withdrawn and number > 0
            )
            raise

    def _load_block(self, *arguments: int) -> tuple[np.ndarray, Slots] | None:
        self._queue.wait()
        self._failure.check()
        with self._failure:
            return self._files.load(*arguments)
