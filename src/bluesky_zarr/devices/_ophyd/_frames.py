"""Frames on their way from a source to their place, and the documents that announce them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from bluesky.protocols import StreamAsset
from event_model import DataKey
from ophyd_async.core import (
    DetectorDataLogic,
    StreamableDataProvider,
    TriggerInfo,
    soft_signal_r_and_setter,
)

from bluesky_zarr.store import PathInfo

from .._binding import Binding
from .._cursor import Placement
from .._source import FrameSource
from ._exposure import Exposure
from ._progress import Progress

__all__ = ["FrameDataLogic"]

#: More frames than any scan has: shown by the counter to end a wait that would never end.
_RELEASE = 1 << 60
#: More frames than anybody waits for at once.
_STEP = 1 << 40
#: Seconds between two counts that are shown while a row is flown.
_SHOWN_SECONDS = 0.02
#: Seconds that a pause waits for what is under way; only a `prepare` that hangs takes longer.
_PATIENCE = 10.0

logger = logging.getLogger("bluesky_zarr.devices")


class FrameDataLogic(DetectorDataLogic):
    """Takes frames from a source to their place in the store, and says so in documents.

    Parameters
    ----------
    source
        Where frames come from; its `deliver` is connected to this logic.
    path_info
        Called with the data key's name at each first `prepare()` in a run and stream.
    on_frame
        Called with each good frame of a step scan, before it is written.
    """

    def __init__(
        self,
        source: FrameSource,
        path_info: Callable[[str], PathInfo],
        on_frame: Callable[[np.ndarray, float], None] | None = None,
    ) -> None:
        self.source = source
        source.deliver = self.deliver
        source.deliver_many = self.deliver_many
        source.fail = self._fail
        self._path_info = path_info
        self._on_frame = on_frame
        self._lock = threading.RLock()
        self._opening = asyncio.Lock()
        self._last: tuple[Binding, int] | None = None
        self.pauses = 0
        self.pausing = False
        self._bindings: dict[tuple[str, str], Binding] = {}
        self._binding: Binding | None = None
        self._placement: Placement | None = None
        self._told = False
        self._exposure = Exposure(None, flown=False, told=False)
        self._progress = Progress()
        # Of what was prepared for: how many frames, and the count of frames that came at its
        # beginning. `_row_end` is the count at which `complete` is done.
        self._row = 1
        self._row_begin = 0
        self._row_end = 0
        self._shown_later = False
        self._error: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._datakey = ""
        self.readable_signal, self._set_readable = soft_signal_r_and_setter(int, 0)

    # -- the plan's side ---------------------------------------------------------------------

    def prepared_for(self, trigger_info: TriggerInfo) -> None:
        """Refuse what an array of one frame per position cannot hold, and count from zero."""
        if trigger_info.collections_per_event != 1:
            raise ValueError(
                f"'{self._datakey}' was prepared with collections_per_event="
                f"{trigger_info.collections_per_event}, but one event is one frame in a Zarr "
                "store: use number_of_events, or a scan axis, for several frames per point."
            )
        self._progress.restart()
        self._on_loop(self._show_count)
        self._row = trigger_info.number_of_events
        self._row_begin = self._progress.came
        self._row_end = 0
        self._shown_later = False

    def place(self, placement: Placement) -> None:
        """Say where the next frame, or flown row, belongs."""
        with self._lock:
            if not self._exposure.flown:
                self._forget_pending()
            self._placement = placement
            self._told = True

    def expose(self, *, flown: bool) -> None:
        """A trigger or a kickoff was asked for: whatever is said later, it belongs here."""
        with self._lock:
            if flown and self._exposure.flown and not self._told:
                return  # another part of the row that was prepared for
            self._exposure = Exposure(self._placement, flown, self._told)
            self._told = False
            self._last = None  # a frame of the exposure before is not this one's to take back

    def completes_at(self, count: int) -> None:
        """Somebody waits for this many frames: what is stored in groups is not to wait for more."""
        self._row_end = count
        self._show_count()
        binding = self._exposure.binding
        if binding is not None and not binding.closed and self._progress.came >= count:
            asyncio.get_running_loop().run_in_executor(None, self._flush, binding)

    def _flush(self, binding: Binding) -> None:
        try:
            binding.sink.flush()
        except (OSError, RuntimeError) as error:
            self._fail(error)

    @property
    def collected(self) -> int:
        """How many frames documents have announced since the last count from zero."""
        return self._progress.taken

    @property
    def readable(self) -> int:
        """How many frames can be read, counted like `collected`."""
        return self._progress.readable

    @property
    def collectable(self) -> int:
        """How many of these the next document can reach."""
        return self._progress.collectable

    def flown_to(self, run_uid: str, stream: str) -> int | None:
        """The number of the point behind the last flown row; None if there was none there."""
        exposure = self._exposure
        placement = exposure.placement
        if not exposure.flown or placement is None:
            return None
        if (placement.run_uid, placement.stream) != (run_uid, stream):
            return None
        return placement.index + exposure.taken

    def stream_resource_emitted(self, uid: str) -> None:
        """A StreamResource came out of the RunEngine: it must not be sent again."""
        for binding in self._bindings.values():
            if binding.resource["uid"] == uid:
                binding.announced = True

    def retract(self) -> None:
        """Take back the last exposure's frame: it turned out to belong elsewhere."""
        with self._lock:
            self._exposure.quota = 0
            last, self._last = self._last, None
        if last is not None:
            binding, cell = last
            binding.sink.retract(cell)
            self._forget_pending()

    def sync(self, run_uid: str) -> None:
        """Force what a run wrote so far to disk; blocks."""
        for key, binding in list(self._bindings.items()):
            if key[0] == run_uid and not binding.closed:
                binding.sink.drain()
                binding.sink.sync()

    def retire(self, run_uid: str) -> None:
        """Write out and close what belongs to a run that ends; late frames are refused."""
        with self._lock:
            mine = {key: b for key, b in self._bindings.items() if key[0] == run_uid}
            if self._exposure.binding in mine.values():
                self._exposure.quota = 0
            self._forget_pending()
        errors: list[BaseException] = []
        for key, binding in mine.items():
            try:
                self._close(binding)
            except (OSError, ValueError, RuntimeError) as error:
                errors.append(error)
            del self._bindings[key]
        if errors:
            raise errors[0]

    def _close(self, binding: Binding) -> None:
        binding.closed = True
        try:
            binding.sink.close()
        finally:
            binding.sink.notify = None

    # -- ophyd-async's side ------------------------------------------------------------------

    async def prepare_unbounded(self, datakey_name: str) -> StreamableDataProvider:
        """Open the store, and give the provider of its documents."""
        self._datakey = datakey_name
        self._loop = asyncio.get_running_loop()
        await self.bind(self._placement)
        return _StreamProvider(self)

    async def stop(self) -> None:
        """Refuse frames from now on, and wait for those under way.

        Without a session nobody says when a run is over: the array is closed with the stage.
        """
        self._exposure.quota = 0
        binding = self._exposure.binding or self._binding
        if binding is None or binding.closed:
            return
        if binding.info.run_uid:
            await asyncio.to_thread(binding.sink.drain)
        else:
            await asyncio.to_thread(self.retire, "")

    async def bind(self, placement: Placement | None) -> Binding:
        """Open the array for a run and stream, where it is not open yet."""
        key = (placement.run_uid, placement.stream) if placement else ("", "")
        # A trigger that a pause cut off may still be opening it when the next one asks.
        async with self._opening:
            binding = self._bindings.get(key)
            if binding is None:
                # Asked even without a placement: the provider knows best why there is no path.
                info = self._path_info(self._datakey)
                format = await self.source.frame_format()
                binding = await asyncio.to_thread(
                    Binding.open, self._datakey, info, format, self._row
                )
                binding.sink.notify = lambda completed, b=binding: self._written(b)
                self._bindings[key] = binding
        self._binding = binding
        return binding

    async def start(self) -> None:
        """Get ready for the frames that the next start of the acquisition brings."""
        exposure = self._exposure
        self._raise_error()
        binding = await self.bind(exposure.placement)
        if binding.info.run_uid and not exposure.told:
            raise RuntimeError(
                f"Nobody said where the next frame of '{self._datakey}' belongs: it was "
                "triggered by something that the session does not see, a baseline perhaps. "
                "Take it out of there, and read it in the plan: after "
                "bluesky_zarr.plans.place(stream, index), index from 0."
            )
        with self._lock:
            exposure.binding = binding
            exposure.quota = 1
            if exposure.flown:
                exposure.quota = self._row_begin + self._row - self._progress.came

    async def finish(self) -> None:
        """Raise what went wrong since the start; called when the wait for frames is over."""
        self._raise_error()
        binding = self._exposure.binding
        if binding is not None and not binding.closed and binding.sink.error is not None:
            await asyncio.to_thread(binding.sink.drain)

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            self._show_count()
            raise error

    async def pause(
        self, stop_acquiring: Callable[[], Any], under_way: Callable[[], Iterable[Any]]
    ) -> None:
        """Stop the exposure under way and end the wait for it: the RunEngine will repeat it.

        `under_way` gives the statuses that are not done; all of them are when this returns.
        """
        self._exposure.quota = 0
        self.pauses += 1
        self.pausing = True
        try:
            await stop_acquiring()
            await self._release(under_way)
        finally:
            self.pausing = False
        binding = self._exposure.binding
        if binding is not None and not binding.closed:
            await asyncio.to_thread(binding.sink.drain)
            if not binding.info.run_uid:
                self._rewind(binding)
        with self._lock:
            self._forget_pending()
        self._show_count()

    async def _release(self, under_way: Callable[[], Iterable[Any]]) -> None:
        shown = _RELEASE
        deadline = time.monotonic() + _PATIENCE
        while any(not status.done for status in under_way()):
            if time.monotonic() > deadline:
                logger.warning(
                    "'%s' is not done %.0f s after the pause; going on",
                    self._datakey,
                    _PATIENCE,
                )
                return
            # A trigger may be on its way to the counter still, and wait for more than it shows.
            self._set_readable(shown)
            shown += _STEP
            await asyncio.sleep(0.001)

    def _rewind(self, binding: Binding) -> None:
        # Without a session nobody repeats a placement: what was not announced is taken again.
        binding.next -= self._progress.unannounced
        if binding.offered:
            binding.recompose()

    # -- the source's side, any thread -------------------------------------------------------

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
            binding.sink.write(frame, cells[0], copy=not self.source.fresh_frames, time=now)
            self._end_row(exposure, binding, before)
        self._last = binding, cells[0]

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
        self._last = binding, cells[-1]

    def _expect(self, number: int) -> tuple[Exposure, Binding, Sequence[int], int]:
        """Count frames that have come, and find their cells; how many came before them."""
        with self._lock:
            exposure = self._exposure
            binding = exposure.binding
            if binding is None or binding.closed or exposure.quota < number:
                # No error of the next point's: a camera that is being stopped may be late.
                raise RuntimeError(
                    f"'{self._datakey}' delivered {_frames(number)} that nobody asked for: not "
                    "stored. Trigger or kick off the detector first, and deliver one frame "
                    "per exposure."
                )
            exposure.quota -= number
            try:
                cells = exposure.cells(binding, number)
            except IndexError as error:  # more frames than the scan has points
                self._fail(error)
                raise
            exposure.taken += number
            binding.next += number
            came = self._progress.add(binding, cells)
            return exposure, binding, cells, came - number

    def _end_row(self, exposure: Exposure, binding: Binding, before: int) -> None:
        # Looked at when the frame is in its group: `completes_at` flushes what was there before.
        if not exposure.flown or before < self._row_end <= self._progress.came:
            binding.sink.flush()

    @contextlib.contextmanager
    def _storing(self, binding: Binding, cells: Sequence[int]) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._progress.withdraw(binding, cells)
            if not binding.closed:  # no error of the next run's
                self._fail(error)
            raise

    def _written(self, binding: Binding) -> None:
        error = binding.sink.error
        if error is not None:
            self._fail(error)
            return
        self._progress.written(binding)
        if not self._exposure.flown or self._progress.readable >= self._row_end > 0:
            self._on_loop(self._show_count)
        elif not self._shown_later:
            self._shown_later = True
            self._on_loop(self._show_count_later)

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self._on_loop(lambda: self._set_readable(_RELEASE))

    def _on_loop(self, function: Callable[[], None]) -> None:
        # Soft signals may be set on the event loop's thread only.
        if self._loop is not None and self._loop is _running_loop():
            function()
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def _show_count(self) -> None:
        self._shown_later = False
        # An error that nobody has heard of has to end the wait that comes next, as well.
        self._set_readable(_RELEASE if self._error is not None else self._progress.readable)

    def _show_count_later(self) -> None:
        # Each count that is shown costs the event loop as much as a small frame costs its workers.
        asyncio.get_running_loop().call_later(_SHOWN_SECONDS, self._show_count)

    def _forget_pending(self) -> None:
        if self._progress.forget():
            self._on_loop(self._show_count)

    # -- documents ---------------------------------------------------------------------------

    def data_keys(self) -> dict[str, DataKey]:
        """What an event of the present array holds: one frame."""
        binding = self._binding
        if binding is None:
            raise RuntimeError(f"'{self._datakey}' is described before prepare() opened its array.")
        return {self._datakey: binding.data_key()}

    def take_documents(self, frames: int) -> list[StreamAsset]:
        """Documents of the frames up to the `frames`-th that were not taken yet.

        One StreamDatum at most: the longest run of neighbours, whose `indices` are C-order
        positions in the array. A row flown backwards is one range as well, once it is whole.
        """
        with self._lock:
            found = self._progress.take(frames)
            if found is None:
                return []
            binding, cells = found
            documents: list[StreamAsset] = []
            if not binding.announced:
                documents.append(("stream_resource", binding.resource))
                binding.offered = True
                # A session reports what came out of the RunEngine; without one, once is enough.
                binding.announced = not binding.info.run_uid
            documents.append(("stream_datum", binding.datum(cells)))
            return documents


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _frames(number: int) -> str:
    return "a frame" if number == 1 else f"{number} frames"


class _StreamProvider(StreamableDataProvider):
    """ophyd-async's view of the frames: a counter, a description, documents."""

    def __init__(self, logic: FrameDataLogic) -> None:
        self._logic = logic
        self.collections_written_signal = logic.readable_signal

    async def make_datakeys(self, collections_per_event: int) -> dict[str, DataKey]:
        return self._logic.data_keys()

    async def make_stream_docs(
        self, collections_written: int, collections_per_event: int
    ) -> AsyncIterator[StreamAsset]:
        for document in self._logic.take_documents(collections_written):
            yield document
