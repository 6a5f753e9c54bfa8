"""What axes and pictures are called: names with units, places in a scan."""

from __future__ import annotations

from collections.abc import Hashable, Mapping

from xarray import Dataset

__all__ = ["label_of", "place_of"]


def label_of(data: Dataset, name: Hashable) -> str:
    """A name with its units, where there are any.

    >>> label_of(Dataset({"x": ("x", [1.0], {"units": "mm"})}), "x")
    'x [mm]'
    """
    units = data[name].attrs.get("units") if name in data.variables else None
    return f"{name} [{units}]" if units else str(name)


def place_of(data: Dataset, index: Mapping[Hashable, int]) -> str:
    """Where in the scan something is: its setpoints, or its number along a dim that has none.

    >>> place_of(Dataset({"x": ("x", [1.0, 1.5], {"units": "mm"})}), {"x": 1, "event": 4})
    'x = 1.5 mm, event 4'
    """
    parts = []
    for dim, number in index.items():
        along = [
            name
            for name, values in data.variables.items()
            if values.dims == (dim,) and (name == dim or values.attrs.get("role") == "setpoint")
        ]
        for name in along:
            units = data[name].attrs.get("units", "")
            parts.append(f"{name} = {float(data[name][number]):.4g} {units}".rstrip())
        if not along:
            parts.append(f"{dim} {number}")
    return ", ".join(parts)
