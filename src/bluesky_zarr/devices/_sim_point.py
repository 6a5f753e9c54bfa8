"""A point detector that looks at a simulated sample."""

from __future__ import annotations

import asyncio
from typing import Any

from bluesky.protocols import Readable
from ophyd_async.core import (
    AsyncStatus,
    StandardReadable,
    StandardReadableFormat,
    soft_signal_r_and_setter,
    soft_signal_rw,
)

from ._sim_sample import SimSample
from ._sim_view import Place, SampleView

__all__ = ["SimPointDetector"]


class SimPointDetector(StandardReadable):
    """A photodiode in the beam behind the sample: one number for each trigger, with Poisson noise.

    Parameters
    ----------
    sample
        What is looked at; one of its own by default.
    x, y, wavelength
        Devices whose first reading says where it looks when it is triggered.
    exposure
        Counting time at first [s]; later it is the signal ``exposure``.
    seed
        Of the noise.
    name
        Of the device, and of its reading.

    Examples
    --------
    >>> SimPointDetector(name="diode").hints["fields"]
    ['diode']
    """

    def __init__(
        self,
        *,
        sample: SimSample | None = None,
        x: Readable[Any] | None = None,
        y: Readable[Any] | None = None,
        wavelength: Readable[Any] | None = None,
        exposure: float = 0.01,
        seed: int = 0,
        name: str = "",
    ) -> None:
        self._view = SampleView(sample, x, y, wavelength, seed)
        with self.add_children_as_readables(StandardReadableFormat.HINTED_UNCACHED_SIGNAL):
            self.value, self._set_value = soft_signal_r_and_setter(float, 0.0, units="counts")
        with self.add_children_as_readables(StandardReadableFormat.CONFIG_SIGNAL):
            self.exposure = soft_signal_rw(float, exposure, units="s", precision=6)
        super().__init__(name=name)

    @property
    def sample(self) -> SimSample:
        """What is looked at."""
        return self._view.sample

    def set_name(self, name: str, *, child_name_separator: str | None = None) -> None:
        """Name the device, and its one reading like it."""
        super().set_name(name, child_name_separator=child_name_separator)
        self.value.set_name(name)

    def expected(
        self, x: float = 0.0, y: float = 0.0, wavelength: float | None = None, exposure: float = 1.0
    ) -> float:
        """Give the counts of an exposure here, without noise."""
        return self.sample.intensity(x, y, wavelength) * exposure

    @AsyncStatus.wrap
    async def stage(self) -> None:
        """Make the noise begin again, so that a scan gives the same readings each time."""
        await super().stage()
        self._view.reset()

    @AsyncStatus.wrap
    async def trigger(self) -> None:
        """Count for the exposure time."""
        exposure = await self.exposure.get_value()
        if not exposure > 0:
            raise ValueError(f"{self.exposure.name} is {exposure} s; give it a time above 0")
        place: Place = await self._view.where()
        await asyncio.sleep(exposure)
        rng = self._view.rng(place, exposure, self._view.expose(place, exposure))
        mean = self.expected(place.x, place.y, place.wavelength, exposure)
        self._set_value(float(rng.poisson(mean)))
