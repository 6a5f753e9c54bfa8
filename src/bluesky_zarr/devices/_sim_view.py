"""What simulated detectors share: looking at a sample through motors, and noise that repeats."""

from __future__ import annotations

from collections import Counter
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np
from bluesky.protocols import Readable
from bluesky.utils import maybe_await

from ._sim_sample import SimSample

__all__ = ["Place", "SampleView"]


@dataclass(frozen=True)
class Place:
    """Where a detector looks: position on the sample [mm], place in the spectrum if it has one."""

    x: float = 0.0
    y: float = 0.0
    wavelength: float | None = None


class SampleView:
    """A sample seen through motors.

    Noise depends on the seed, the place, the exposure time and how often this place was exposed
    before since the last `reset`, and on nothing else. So a scan gives the same frames
    each time, whatever its order, and yet two exposures of one place are not alike.
    """

    def __init__(
        self,
        sample: SimSample | None,
        x: Readable[Any] | None,
        y: Readable[Any] | None,
        wavelength: Readable[Any] | None,
        seed: int,
    ) -> None:
        self.sample = sample if sample is not None else SimSample()
        self._axes = {"x": x, "y": y, "wavelength": wavelength}
        self._seed = seed
        self._exposed: Counter[tuple[int, ...]] = Counter()

    def reset(self) -> None:
        """Forget which places were exposed."""
        self._exposed.clear()

    async def where(self) -> Place:
        """Read the motors: the value of each one's first reading."""
        values: dict[str, float] = {}
        for axis, device in self._axes.items():
            if device is not None:
                readings = await maybe_await(device.read())
                values[axis] = float(next(iter(readings.values()))["value"])
        return Place(**values)

    def expose(self, place: Place, exposure: float) -> int:
        """Count one exposure of a place; gives how many there were before."""
        key = _key(place, exposure)
        repeat = self._exposed[key]
        self._exposed[key] += 1
        return repeat

    def rng(self, place: Place, exposure: float, repeat: int) -> np.random.Generator:
        """Give the noise of one exposure."""
        return np.random.default_rng([self._seed, *_key(place, exposure), repeat])


def _key(place: Place, exposure: float) -> tuple[int, ...]:
    numbers = [np.nan if value is None else value for value in (*astuple(place), exposure)]
    # Rounded, and -0.0 made 0.0: motors come back to a place with the last bit changed.
    return tuple((np.round(numbers, 9) + 0.0).view("uint64").tolist())
