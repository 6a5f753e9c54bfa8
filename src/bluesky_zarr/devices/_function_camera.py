"""Frames from a function: the shortest way to a camera of one's own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ophyd_async.core import DetectorTriggerLogic

from bluesky_zarr.store import PathProvider

from ._exposures import ExposureLogic, in_a_thread
from ._source import FrameFormat, FrameSource
from ._writable import WritableDevice

__all__ = ["FunctionCamera", "FunctionSource"]


class FunctionSource(FrameSource):
    """Frames that a function returns, one a call.

    Parameters
    ----------
    function
        Gives one frame. It is called in a thread, so it may take its time.
    format
        What its frames look like.
    """

    def __init__(self, function: Callable[[], np.ndarray], format: FrameFormat) -> None:
        self._function = function
        self._format = format

    async def frame_format(self) -> FrameFormat:
        """What was said when the source was made."""
        return self._format

    async def expose(self) -> np.ndarray:
        """Call the function in a thread, and give its frame."""
        return await in_a_thread(self._function)


class _FunctionTrigger(DetectorTriggerLogic):
    def __init__(self, acquire: ExposureLogic) -> None:
        self._acquire = acquire

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if livetime:
            raise ValueError(
                f"livetime={livetime} was asked for, but a camera made of a function exposes as "
                "long as its function takes; prepare it with livetime=0"
            )
        self._acquire.number = num
        self._acquire.deadtime = deadtime


class FunctionCamera(WritableDevice):
    """A camera that calls a function for each frame.

    Parameters
    ----------
    function
        Gives one frame, an array of `shape` and `dtype`; called in a thread.
    shape
        Of a frame, slowest dimension first.
    dtype
        Of its pixels, ``"uint16"``.
    path_provider
        Says where to write; usually injected by ``storage.inject(camera)``.
    name
        Of the device, and of its array in the store.

    Examples
    --------
    >>> import numpy as np
    >>> cam = FunctionCamera(lambda: np.ones((4, 6), "uint16"), (4, 6), "uint16", name="cam")
    >>> cam.name
    'cam'
    """

    def __init__(
        self,
        function: Callable[[], np.ndarray],
        shape: tuple[int, ...],
        dtype: str,
        path_provider: PathProvider | None = None,
        name: str = "",
    ) -> None:
        self.path_provider = path_provider
        source = FunctionSource(function, FrameFormat(tuple(shape), dtype))
        acquire = ExposureLogic(source, source.expose)
        self.add_detector_logics(_FunctionTrigger(acquire), acquire)
        self.add_frame_source(source)
        super().__init__(name=name)
