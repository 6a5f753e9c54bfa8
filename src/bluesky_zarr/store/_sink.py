"""Where frames go in: checked, placed, and handed to whoever stores them.

A frame's way: checked on the caller's thread, copied if asked, then encoded, appended to its shard
file and entered in the shard's index by a worker. Small frames are stored by the caller itself, as
handing them over would take longer; those of a flown source go out together: see `_grouped_sink`.
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

from bluesky_zarr.store._durability import Flusher, flush_of
from bluesky_zarr.store._failure import Failure
from bluesky_zarr.store._files import SyncError
from bluesky_zarr.store._frames import FrameFiles
from bluesky_zarr.store._growth import Growth
from bluesky_zarr.store._layout import Layout
from bluesky_zarr.store._paths import array_uri
from bluesky_zarr.store._positions import FrameError, Index, Positions
from bluesky_zarr.store._publish import FULL, noting_lost, release_reserve, sync_node
from bluesky_zarr.store._queue import FrameQueue
from bluesky_zarr.store._source_info import SourceInfo

_logger = logging.getLogger(__name__)

INLINE_BYTES = 64 * 2**10
"""Frames up to this size are stored on the caller's thread, and so are blocks of small frames that
no codec works on: handing them over takes longer, as whoever fetches them has to wait for the
interpreter, which the caller is busy with.
"""


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
    ) -> None:
        self.key = key
        self._store_path = store
        self.uri = array_uri(store, key)
        self.source = source
        self.chunk_shape = layout.inner
        self.expected = expected
        self.notify: Callable[[int], None] | None = None

        self._files = files
        self._positions = Positions(source, scan_shape, capacity)
        self._dtype = np.dtype(source.dtype)
        # What numpy need not look at first: arrays, and its scalars of this dtype.
        self._kinds = (np.ndarray, self._dtype.type)
        self._stored_dtype = self._dtype.newbyteorder("<")
        self._frame_shape = source.shape
        self._inline = math.prod(source.shape) * self._dtype.itemsize <= INLINE_BYTES
        self._queue = self._new_queue()
        self._failure = Failure(store, key, lambda: self.readable)
        self._growth: Growth | None = None
        if self._positions.growing:
            self._growth = Growth(
                (store / key).parent,
                files,
                self._positions,
                length=length,
                step=layout.shard[0],
                capacity=capacity,
            )

        # Guards which position comes next.
        self._placing = threading.Lock()
        self._last = -1
        self._closed = self._ended = False
        self._closing = threading.Lock()
        self._syncing = threading.Lock()
        flush = flush_of(durability)
        self._flusher = Flusher(flush, self.sync) if flush is not None else None

    def _new_queue(self) -> FrameQueue:
        return FrameQueue(self._frame_shape, self._stored_dtype, always_copied=False)

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
        array = np.asarray(self._checked(frame))
        positions = self._positions
        with self._placing:
            # Taken at once, so that no other thread is given the same place.
            flat = positions.after(self._last) if index is None else positions.flat(index)
            self._last = flat
        growth = self._growth
        if growth is not None and flat >= growth.room:
            with self._failure:
                growth.make_room(flat)
        if time is None:
            time = _time.time()
        fits = array.flags.c_contiguous and array.dtype == self._stored_dtype
        number = 0
        if self._inline:
            if not fits:
                array = np.ascontiguousarray(array, self._stored_dtype)
            try:
                number = self._queue.enter(self._check_open)
                self._store(array, None, flat, number, time)
            except BaseException:  # Ctrl-C anywhere
                self._queue.leave(number)
                raise
            self._failure.check()
            return number
        try:
            number = self._queue.enter(self._check_open)
            buffer = None
            if copy or not fits:
                buffer = self._queue.buffer()
                np.copyto(buffer, array)
            job = functools.partial(
                self._store, array if buffer is None else buffer, buffer, flat, number, time
            )
            self._queue.submit(number, job)
        except BaseException:
            self._queue.withdraw(number)
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
            n frames of the source's shape, (n, ...), and exactly its dtype.
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
        times = self._checked_times(frames, time)
        number = self._queue.number
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
        if not self._take_back(index):
            raise FrameError(
                f"index {index!r} for {self.source.name!r}: there is no frame to take back; "
                "give the index of one that was written"
            )

    def _take_back(self, index: Index) -> bool:
        flat = self._positions.flat(index)
        self._queue.wait()
        with self._failure:
            return self._files.take_back(flat)

    def flush(self) -> None:
        """Hand over the frames that wait for others to fill their chunk, without a wait for them.

        Raises
        ------
        OSError
            A frame could not be written.
        """
        self._failure.check()

    def drain(self) -> None:
        """Wait until every frame handed over is readable.

        Raises
        ------
        OSError
            A frame could not be written.
        """
        self._queue.wait()
        self._failure.check()

    def sync(self) -> None:
        """Wait until every frame that is readable now is on disk, too.

        Raises
        ------
        OSError
            The disk refused, now or earlier. What a power cut would take is then unknown.
        """
        # Who finds nothing left to do may have to wait for who is doing it, and hears if it fails.
        with self._syncing:
            self._failure.check()
            try:
                self._sync()
            except Exception as error:
                self._failure.keep(error)
                self._failure.check()

    def close(self) -> None:
        """Drain, write the counts, close the files, and trim a growing array to its last frame
        (where its group has several of them, publication does that). Does nothing the second time,
        but for one that Ctrl-C has cut off.

        Raises
        ------
        OSError
            A frame could not be written, now or earlier; all that is possible is done
            before.
        """
        with self._closing:
            if self._ended:
                return
            self._take_no_more()
            self._queue.wait()
            last_steps = [self._files.progress.flush]
            if self._flusher is not None:
                self._flusher.close()
                last_steps.append(self._sync)
            if self._growth is not None:
                last_steps.append(self._growth.trim)
            try:
                for step in last_steps:
                    try:
                        self._with_reserve(step)
                    except OSError as error:
                        self._failure.keep(error)
            except Exception:
                self._finish()
                raise
            self._finish()
            self._failure.check()

    def _take_no_more(self) -> None:
        self._closed = True

    def _finish(self) -> None:
        self._files.close()
        self._queue.clear()
        self._ended = True

    def _sync(self) -> None:
        with noting_lost(self._store_path):
            if self._files.sync():
                sync_node(self._store_path / self.key)

    def _with_reserve(self, step: Callable[[], object]) -> None:
        """Do one of the last steps; on a full disk, in the room that was set aside for the end."""
        try:
            step()
        except OSError as error:
            # What the disk did not confirm, it would confirm when asked again, without having it.
            if error.errno not in FULL or isinstance(error, SyncError):
                raise
            release_reserve(self._store_path, self.key)
            step()

    # ------------------------------------------------------------------ on the workers

    def _store(
        self,
        frame: np.ndarray,
        buffer: np.ndarray | None,
        flat: int,
        number: int,
        time: float,
        **grouped: Any,
    ) -> None:
        self._store_now(frame, buffer, flat, number, time, **grouped)
        self._tell(number)

    def _store_now(
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
        except KeyboardInterrupt:  # none of the disk's: the next frame is as welcome
            raise
        except BaseException as error:
            self._failure.keep(error)
        if buffer is not None:
            self._queue.give_back(buffer)
        if self._flusher is not None:
            self._flusher.stored(self.completed)

    def _tell(self, number: int) -> None:
        if self.notify is not None:
            try:
                self.notify(self.completed)
            except Exception:
                _logger.exception("the notify callback of the sink of %r failed", self.key)
        self._queue.leave(number)

    # ------------------------------------------------------------------ checks and errors

    def _checked(self, frame: npt.ArrayLike) -> Any:
        """The frame as an array, or a scalar of numpy's, that fits."""
        if self._failure.error is not None or self._closed:
            self._check_open()
        array: Any = frame if type(frame) in self._kinds else np.asarray(frame)
        dtype = array.dtype
        # Nearly always it is the very same object, and comparing takes a tenth of a microsecond.
        if array.shape != self._frame_shape or (dtype is not self._dtype and dtype != self._dtype):
            raise self._misfit(array)
        return array

    def _checked_times(
        self, frames: np.ndarray, time: float | Sequence[float] | None
    ) -> npt.NDArray[np.float64]:
        """A time for each frame of a block that fits."""
        self._check_open()
        if frames.shape[1:] != self._frame_shape or frames.dtype != self._dtype or frames.ndim == 0:
            raise self._misfit(frames[0] if frames.ndim and len(frames) else frames)
        return np.broadcast_to(
            np.asarray(_time.time() if time is None else time, np.float64), len(frames)
        )

    @property
    def error(self) -> BaseException | None:
        """What went wrong with a frame after `write` returned; every later call raises it."""
        return self._failure.error

    def _check_open(self) -> None:
        self._failure.check()
        if self._closed:
            raise RuntimeError(
                f"the sink of {self.key!r} is closed and takes no more frames; prepare() a new "
                "store"
            )

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
