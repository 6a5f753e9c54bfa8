"""Which arrays a device's frames go to, and the documents that announce them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any

import numpy as np
from bluesky.protocols import StreamAsset
from event_model import DataKey
from ophyd_async.core import (
    DetectorDataLogic,
    SignalR,
    StreamableDataProvider,
    TriggerInfo,
)

from bluesky_zarr.store import PathInfo

from .._binding import Binding
from .._cursor import Placement
from .._source import FrameSource
from ._counter import Counter
from ._exposure import Exposure
from ._intake import Intake
from ._progress import Progress

__all__ = ["FrameDataLogic"]


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
        self._path_info = path_info
        self._progress = Progress()
        self._counter = Counter(self._progress)
        self._intake = Intake(source, on_frame, self._progress, self._counter)
        self._opening = asyncio.Lock()
        self.pauses = 0
        self.pausing = False
        self._bindings: dict[tuple[str, str], Binding] = {}
        self._binding: Binding | None = None
        self._placement: Placement | None = None
        self._told = False
        # Of what was prepared for: how many frames, and the count of frames that came at its
        # beginning.
        self._row = 1
        self._row_begin = 0
        self._datakey = ""

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
        self._counter.show()
        self._row = trigger_info.number_of_events
        self._row_begin = self._progress.came
        self._intake.row_end = 0

    def place(self, placement: Placement) -> None:
        """Say where the next frame, or flown row, belongs."""
        with self._intake.lock:
            if not self._intake.exposure.flown:
                self._forget_pending()
            self._placement = placement
            self._told = True

    def expose(self, *, flown: bool) -> None:
        """A trigger or a kickoff was asked for: whatever is said later, it belongs here."""
        with self._intake.lock:
            if flown and self._intake.exposure.flown and not self._told:
                return  # another part of the row that was prepared for
            self._intake.exposure = Exposure(self._placement, flown, self._told)
            self._told = False
            # A frame of the exposure before is not this one's to take back.
            self._intake.last = None

    def completes_at(self, count: int) -> None:
        """Somebody waits for this many frames: what is stored in groups is not to wait for more."""
        self._intake.row_end = count
        self._counter.show()
        binding = self._intake.exposure.binding
        if binding is not None and not binding.closed and self._progress.came >= count:
            asyncio.get_running_loop().run_in_executor(None, self._intake.flush, binding)

    @property
    def readable_signal(self) -> SignalR[int]:
        """What ophyd-async waits for."""
        return self._counter.signal

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
        exposure = self._intake.exposure
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
        with self._intake.lock:
            self._intake.exposure.quota = 0
            last, self._intake.last = self._intake.last, None
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
        with self._intake.lock:
            mine = {key: b for key, b in self._bindings.items() if key[0] == run_uid}
            if self._intake.exposure.binding in mine.values():
                self._intake.exposure.quota = 0
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
        self._intake.name = datakey_name
        self._counter.connect()
        await self.bind(self._placement)
        return _StreamProvider(self)

    async def stop(self) -> None:
        """Refuse frames from now on, and wait for those under way.

        Without a session nobody says when a run is over: the array is closed with the stage.
        """
        self._intake.exposure.quota = 0
        binding = self._intake.exposure.binding or self._binding
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
                binding.sink.notify = lambda completed, b=binding: self._intake.written(b)
                self._bindings[key] = binding
        self._binding = binding
        return binding

    async def start(self) -> None:
        """Get ready for the frames that the next start of the acquisition brings."""
        exposure = self._intake.exposure
        self._counter.raise_error()
        for late in self._progress.late:
            if not late.closed:
                await asyncio.to_thread(late.sink.drain)
            self._progress.drained(late)
        binding = await self.bind(exposure.placement)
        if binding.info.run_uid and not exposure.told:
            raise RuntimeError(
                f"Nobody said where the next frame of '{self._datakey}' belongs: it was "
                "triggered by something that the session does not see, a baseline perhaps. "
                "Take it out of there, and read it in the plan: after "
                "bluesky_zarr.plans.place(stream, index), index from 0."
            )
        with self._intake.lock:
            exposure.binding = binding
            exposure.quota = 1
            if exposure.flown:
                exposure.quota = self._row_begin + self._row - self._progress.came

    async def finish(self) -> None:
        """Raise what went wrong since the start; called when the wait for frames is over."""
        self._counter.raise_error()
        binding = self._intake.exposure.binding
        if binding is not None and not binding.closed and binding.sink.error is not None:
            await asyncio.to_thread(binding.sink.drain)

    async def pause(
        self, stop_acquiring: Callable[[], Any], under_way: Callable[[], Iterable[Any]]
    ) -> None:
        """Stop the exposure under way and end the wait for it: the RunEngine will repeat it.

        `under_way` gives the statuses that are not done; all of them are when this returns.
        """
        self._intake.exposure.quota = 0
        self.pauses += 1
        self.pausing = True
        try:
            await stop_acquiring()
            await self._counter.release(under_way, self._datakey)
        finally:
            self.pausing = False
        binding = self._intake.exposure.binding
        if binding is not None and not binding.closed:
            await asyncio.to_thread(binding.sink.drain)
            if not binding.info.run_uid:
                self._rewind(binding)
        with self._intake.lock:
            self._forget_pending()
        self._counter.show()

    def _rewind(self, binding: Binding) -> None:
        # Without a session nobody repeats a placement: what was not announced is taken again.
        binding.next -= self._progress.unannounced
        if binding.offered:
            binding.recompose()

    def _forget_pending(self) -> None:
        if self._progress.forget():
            self._counter.show()

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
        with self._intake.lock:
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
