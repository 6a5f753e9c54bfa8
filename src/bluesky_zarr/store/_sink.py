"""Where frames go in: checks, a bounded queue, and the errors of what happens behind it.

A frame's way: checked on the caller's thread, copied if asked, then encoded, appended to its shard
file and entered in the shard's index by a worker. Small frames are stored by the caller itself, as
handing them over would take longer.
"""

from __future__ import annotations

import functools
import logging
import math
import threading
import time as _time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr.store._frames import FrameFiles
from bluesky_zarr.store._grouping import Block, Grouping
from bluesky_zarr.store._layout import Layout
from bluesky_zarr.store._length import lengthen, trim
from bluesky_zarr.store._paths import array_uri
from bluesky_zarr.store._pool import shared_pool, worker_count
from bluesky_zarr.store._positions import FrameError, Index, Positions
from bluesky_zarr.store._slots import Slots
from bluesky_zarr.store._source_info import SourceInfo

_logger = logging.getLogger(__name__)

QUEUE_BYTES = 64 * 2**20
"""Raw bytes of frames that a sink holds at most; `write` waits beyond. One frame is always taken.

Of large frames it holds fewer: two more than there are workers keep all of them busy, and the
copies of few frames stay in the processor's cache. At least a quarter of this is always taken, so
that frames below a megabyte do not make `write` wait for every one of them.
"""
INLINE_BYTES = 64 * 2**10
"""Frames up to this size are stored on the caller's thread."""
SYNC_SECONDS = 1.0
"""How often, at most, the data goes to disk with durability "flush"."""

LENGTHEN_SECONDS = 1.0
"""How often, about, the documents of a growing group are replaced while frames come fast."""


