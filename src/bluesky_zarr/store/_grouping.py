"""Small frames of a flown row, collected into the chunk that holds them.

Writing a file takes some ten microseconds however little is written, so frames of a few kilobytes
go out together: copied one by one into a block, which is stored when it is full. What waits in a
block is not readable, and is not said to be, until then or until `seconds` have passed; the block
is then stored as far as it goes, and stored again when it is full.
"""

from __future__ import annotations

import contextlib
import logging
import math
import queue
import threading
import time as _time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr.store._positions import FrameError, Index, Positions
from bluesky_zarr.store._slots import Slots
from bluesky_zarr.store._turn import Turn, taking_turns

_logger = logging.getLogger(__name__)


@dataclass
class Block:
    """A chunk's block on its way to its file: see `FrameFiles.store`.

    `last` is the highest position that is new in it. `taken` is whether somebody will store it for
    certain, or has done so: it must not be handed over once more then, whatever interrupted the
    call that did it.
    """

    array: np.ndarray
    chunk: int
    slots: Slots
    ranges: Sequence[tuple[int, int]]
    last: int
    taken: bool = False


class Run:
    """Slots of an open block that are filled one after the other, upwards or downwards, by who has
    the `turn`.

    `ahead` of its `length` slots are left. The next frame's is `end - step * ahead`, its position
    is `first` more than that, the number of its write `top - ahead`. Who puts it there copies it
    into `block` (or, if its bytes are those that are stored, into `memory`, which is the block's),
    puts its time into `times`, and takes one off `ahead`. That is all a frame costs: what else is
    to be known is entered for many at once. The last slot is for `Grouping.write`, which ends the
    run.
    """

    # Found faster than what stands in a dictionary.
    __slots__ = (
        *("ahead", "block", "end", "first", "frame_bytes", "length", "memory", "step"),
        *("times", "top", "turn"),
    )

    def __init__(self) -> None:
        self.turn = Turn()
        self.length = self.ahead = self.end = self.first = self.top = self.frame_bytes = 0
        self.step = 1
        self.block: Any = None  # an array, while a block is open
        self.memory: Any = None  # an mmap, while a block is open that is written byte-wise
        self.times: Any = None  # a memoryview: single elements cost a third of an array's


