"""How an array in order of events gets longer with its frames, before they are stored."""

from __future__ import annotations

import math
import threading
import time as _time
from pathlib import Path

from bluesky_zarr.store._frames import FrameFiles
from bluesky_zarr.store._length import lengthen, trim
from bluesky_zarr.store._positions import Positions

LENGTHEN_SECONDS = 1.0
"""How often, about, the documents of a growing group are replaced while frames come fast."""


class Growth:
    """Makes room for the frames of one growing array: in its shards' bookkeeping, and in the
    documents of its `group`.

    `length` is that of the array's document, or less, `step` how many positions a shard spans,
    `capacity` how many there may be at most (0 = unlimited).
    """

    def __init__(
        self,
        group: Path,
        files: FrameFiles,
        positions: Positions,
        *,
        length: int,
        step: int,
        capacity: int,
    ) -> None:
        self._group = group
        self._files = files
        self._positions = positions
        self._step = step
        self._capacity = capacity
        self._resizing = threading.Lock()
        self._length = length
        self._ahead = 0
        self._lengthened = -math.inf
        self.room = 0
        """How many positions can be stored without making room."""
        self.room = min(positions.length, length)

    def make_room(self, flat: int) -> None:
        """Make room for a position, before its frame is stored; raises OSError."""
        with self._resizing:
            if flat >= self._length:
                self._lengthen(flat)
            needed = math.ceil(max(flat + 1, self._length) / self._step)
            room = self._positions.length // self._step
            if needed > room:
                # By half as much again: few copies of what is kept for each position.
                shards = max(needed, room * 3 // 2)
                if self._capacity:
                    shards = min(shards, math.ceil(self._capacity / self._step))
                self._set_room(shards * self._step)
            self.room = min(self._positions.length, self._length)

    def _lengthen(self, flat: int) -> None:
        # Of slow frames, readers see exactly those that there are. Fast ones get room for those of
        # about the next second, as each time the documents of the whole group are replaced.
        now = _time.monotonic()
        soon = now - self._lengthened < LENGTHEN_SECONDS
        self._ahead = self._ahead * 2 + 1 if soon else self._ahead // 2
        length = flat + 1 + self._ahead
        if self._capacity:
            length = min(length, self._capacity)
        self._length = lengthen(self._group, length)
        self._lengthened = now

    def trim(self) -> None:
        """Cut the array off behind its last frame; where its group has several of them, publication
        does that. Raises OSError.
        """
        self.room = self._files.progress.used_length()
        self._set_room(self.room)
        trim(self._group)

    def _set_room(self, length: int) -> None:
        self._files.resize(length)
        self._positions.resize(length)