class FrameSink:
    """One array of a store, written frame by frame: made by `Writer.prepare`.

    Any thread may write, positions may come in any order, and of two frames for one position the
    one that was written last is read. A sink holds at most `QUEUE_BYTES` of frames (64 MiB), of
    large ones two more than the pool has workers, and keeps at most 16 files open.

    `key` is the array's key in the store, `uri` that of its node, `chunk_shape` the shape of an
    inner chunk (scan dims first), `expected` how many positions are to be filled (None where nobody
    knows). `notify`, if it is set, is called with `completed` after each frame, when it is readable
    or has failed: by a worker thread, or for small frames by the one that called `write`. It must
    not wait for the sink.
    """

    def __init__(
        self,
        store: Path,
        key: str,
        source: SourceInfo,
        files: FrameFiles,
        layout: Layout,
        *,
        scan_shape: tuple[int, ...],
        length: int,
        capacity: int,
        expected: int | None,
        durability: str,
        group_seconds: float,
    ) -> None:
        self.key = key
        self.uri = array_uri(store, key)
        self.source = source
        self.chunk_shape = layout.inner
        self.expected = expected
        self.notify: Callable[[int], None] | None = None

        self._store_path = store
        self._group = (store / key).parent
        self._files = files
        self._durability = durability
        self._positions = Positions(source, scan_shape, capacity)
        self._capacity = capacity
        self._step = layout.shard[0]
        self._dtype = np.dtype(source.dtype)
        self._stored_dtype = self._dtype.newbyteorder("<")
        self._frame_shape = source.shape
        self._frame_bytes = math.prod(source.shape) * self._dtype.itemsize
        slots = (files.group,) if files.group > 1 else ()
        self._block_shape = slots + source.shape
        self._block_bytes = files.group * self._frame_bytes
        self._inline = not slots and self._frame_bytes <= INLINE_BYTES
        self._pool = shared_pool()
        busy = (worker_count() + 2) * self._block_bytes
        # Blocks of frames are copies in any case, which should not leave the cache.
        self._room = min(QUEUE_BYTES, busy if slots else max(QUEUE_BYTES // 4, busy))
        # What follows is about growing; `_length` is that of the array's document, or less.
        self._resizing = threading.Lock()
        self._length = length
        self._ahead = 0
        self._lengthened = -math.inf

        # Guards what follows; writers wait on it for room, drain() for the end.
        self._queue = threading.Condition()
        self._in_flight = 0
        self._pending = 0
        self._number = 0
        self._last = -1
        self._error: BaseException | None = None
        self._closed = False
        self._closing = threading.Lock()
        self._spare: list[np.ndarray] = []
        self._synced = _time.monotonic()
        self._grouping: Grouping | None = None
        if slots:
            self._grouping = Grouping(
                self._positions,
                files.group,
                seconds=group_seconds,
                capacity=capacity,
                fill_value=math.nan if self._dtype.kind == "f" else 0,
                take=self._buffer,
                store=self._store_block,
                load=self._load_block,
            )

    # ------------------------------------------------------------------ what is there

    @property
    def shape(self) -> tuple[int, ...]:
        """The array's shape, scan dims first; of a growing one what its shard files have room for.

        A growing array itself is only as long as its group needs it, and a closed sink as what was
        written.
        """
        return self._positions.shape + self._frame_shape

    @property
    def scan_shape(self) -> tuple[int, ...]:
        """The scan's part of the shape."""
        return self._positions.shape

    @property
    def readable(self) -> int:
        """How many positions a reader finds a frame at."""
        return self._files.progress.readable

    @property
    def completed(self) -> int:
        """How many frames became readable; positions written twice count twice."""
        return self._files.progress.completed

    @property
    def written(self) -> npt.NDArray[np.uint32]:
        """How often each position was written: a copy, in the scan's shape."""
        return self._files.progress.counts()

    @property
    def dead_bytes(self) -> int:
        """Bytes in the shard files that nothing points at any more, because positions were written
        again.
        """
        return self._files.dead_bytes

    def collect(self) -> list[tuple[int, int]]:
        """C-order ranges [start, stop) of positions that became readable, or got a newer frame,
        since the last call.
        """
        return self._files.progress.collect()

    # ------------------------------------------------------------------ writing

    def write(
        self,
        frame: npt.ArrayLike,
        index: Index | None = None,
        *,
        copy: bool = True,
        time: float | None = None,
    ) -> int:
        """Hand over a frame and return the number of this write; waits while the queue is full.

        Parameters
        ----------
        frame
            Of exactly the source's shape and dtype.
        index
            The position in the scan: a tuple over the scan dims, or its C-order number.
            None: the next one in the order of acquisition, after the last frame written.
        copy
            False hands the buffer over: it must stay unchanged until the frame is readable.
        time
            When the frame was taken, in seconds since the epoch; now, if not given.

        Raises
        ------
        FrameError
            The frame does not fit; nothing was written, and the sink goes on.
        OSError
            An earlier frame (or this one) could not be written.
        RuntimeError
            The sink is closed.
        """
        if self._error is not None or self._closed:
            self._check_open()
        array = frame if isinstance(frame, np.ndarray) else np.asarray(frame)
        dtype = array.dtype
        # Nearly always it is the very same object, and comparing takes a tenth of a microsecond.
        if array.shape != self._frame_shape or (dtype is not self._dtype and dtype != self._dtype):
            raise self._misfit(array)
        if self._grouping is not None:
            return self._grouping.write(array, index, time)
        positions = self._positions
        with self._queue:
            # Taken at once, so that no other thread is given the same place.
            flat = positions.after(self._last) if index is None else positions.flat(index)
            self._last = flat
        if positions.growing and flat >= min(positions.length, self._length):
            self._grow(flat)
        if time is None:
            time = _time.time()
        number = self._enter_queue()
        fits = array.flags.c_contiguous and array.dtype == self._stored_dtype
        if self._inline:
            self._store(
                array if fits else np.ascontiguousarray(array, self._stored_dtype),
                None,
                flat,
                number,
                time,
            )
            self._check_failed()
            return number
        try:
            buffer = None
            if copy or not fits:
                buffer = self._buffer()
                np.copyto(buffer, array)
            job = functools.partial(
                self._store, array if buffer is None else buffer, buffer, flat, number, time
            )
            self._pool.submit(job)
        except BaseException:
            self._done()
            raise
        return number

    def write_many(
        self,
        frames: np.ndarray,
        index: Index | None = None,
        *,
        time: float | Sequence[float] | None = None,
    ) -> int:
        """Hand over several frames that follow one another in order of acquisition; copied before
        this returns. The number of the last write.

        Parameters
        ----------
        frames
            Of shape (n, *the source's shape) and exactly its dtype.
        index
            The position of the first one, as for `write`.
        time
            When they were taken: one for all, or one for each.

        Raises
        ------
        FrameError
            The frames do not fit; none was written. Where only the last ones of them lie outside of
            the scan, those before are written.
        OSError, RuntimeError
            As for `write`.
        """
        self._check_open()
        if frames.shape[1:] != self._frame_shape or frames.dtype != self._dtype or frames.ndim == 0:
            raise self._misfit(frames[0] if frames.ndim and len(frames) else frames)
        times = np.broadcast_to(
            np.asarray(_time.time() if time is None else time, np.float64), len(frames)
        )
        if self._grouping is not None:
            return self._grouping.write_many(frames, index, times)
        number = self._number
        for frame, taken in zip(frames, times.tolist(), strict=True):
            number = self.write(frame, index, time=taken)
            index = None
        return number

    def retract(self, index: Index) -> None:
        """Take the newest frame at a position back: the one before it is read again, or nothing.

        Raises
        ------
        FrameError
            There is no such position, or no frame.
        OSError
            The disk refused, now or earlier.
        """
        self._check_open()
        if self._grouping is not None:
            flat = self._grouping.retract(index)
            taken = flat is not None
            if flat is not None:
                self._wait()
                self._check_failed()
                self._files.progress.take_back(flat)
        else:
            flat = self._positions.flat(index)
            self._wait()
            with self._failing():
                taken = self._files.take_back(flat)
        if not taken:
            raise FrameError(
                f"index {index!r} for {self.source.name!r}: there is no frame to take back"
            )

    def drain(self) -> None:
        """Wait until every frame handed over is readable.

        Raises
        ------
        OSError
            A frame could not be written.
        """
        if self._grouping is not None and self._error is None:
            self._grouping.flush()
        self._wait()
        self._check_failed()

    def sync(self) -> None:
        """Wait until every frame that is readable now is on disk, too.

        Raises
        ------
        OSError
            The disk refused, now or earlier. What a power cut would take is then unknown.
        """
        self._check_failed()
        with self._failing():
            self._files.sync()

    def close(self) -> None:
        """Drain, write the counts, close the files, and trim a growing array to its last frame
        (where its group has several of them, publication does that). Does nothing the second time.

        Raises
        ------
        OSError
            A frame could not be written, now or earlier; all that is possible is done
            before.
        """
        with self._closing:
            if self._closed:
                return
            if self._grouping is not None:
                try:
                    self._grouping.close()
                except (OSError, RuntimeError) as error:
                    self._fail(error)
            with self._queue:
                self._closed = True
                self._queue.notify_all()
            self._wait()
            last_steps = [self._files.progress.flush]
            if self._durability == "flush":
                last_steps.append(self._files.sync)
            if self._positions.growing:
                last_steps.append(self._trim)
            for step in last_steps:
                try:
                    step()
                except OSError as error:
                    self._fail(error)
            self._files.close()
            self._spare.clear()
            self._check_failed()

    # ------------------------------------------------------------------ on the workers

    def _enter_queue(self) -> int:
        """Wait for room; the number of this write."""
        with self._queue:
            while self._in_flight and self._in_flight + self._block_bytes > self._room:
                self._queue.wait()
            # It may have failed or been closed while this frame waited.
            self._check_open()
            self._number = number = self._number + 1
            self._in_flight += self._block_bytes
            self._pending += 1
        return number

    def _store_block(self, block: Block) -> None:
        if self._positions.growing and block.last >= min(self._positions.length, self._length):
            self._grow(block.last)
        number = self._enter_queue()
        arguments = (block.array, block.array, block.chunk, number, _time.time())
        self._pool.submit(
            functools.partial(self._store, *arguments, slots=block.slots, ranges=block.ranges)
        )

    def _load_block(self, *arguments: int) -> tuple[np.ndarray, Slots] | None:
        self._wait()
        return self._files.load(*arguments)

    def _store(
        self,
        frame: np.ndarray,
        buffer: np.ndarray | None,
        flat: int,
        number: int,
        time: float,
        **grouped: Any,
    ) -> None:
        try:
            self._files.store(frame, flat, number, time, **grouped)
            self._files.progress.flush_if_due()
        except BaseException as error:
            self._fail(error)
        if buffer is not None and len(self._spare) * self._block_bytes <= self._room:
            self._spare.append(buffer)
        if self.notify is not None:
            try:
                self.notify(self.completed)
            except Exception:
                _logger.exception("the notify callback of the sink of %r failed", self.key)
        if self._durability == "flush" and _time.monotonic() - self._synced > SYNC_SECONDS:
            self._synced = _time.monotonic()
            with self._queue:
                self._in_flight += self._block_bytes
                self._pending += 1
            self._pool.submit(self._sync_behind)
        self._done()

    def _sync_behind(self) -> None:
        try:
            self._files.sync()
        except BaseException as error:
            self._fail(error)
        self._done()

    def _done(self) -> None:
        with self._queue:
            self._in_flight -= self._block_bytes
            self._pending -= 1
            self._queue.notify_all()

    def _wait(self) -> None:
        with self._queue:
            while self._pending:
                self._queue.wait()

    def _buffer(self) -> np.ndarray:
        # Touching new memory costs as much as the copy itself, so buffers are used again.
        try:
            return self._spare.pop()
        except IndexError:
            return np.empty(self._block_shape, self._stored_dtype)

    # ------------------------------------------------------------------ errors

    @property
    def error(self) -> BaseException | None:
        """What went wrong with a frame after `write` returned; every later call raises it."""
        return self._error

    def _fail(self, error: BaseException) -> None:
        with self._queue:
            if self._error is None:
                self._error = error
            self._queue.notify_all()

    def _failing(self) -> _Failing:
        return _Failing(self)

    def _check_open(self) -> None:
        self._check_failed()
        if self._closed:
            raise RuntimeError(
                f"the sink of {self.key!r} is closed and takes no more frames; prepare() a new "
                "store"
            )

    def _check_failed(self) -> None:
        error = self._error
        if error is None:
            return
        what = f"array {self.key!r} in {str(self._store_path)!r}: a frame could not be written"
        kept = f"the {self.readable} positions that are readable stay so"
        if isinstance(error, OSError) and error.errno is not None:
            text = f"{what} ({error.strerror}); {kept}. Mend the cause, then start a new store"
            raise OSError(
                error.errno, text, error.filename or str(self._store_path / self.key)
            ) from error
        raise RuntimeError(f"{what} ({error!r}); {kept}") from error

    def _misfit(self, array: np.ndarray) -> FrameError:
        what = f"frame for {self.source.name!r}"
        if array.dtype == self._dtype:
            return FrameError(
                f"{what} has shape {array.shape}, expected {self._frame_shape}; "
                "check the camera's region of interest, or prepare() again"
            )
        wanted, got = self._dtype.name, array.dtype.name
        if wanted == got:
            wanted, got = (
                f"{wanted} ({self._dtype.str})",
                f"{got} ({array.dtype.str}), the other byte order",
            )
        return FrameError(
            f"{what}: {wanted} expected, got {got}; convert it explicitly: no silent wrap"
        )

    # ------------------------------------------------------------------ growing

    def _grow(self, flat: int) -> None:
        """Make room for a position, here and in the documents of the group, before its frame is
        stored.
        """
        with self._resizing, self._failing():
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

    def _trim(self) -> None:
        self._set_room(self._files.progress.used_length())
        trim(self._group)

    def _set_room(self, length: int) -> None:
        self._files.resize(length)
        self._positions.resize(length)


class _Failing:
    """Keeps an OSError of the block as the sink's error, and raises it as that."""

    def __init__(self, sink: FrameSink) -> None:
        self._sink = sink

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self._sink._fail(error)
            self._sink._check_failed()
