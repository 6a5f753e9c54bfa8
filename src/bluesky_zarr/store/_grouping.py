"""Small frames of a flown row, collected into the chunk that holds them.

Writing a file takes some ten microseconds however little is written, so frames of a few kilobytes
go out together: copied one by one into a block, which is stored when it is full. What waits in a
block is not readable, and is not said to be, until then or until `seconds` have passed; the block
is then stored as far as it goes, and stored again when it is full.
"""

from __future__ import annotations

import logging
import math
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

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Block:
    """A chunk's block on its way to its file: see `FrameFiles.store`.

    `last` is the highest position that is new in it.
    """

    array: np.ndarray
    chunk: int
    slots: Slots
    ranges: Sequence[tuple[int, int]]
    last: int


class Grouping:
    """Collects the frames of one array; `byte_wise`, if their bytes are those that are stored.

    `take` gives a block to write into, `store` hands one over, `load` waits for those handed over
    and gives what is stored of a chunk (see `FrameFiles.load`).
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
        self._positions = positions
        self._group = group
        self._capacity = capacity
        self._fill_value = fill_value
        self._take = take
        self._store = store
        self._load = load
        # Guards all below.
        self._lock = threading.RLock()
        self._number = 0
        self._last = -1
        # How many frames without an index follow the last one in the open block, and which way.
        self._ahead = 0
        self._step = 1
        # The open block: its positions, how many frames are new in it, how many make it full, and
        # which slots they are in.
        self._first = self._stop = self._new = self._wanted = 0
        self._chunk = 0
        self._block: Any = None  # an array, while a block is open
        # numpy lets go of the interpreter for each copy; the workers that wait for it then wake up,
        # nearly always too late, and cost more than the copy. Copies of plain bytes do not.
        self._byte_wise = byte_wise
        self._bytes: memoryview | None = None
        self._frame_bytes = 0
        self._slots = Slots.empty(group)
        self._times: Any = self._slots.times.data  # single elements cost a third of an array's
        self._fresh = bytearray(group)
        self._stored = bytearray()
        self._waited = False
        self._ended = threading.Event()
        threading.Thread(
            target=_tick,
            args=(weakref.ref(self), self._ended, seconds / 2),
            name="bluesky-zarr-groups",
            daemon=True,
        ).start()

    def write(self, frame: np.ndarray, index: Index | None, time: float | None) -> int:
        """Take a frame of the right shape and dtype; the number of this write."""
        with self._lock:
            if index is None and self._ahead:
                flat = self._last + self._step
                self._ahead -= 1
            elif type(index) is int and self._first <= index < self._stop:
                flat = index
                self._ahead = 0
            else:
                flat = self._find(index)
            slot = flat - self._first
            if self._fresh[slot]:
                # Each version of a frame is to be found in some record, as those of large ones are.
                self.flush()
            if self._bytes is not None and frame.flags.c_contiguous:
                start = slot * self._frame_bytes
                self._bytes[start : start + self._frame_bytes] = frame.data.cast("B")
            else:
                self._block[slot] = frame
            self._fresh[slot] = 1
            self._times[slot] = _time.time() if time is None else time
            self._last = flat
            self._new += 1
            if self._new == self._wanted:
                self._hand_over()
            self._number = number = self._number + 1
            return number

    def write_many(
        self, frames: np.ndarray, index: Index | None, times: npt.NDArray[np.float64]
    ) -> int:
        """Take several frames that follow one another in order of acquisition."""
        with self._lock:
            done = 0
            while done < len(frames):
                if index is None and self._ahead:
                    flat = self._last + self._step
                    self._ahead -= 1
                else:
                    flat = self._find(index)
                index = None
                count = min(1 + self._ahead, len(frames) - done)
                slot, step = flat - self._first, self._step if count > 1 else 1
                low = slot if step > 0 else slot - count + 1
                if self._fresh.find(1, low, low + count) >= 0:
                    self.flush()
                where = slice(slot, slot + step * count if slot + step * count >= 0 else None, step)
                self._block[where] = frames[done : done + count]
                self._slots.times[where] = times[done : done + count]
                self._fresh[low : low + count] = b"\1" * count
                self._last = flat + step * (count - 1)
                self._ahead -= count - 1
                self._new += count
                done += count
                self._number += count
                if self._new == self._wanted:
                    self._hand_over()
            return self._number

    def retract(self, index: Index) -> int | None:
        """Take the newest frame of a position out of its block; the position, or None if there is
        no frame.
        """
        with self._lock:
            flat = self._positions.flat(index)
            self.flush()
            if not self._first <= flat < self._stop:
                self._open(flat)
            slot = flat - self._first
            count = int(self._slots.counts[slot])
            if not count or self._block is None:
                return None
            before = self._load(self._chunk, slot, count - 1) if count > 1 else None
            self._block[slot] = self._fill_value if before is None else before[0][slot]
            self._slots.times[slot] = math.nan if before is None else before[1].times[slot]
            self._slots.counts[slot] = 0 if before is None else count - 1
            self._send(keep=True, ranges=())
            return flat

    def flush(self) -> None:
        """Hand what waits over."""
        with self._lock:
            if self._new:
                self._send(keep=True, ranges=self._ranges())

    def flush_if_waiting(self) -> None:
        """Hand over what waited at the last call already."""
        with self._lock:
            if self._new and self._waited:
                self.flush()
            self._waited = bool(self._new)

    def close(self) -> None:
        """Hand what waits over; what comes later is refused."""
        self._ended.set()
        with self._lock:
            try:
                self.flush()
            finally:
                self._shut()

    # ------------------------------------------------------------------ the open block

    def _find(self, index: Index | None) -> int:
        """The position for an index, with its block open."""
        if self._ended.is_set():
            raise RuntimeError("no frames are taken any more; prepare() a new store")
        positions = self._positions
        flat = positions.after(self._last) if index is None else positions.flat(index)
        if not self._first <= flat < self._stop:
            self._open(flat)
        self._ahead = 0
        try:
            step = positions.after(flat) - flat
        except FrameError:
            return flat
        if step == 1:
            self._ahead = self._stop - 1 - flat
        elif step == -1:
            self._ahead = flat - self._first
        self._step = step
        return flat

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
        if found is None:
            self._block, self._slots = self._take(), Slots.empty(group)
        else:
            self._block, self._slots = found
        self._times = self._slots.times.data
        if self._byte_wise:
            self._bytes = self._block.reshape(-1).view(np.uint8).data
            self._frame_bytes = self._block[0].nbytes
        self._first = flat - inside
        self._stop = self._first + size
        self._count_wanted()

    def _shut(self) -> None:
        self._block = self._bytes = None
        self._first = self._stop = self._wanted = self._new = self._ahead = 0
        self._fresh[:] = bytes(self._group)

    def _hand_over(self) -> None:
        whole = self._new == self._stop - self._first
        ranges = [(self._first, self._stop)] if whole else self._ranges()
        self._send(keep=False, ranges=ranges)
        self._shut()

    def _count_wanted(self) -> None:
        # Frames for slots that have one make a block "full" too early: it is stored once more then.
        self._wanted = self._stop - self._first - int(np.count_nonzero(self._slots.counts))

    def _ranges(self) -> list[tuple[int, int]]:
        edges = np.diff(np.frombuffer(self._fresh, np.int8), prepend=0, append=0)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        first = self._first
        pairs = zip(starts.tolist(), stops.tolist(), strict=True)
        return [(first + start, first + stop) for start, stop in pairs]

    def _send(self, *, keep: bool, ranges: Sequence[tuple[int, int]]) -> None:
        block, slots, first = self._block, self._slots, self._first
        for start, stop in ranges:
            slots.counts[start - first : stop - first] += 1
        if self._new < self._group:
            block[slots.counts == 0] = self._fill_value
        if keep:
            # More frames go into this block while a copy of it is stored.
            array = self._take()
            np.copyto(array, block)
            slots = Slots(slots.counts.copy(), slots.times.copy())
            self._fresh[:] = bytes(self._group)
            self._new = 0
            self._count_wanted()
        else:
            array = block
        self._waited = False
        if self._chunk >= len(self._stored):
            self._stored.extend(bytes(self._chunk + 1 + len(self._stored) // 2))
        self._stored[self._chunk] = 1
        last = ranges[-1][1] - 1 if ranges else first
        self._store(Block(array, self._chunk, slots, ranges, last))


def _tick(grouping: weakref.ref[Grouping], ended: threading.Event, seconds: float) -> None:
    """Let no frame wait for long; ends with the grouping, closed or forgotten."""
    while not ended.wait(seconds):
        alive = grouping()
        if alive is None:
            return
        try:
            alive.flush_if_waiting()
        except Exception:
            # The next call of the source raises it.
            _logger.debug("frames that waited could not be stored", exc_info=True)
        del alive
