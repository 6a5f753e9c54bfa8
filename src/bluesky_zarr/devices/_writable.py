"""The mixin that makes a detector write its own Zarr arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from ophyd_async.core import (
    DEFAULT_TIMEOUT,
    AsyncStatus,
    DetectorTrigger,
    DeviceMock,
    StandardDetector,
    TriggerInfo,
    WatchableAsyncStatus,
)

from bluesky_zarr.store import PathInfo, PathProvider, store_uri

from ._cursor import Placement
from ._ophyd import AcquireGuard, FrameDataLogic, ScalarDataLogic
from ._scalars import DEFAULT_SCALARS, LiveScalar
from ._source import FrameSource

__all__ = ["WritableDevice"]

_Status = TypeVar("_Status", AsyncStatus, WatchableAsyncStatus[int])


class WritableDevice(StandardDetector):
    """An ophyd-async detector that writes its frames into a Zarr v3 store at `prepare()` time.

    A camera is this class with a frame source and ophyd-async's own trigger and acquire logic;
    nothing about Zarr is in it. It works in any bluesky plan, step or fly.

    Attributes
    ----------
    path_provider
        Says where to write, when asked with the device's name: ours or any of ophyd-async's.
        Injected by ``storage.inject(device)``, or given by hand.

    Examples
    --------
    A camera whose frames come from a function:

    >>> import numpy as np
    >>> from bluesky_zarr.devices import FunctionCamera
    >>> cam = FunctionCamera(lambda: np.ones((4, 6), "uint16"), (4, 6), "uint16", name="cam")
    >>> cam.hints["fields"]
    ['cam-sum', 'cam-max', 'cam-centroid_x', 'cam-centroid_y']
    """

    path_provider: PathProvider | None = None
    _frames: FrameDataLogic | None = None
    _connected = False
    #: Whether frames may come from `prepare` on, as they do with external triggers.
    armed_by_prepare = False
    _under_way: Sequence[AsyncStatus | WatchableAsyncStatus[int]] = ()

    def add_frame_source(
        self, source: FrameSource, *, scalars: Sequence[LiveScalar] = DEFAULT_SCALARS
    ) -> None:
        """Store the frames of `source`, and give `scalars` of each as hinted readings.

        Call it once in `__init__`, after `add_detector_logics` and before ``super().__init__``.
        """
        if self._frames is not None:
            raise RuntimeError(
                f"{type(self).__name__} has a frame source already: call add_frame_source once."
            )
        readings = ScalarDataLogic(scalars) if scalars else None
        self._frames = FrameDataLogic(
            source, self._path_info, None if readings is None else readings.update
        )
        self._acquire_logic = AcquireGuard(self._frames, self._acquire_logic)
        self.add_detector_logics(self._frames, *([readings] if readings else []))

    def _logic(self) -> FrameDataLogic:
        if self._frames is None:
            raise RuntimeError(
                f"'{self.name}' has no frame source: call self.add_frame_source(source) in the "
                f"__init__ of {type(self).__name__}, before super().__init__."
            )
        return self._frames

    def _path_info(self, name: str) -> PathInfo:
        if self.path_provider is None:
            raise RuntimeError(
                f"'{self.name}' does not know where to write: no path_provider was injected. Call "
                f"storage.inject({self.name or 'device'}), or give one: "
                f"{type(self).__name__}(..., path_provider=storage.path_provider)."
            )
        found: Any = self.path_provider(name)
        if isinstance(found, PathInfo):
            return found
        if hasattr(found, "directory_path") and hasattr(found, "filename"):
            return PathInfo(
                store_uri=store_uri(f"{found.directory_path}/{found.filename}.zarr"),
                array_key=name,
            )
        raise TypeError(
            f"The path_provider of '{self.name}' gave {found!r}; expected a bluesky_zarr.PathInfo "
            "or an ophyd_async.core.PathInfo."
        )

    async def connect(
        self,
        mock: bool | DeviceMock = False,
        timeout: float = DEFAULT_TIMEOUT,
        force_reconnect: bool = False,
    ) -> None:
        """Connect the device and its signals; `init_devices` calls this."""
        await super().connect(mock, timeout, force_reconnect)
        self._connected = True

    def prepare(self, value: TriggerInfo) -> AsyncStatus:
        """Set up triggers, and open the array that the next frames go to.

        Raises
        ------
        RuntimeError
            Before the device is connected; without a path provider; outside of a run, when a
            session places the frames.
        ValueError
            For more than one collection per event.
        """
        if not self._connected:
            raise RuntimeError(
                f"'{self.name}' is not connected: make it inside of `with init_devices():`, or "
                "connect it with RE(ophyd_async.plan_stubs.ensure_connected(device))."
            )
        self._logic().prepared_for(value)
        self.armed_by_prepare = value.trigger is not DetectorTrigger.INTERNAL
        if self.armed_by_prepare:
            self._logic().expose(flown=True)
        return self._track(super().prepare(value))

    def trigger(self) -> WatchableAsyncStatus[int]:
        """Take one frame; done when it can be read from the store."""
        self._logic().expose(flown=False)
        return self._track(super().trigger())

    def kickoff(self) -> AsyncStatus:
        """Start to take the frames that were prepared for."""
        if not self.armed_by_prepare:
            self._logic().expose(flown=True)
        return self._track(super().kickoff())

    def complete(self) -> WatchableAsyncStatus[int]:
        """Wait until all of these frames can be read from the store."""
        if (flight := self._kickoff_ctx) is not None:
            self._logic().completes_at(flight.collections_written + flight.collections_requested)
        return self._track(super().complete())

    async def get_index(self) -> int:
        """How far the next StreamDatum can go; asked by the RunEngine when it collects."""
        return min(await super().get_index(), self._logic().collectable)

    @property
    def collected(self) -> int:
        """How many of the frames that were prepared for StreamDatums have announced."""
        return self._logic().collected

    @property
    def readable(self) -> int:
        """How many of them can be read from the store."""
        return self._logic().readable

    def _track(self, status: _Status) -> _Status:
        # A pause has to end what is under way: the RunEngine asks for all of it again.
        self._under_way = [*(s for s in self._under_way if not s.done), status]
        return status

    async def frame_bytes(self) -> int:
        """Bytes of one frame as the source describes it now, uncompressed; 0 without a source."""
        if self._frames is None:
            return 0
        format = await self._frames.source.frame_format()
        return math.prod(format.shape) * np.dtype(format.dtype).itemsize

    def flown_to(self, run_uid: str, stream: str) -> int | None:
        """The number of the point behind the last flown row in a stream; None before the first."""
        return self._logic().flown_to(run_uid, stream)

    def place(self, placement: Placement) -> None:
        """Take the position of the next frame. The session calls this, through its cursor."""
        self._logic().place(placement)

    def retract(self) -> None:
        """Take back the frame at the present position: it belongs to another stream."""
        self._logic().retract()

    def stream_resource_emitted(self, uid: str) -> None:
        """Note that a StreamResource came out of the RunEngine."""
        self._logic().stream_resource_emitted(uid)

    def sync(self, run_uid: str) -> None:
        """Force what this device wrote in a run to disk; blocks.

        Raises
        ------
        OSError
            When frames could not be written.
        """
        self._logic().sync(run_uid)

    def retire(self, run_uid: str) -> None:
        """Close what this device wrote in a run. The session calls this when the run stops.

        Raises
        ------
        OSError
            When frames could not be written; what was written before stays readable.
        """
        self._logic().retire(run_uid)

    async def pause(self) -> None:
        """Stop the exposure under way; the RunEngine repeats it after the pause."""
        if self._acquire_logic is not None:
            await self._logic().pause(
                self._acquire_logic.ensure_stopped, lambda: list(self._under_way)
            )

    async def resume(self) -> None:
        """Nothing to do: placements and triggers are repeated by the RunEngine."""