class Grouping:
    """Collects the frames of one array; `byte_wise`, if their bytes are those that are stored.

    `take` gives a block to write into, an array on an mmap, `store` hands one over (and where it
    raises, says whether it is `taken`), `load` waits for those handed over and gives what is stored
    of a chunk (see `FrameFiles.load`). Whoever has the turn of `run` may put frames there.
    """

    def __init__(
        self,
        positions: Positions,
        group: int,
        *,
        seconds: float,
        capacity: int,
        fill_value: float,
        byte_wise: bool,
        take: Callable[[], np.ndarray],
        store: Callable[[Block], None],
        load: Callable[..., tuple[np.ndarray, Slots] | None],
    ) -> None:
        self.run = Run()
        # Guards all below.
        self.turn = self.run.turn
        self._positions = positions
        self._group = group
        self._capacity = capacity
        self._fill_value = fill_value
        self._take = take
        self._store = store
        self._load = load
        self._number = 0
        self._last = -1
        # The open block ends before position `_stop`; how many frames are new in it, how many make
        # it full, and which slots they are in.
        self._stop = self._new = self._wanted = 0
        self._chunk = 0
        self._slots = Slots.empty(group)
        self._fresh = bytearray(group)
        # What is being handed over, and whether its frames stay in the open block.
        self._sent: tuple[Block, bool] | None = None
        # A copy into an array by numpy lets go of the interpreter; the workers that wait for it
        # then wake up, nearly always too late, and cost more than the copy. Writing to the memory
        # as to a file does not, and is the cheapest call for it.
        self._byte_wise = byte_wise
        self._stored = bytearray()
        self._waited = False
        self._ended = False
        # Not an Event: Ctrl-C in its `set`, which is Python's, would leave it locked for ever.
        self._end_tick: queue.SimpleQueue[None] = queue.SimpleQueue()
        threading.Thread(
            target=_tick,
            args=(weakref.ref(self), self._end_tick, seconds / 2),
            name="bluesky-zarr-groups",
            daemon=True,
        ).start()

    @taking_turns
    def write(self, frame: np.ndarray, index: Index | None, time: float | None) -> int:
        """Take a frame of the right shape and dtype; the number of this write."""
        run = self.run
        ahead = run.ahead
        slot = run.end - run.step * ahead
        if not ahead or (
            index is not None and (type(index) is not int or index != run.first + slot)
        ):
            ahead = self._begin(index)
            slot = run.end - run.step * ahead
        run.block[slot] = frame
        run.times[slot] = _time.time() if time is None else time
        run.ahead = ahead - 1
        number = run.top - ahead
        if ahead == 1:
            self._complete()
        return number

    @taking_turns
    def write_many(
        self, frames: np.ndarray, index: Index | None, times: npt.NDArray[np.float64]
    ) -> int:
        """Take several frames that follow one another in order of acquisition."""
        run = self.run
        done = 0
        while done < len(frames):
            ahead = run.ahead
            if not ahead or index is not None:
                ahead = self._begin(index)
                index = None
            count, step = min(ahead, len(frames) - done), run.step
            slot = run.end - step * ahead
            where = slice(slot, slot + step * count if slot + step * count >= 0 else None, step)
            run.block[where] = frames[done : done + count]
            self._slots.times[where] = times[done : done + count]
            run.ahead = ahead - count
            done += count
            if ahead == count:
                self._complete()
        self._settle()
        return self._number

    @taking_turns
    def retract(self, index: Index) -> int | None:
        """Take the newest frame of a position out of its block; the position, or None if there is
        no frame.
        """
        run = self.run
        flat = self._positions.flat(index)
        self._flush()
        if not run.first <= flat < self._stop:
            self._open(flat)
        slot = flat - run.first
        count = int(self._slots.counts[slot])
        if not count or run.block is None:
            return None
        before = self._load(self._chunk, slot, count - 1) if count > 1 else None
        run.block[slot] = self._fill_value if before is None else before[0][slot]
        self._slots.times[slot] = math.nan if before is None else before[1].times[slot]
        self._slots.counts[slot] = 0 if before is None else count - 1
        self._send(keep=True, ranges=())
        return flat

    @taking_turns
    def flush(self) -> None:
        """Hand what waits over."""
        self._flush()

    @taking_turns
    def flush_if_waiting(self) -> None:
        """Hand over what waited at the last call already."""
        self._settle()
        if self._new and self._waited:
            self._flush()
        self._waited = bool(self._new)

    def close(self) -> None:
        """Hand what waits over; what comes later is refused."""
        # Not in turn: who writes without a pause hears of it first, and leaves the turn to this.
        self._ended = True
        self._end_tick.put(None)
        self._end()

    @taking_turns
    def _end(self) -> None:
        try:
            self._flush()
        except Exception:
            self._shut()
            raise
        self._shut()

    # ------------------------------------------------------------------ the open block

    def _flush(self) -> None:
        self._settle()
        if self._new:
            self._send(keep=True, ranges=self._ranges())

    def _begin(self, index: Index | None) -> int:
        """Begin a run with the slot of an index, in its block; how many slots it has."""
        self._settle()
        run = self.run
        if type(index) is int and run.first <= index < self._stop:
            # Positions in any order: nothing says that the neighbour is next.
            flat, length, step = index, 1, 1
        else:
            flat, length, step = self._find(index)
        slot = flat - run.first
        if self._fresh[slot]:
            # Each version of a frame is to be found in some record, as those of large ones are.
            self._flush()
        if length > 1:
            # Up to a slot with a frame that waits, and to where the block is full.
            if step > 0:
                taken = self._fresh.find(1, slot, slot + length)
                length = length if taken < 0 else taken - slot
            else:
                length = min(length, slot - self._fresh.rfind(1, 0, slot + 1))
            if self._wanted > self._new:
                length = min(length, self._wanted - self._new)
        run.step = step
        run.end = slot + step * length
        run.top = self._number + length + 1
        run.length = run.ahead = length
        return length

    def _settle(self) -> None:
        """Count the frames that were taken since the last call."""
        if self._sent is not None:  # an interrupt came between
            self._forget_sent()
        run = self.run
        taken = run.length - run.ahead
        if taken:
            start = run.end - run.step * run.length
            last = start + run.step * (taken - 1)
            self._fresh[min(start, last) : max(start, last) + 1] = b"\1" * taken
            self._new += taken
            self._number += taken
            self._last = run.first + last
            run.length = run.ahead

    def _complete(self) -> None:
        """The end of a run."""
        self._settle()
        if self._new == self._wanted:
            self._hand_over()

    def _find(self, index: Index | None) -> tuple[int, int, int]:
        """The position for an index, with its block open; how many positions of the block follow
        one another from there on, and which way.
        """
        if self._ended:
            raise RuntimeError("no frames are taken any more; prepare() a new store")
        positions = self._positions
        flat = positions.after(self._last) if index is None else positions.flat(index)
        if not self.run.first <= flat < self._stop:
            self._open(flat)
        try:
            step = positions.after(flat) - flat
        except FrameError:
            return flat, 1, 1
        if step == 1:
            return flat, self._stop - flat, 1
        if step == -1:
            return flat, flat - self.run.first + 1, -1
        return flat, 1, 1

    def _open(self, flat: int) -> None:
        if self._new:
            self._hand_over()
        self._shut()
        group, positions = self._group, self._positions
        row, place = (0, flat) if positions.growing else divmod(flat, positions.shape[-1])
        inside = place % group
        size = group
        if not positions.growing:
            size = min(group, positions.shape[-1] - (place - inside))
            self._chunk = row * math.ceil(positions.shape[-1] / group) + place // group
        else:
            self._chunk = place // group
            if self._capacity:
                size = min(group, self._capacity - (place - inside))
        found = None
        if self._chunk < len(self._stored) and self._stored[self._chunk]:
            found = self._load(self._chunk)
        run = self.run
        run.block = self._take()
        if found is None:
            self._slots = Slots.empty(group)
            self._wanted = size
        else:
            np.copyto(run.block, found[0])
            self._slots = found[1]
            self._wanted = size - int(np.count_nonzero(found[1].counts))
        run.times = self._slots.times.data
        if self._byte_wise:
            run.memory = run.block.base
            run.frame_bytes = run.block[0].nbytes
        run.first = flat - inside
        # From here on the block is open; an interrupt before leaves none that is so in part.
        self._stop = run.first + size

    def _shut(self) -> None:
        run = self.run
        run.block = run.memory = run.times = None
        run.length = run.ahead = run.first = 0
        self._stop = self._wanted = self._new = 0
        self._fresh[:] = bytes(self._group)
        self._waited = False

    def _hand_over(self) -> None:
        whole = self._new == self._stop - self.run.first
        ranges = [(self.run.first, self._stop)] if whole else self._ranges()
        self._send(keep=False, ranges=ranges)

    def _ranges(self) -> list[tuple[int, int]]:
        edges = np.diff(np.frombuffer(self._fresh, np.int8), prepend=0, append=0)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        first = self.run.first
        pairs = zip(starts.tolist(), stops.tolist(), strict=True)
        return [(first + start, first + stop) for start, stop in pairs]

    def _send(self, *, keep: bool, ranges: Sequence[tuple[int, int]]) -> None:
        array, first = self.run.block, self.run.first
        counts, times = self._slots.counts.copy(), self._slots.times
        for start, stop in ranges:
            counts[start - first : stop - first] += 1
        if self._new < self._group:
            array[counts == 0] = self._fill_value
        if keep:
            # More frames go into this block while a copy of it is stored.
            block, array, times = array, self._take(), times.copy()
            np.copyto(array, block)
        if self._chunk >= len(self._stored):
            self._stored.extend(bytes(self._chunk + 1 + len(self._stored) // 2))
        self._stored[self._chunk] = 1
        last = ranges[-1][1] - 1 if ranges else first
        sent = Block(array, self._chunk, Slots(counts, times), ranges, last)
        self._sent = sent, keep
        self._store(sent)
        sent.taken = True
        self._forget_sent()

    def _forget_sent(self) -> None:
        """What was handed over is not new any more, unless an interrupt came before."""
        assert self._sent is not None
        sent, keep = self._sent
        if sent.taken and keep:
            self._fresh[:] = bytes(self._group)
            self._new = 0
            self._slots.counts[:] = sent.slots.counts
            # Frames for slots that have one make a block "full" too early: it is stored once more
            # then.
            empty = self._group - int(np.count_nonzero(sent.slots.counts))
            self._wanted = self._stop - self.run.first - self._group + empty
            self._waited = False
        elif sent.taken:
            self._shut()
        self._sent = None


def _tick(grouping: weakref.ref[Grouping], ended: queue.SimpleQueue[None], seconds: float) -> None:
    """Let no frame wait for long; ends with the grouping, closed or forgotten."""
    while True:
        with contextlib.suppress(queue.Empty):
            ended.get(timeout=seconds)
            return
        alive = grouping()
        if alive is None:
            return
        try:
            alive.flush_if_waiting()
        except Exception:
            # The next call of the source raises it.
            _logger.debug("frames that waited could not be stored", exc_info=True)
        del alive
