"""A stream as pictures see it: which dims are the scan's, what was measured, what can be drawn."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from xarray import Dataset, DataTree

__all__ = ["Scan", "scan_of"]

#: Numbers of events that say nothing about what was measured.
_COUNTS = ("seq_num", "scan_index", "time")


@dataclass(frozen=True)
class Scan:
    """The dims of a scan, slowest first, and where in it something was measured (bool)."""

    data: Dataset
    dims: tuple[Hashable, ...]
    measured: npt.NDArray[np.bool_]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many positions there are along each dim."""
        return self.measured.shape

    @property
    def signals(self) -> list[str]:
        """Numbers that were read at each position; sums and point detectors first."""
        found = [
            str(name)
            for name, values in self.data.data_vars.items()
            if values.dims == self.dims
            and values.dtype.kind in "iufb"
            and name not in _COUNTS
            and not str(name).endswith("_written")
            # Setpoints over the order of events are where it was measured, not what.
            and values.attrs.get("role") != "setpoint"
        ]
        return sorted(found, key=lambda name: "-" in name and not name.endswith("-sum"))

    @property
    def frames(self) -> list[str]:
        """What cameras took: arrays with dims of their own after the scan's."""
        depth = len(self.dims)
        return [
            str(name)
            for name, values in self.data.data_vars.items()
            if values.dims[:depth] == self.dims
            and values.ndim > depth
            and values.dtype.kind in "iufb"
        ]

    def axes_along(self, dim: Hashable) -> list[str]:
        """The setpoints along a dim: its own, or those of all that moved along it."""
        return [
            str(name)
            for name, values in self.data.variables.items()
            if values.dims == (dim,)
            and values.dtype.kind in "iuf"
            and (name == dim or values.attrs.get("role") == "setpoint")
        ]


def scan_of(run: Any, path: str) -> Scan:
    """The scan of a stream; of a whole run, that of `primary` or else of its first stream.

    Raises
    ------
    ValueError
        When nothing in there is a scan.
    """
    if isinstance(run, DataTree):
        names = sorted(run.children, key=lambda name: name != "primary")
        candidates = [run.to_dataset(), *(run[name].to_dataset() for name in names)]
    else:
        candidates = [run]
    for data in candidates:
        dims = _scan_dims(data)
        if dims is not None:
            return Scan(data, dims, _measured(data, dims))
    raise ValueError(
        f"{path} holds no scan to draw: no stream in it has 'seq_num' or '..._written'. "
        "Look at what it holds with 'bluesky-zarr inspect'."
    )


def _counts(data: Dataset) -> list[Hashable]:
    return [
        name
        for name in data.variables
        if name == "seq_num" or (str(name).endswith("_written") and str(name)[:-8] in data)
    ]


def _scan_dims(data: Dataset) -> tuple[Hashable, ...] | None:
    counts = _counts(data)
    return data[counts[-1]].dims if counts else None


def _measured(data: Dataset, dims: tuple[Hashable, ...]) -> npt.NDArray[np.bool_]:
    """Where there was an event or a frame."""
    found = np.zeros(tuple(data.sizes[dim] for dim in dims), dtype=bool)
    for name in _counts(data):
        if data[name].dims == dims:
            found |= np.asarray(data[name]) > 0
    return found
