"""Scalars of frames as readings of events."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from bluesky.protocols import Reading
from event_model import DataKey
from ophyd_async.core import DetectorDataLogic, ReadableDataProvider

from .._scalars import LiveScalar

__all__ = ["ScalarDataLogic"]


class ScalarDataLogic(DetectorDataLogic):
    """Scalars of the last frame as readings of each event of a step scan."""

    def __init__(self, scalars: Sequence[LiveScalar]) -> None:
        self._scalars = tuple(scalars)
        self._values: dict[str, float] = {}
        self._time = 0.0

    def update(self, frame: np.ndarray, now: float) -> None:
        """Compute the scalars of a new frame."""
        self._values = {s.suffix: float(s.compute(frame)) for s in self._scalars}
        self._time = now

    async def prepare_single(self, datakey_name: str) -> ReadableDataProvider:
        """Give the provider of the readings."""
        return _ScalarProvider(self, datakey_name)

    def get_hinted_fields(self, datakey_name: str) -> Sequence[str]:
        """All of them: live tables and plots have something to show."""
        return [f"{datakey_name}-{s.suffix}" for s in self._scalars]

    def data_keys(self, name: str) -> dict[str, DataKey]:
        """One number for each scalar."""
        keys = {}
        for scalar in self._scalars:
            key = DataKey(
                source=f"bluesky-zarr:{name}", dtype="number", shape=[], dtype_numpy="<f8"
            )
            if scalar.units:
                key["units"] = scalar.units
            keys[f"{name}-{scalar.suffix}"] = key
        return keys

    def readings(self, name: str) -> dict[str, Reading]:
        """Of the last frame; NaN before the first."""
        return {
            f"{name}-{s.suffix}": Reading(
                value=self._values.get(s.suffix, float("nan")), timestamp=self._time
            )
            for s in self._scalars
        }


class _ScalarProvider(ReadableDataProvider):
    def __init__(self, logic: ScalarDataLogic, name: str) -> None:
        self._logic = logic
        self._name = name

    async def make_datakeys(self) -> dict[str, DataKey]:
        return self._logic.data_keys(self._name)

    async def make_readings(self) -> dict[str, Reading]:
        return self._logic.readings(self._name)
