"""A camera that looks at a simulated sample through simulated motors."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from bluesky.protocols import Readable
from ophyd_async.core import DetectorTriggerLogic, SignalRW, soft_signal_rw

from bluesky_zarr.store import PathProvider

from ._exposures import ExposureLogic, in_a_thread
from ._sim_sample import SimSample
from ._sim_view import Place, SampleView
from ._source import FrameFormat, FrameSource
from ._writable import WritableDevice

__all__ = ["SimCamera"]


class _SimSource(FrameSource):
    fresh_frames = True

    def __init__(self, shape: tuple[int, int]) -> None:
        self._format = FrameFormat(shape, "uint16", ("y", "x"), units="counts")

    async def frame_format(self) -> FrameFormat:
        return self._format


class _SimTrigger(DetectorTriggerLogic):
    def __init__(self, exposure: SignalRW[float], acquire: ExposureLogic) -> None:
        self._exposure = exposure
        self._acquire = acquire

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        if livetime:
            await self._exposure.set(livetime)
        exposure = await self._exposure.get_value()
        if not exposure > 0:
            raise ValueError(f"{self._exposure.name} is {exposure} s; give it a time above 0")
        self._acquire.number = num
        self._acquire.deadtime = deadtime


class SimCamera(WritableDevice):
    """A camera that sees a sample: where its motors stand, at a wavelength, for an exposure time.

    Frames are uint16 counts with Poisson noise, which ends at 65535 as a real camera's do. The same
    scan gives the same frames each time it is staged, whatever its order: see `render`.

    Parameters
    ----------
    shape
        Rows and columns of a frame.
    path_provider
        Says where to write; usually injected by ``storage.inject(camera)``.
    sample
        What is looked at; one of its own by default.
    x, y, wavelength
        Devices whose first reading says where the camera looks when an exposure starts. Without
        them it looks at the middle of the sample, in white light.
    exposure
        Exposure time at first [s]; later it is the signal ``exposure``.
    field_of_view
        Width of a frame on the sample [mm].
    seed
        Of the noise.
    name
        Of the device, and of its array in the store.

    Raises
    ------
    ValueError
        When the shape is not that of an image.

    Examples
    --------
    >>> camera = SimCamera((32, 48), name="cam")
    >>> frame = camera.render(x=0.2, y=0.0)
    >>> frame.shape, frame.dtype.name
    ((32, 48), 'uint16')
    """

    def __init__(
        self,
        shape: tuple[int, int] = (256, 256),
        *,
        path_provider: PathProvider | None = None,
        sample: SimSample | None = None,
        x: Readable[Any] | None = None,
        y: Readable[Any] | None = None,
        wavelength: Readable[Any] | None = None,
        exposure: float = 0.01,
        field_of_view: float = 0.5,
        seed: int = 0,
        name: str = "",
    ) -> None:
        if len(shape) != 2 or min(shape) < 1:
            raise ValueError(f"shape {shape} is not that of an image; give (rows, columns)")
        self.path_provider = path_provider
        self.shape = (int(shape[0]), int(shape[1]))
        self.field_of_view = field_of_view
        self._view = SampleView(sample, x, y, wavelength, seed)
        self._first_exposure = exposure
        self.exposure = soft_signal_rw(float, exposure, units="s", precision=6)
        source = _SimSource(self.shape)
        acquire = ExposureLogic(source, self._expose, self._view.reset)
        self.add_detector_logics(_SimTrigger(self.exposure, acquire), acquire)
        self.add_config_signals(self.exposure)
        self.add_frame_source(source)
        super().__init__(name=name)

    @property
    def sample(self) -> SimSample:
        """What is looked at."""
        return self._view.sample

    def render(
        self,
        x: float = 0.0,
        y: float = 0.0,
        wavelength: float | None = None,
        exposure: float | None = None,
        repeat: int = 0,
    ) -> np.ndarray:
        """Give the frame that an exposure here takes, uint16 of the camera's shape.

        Parameters
        ----------
        x, y, wavelength
            Where the camera looks, as in `SimSample.expected`.
        exposure
            Exposure time [s], by default the one that the camera was made with.
        repeat
            How often this place was exposed before since the camera was staged: two exposures of
            one place have different noise.
        """
        time = self._first_exposure if exposure is None else exposure
        return self._render(Place(x, y, wavelength), time, repeat)

    def _render(self, place: Place, exposure: float, repeat: int) -> np.ndarray:
        rate = self.sample.expected(
            place.x,
            place.y,
            place.wavelength,
            shape=self.shape,
            field_of_view=self.field_of_view,
        )
        counts = self._view.rng(place, exposure, repeat).poisson(rate * exposure)
        return np.minimum(counts, np.iinfo("uint16").max).astype("uint16")

    async def _expose(self) -> np.ndarray:
        exposure = await self.exposure.get_value()
        place = await self._view.where()
        await asyncio.sleep(exposure)
        repeat = self._view.expose(place, exposure)
        return await in_a_thread(self._render, place, exposure, repeat)
