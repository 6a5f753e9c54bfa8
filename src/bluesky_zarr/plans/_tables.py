"""Rows that a plan writes itself: its decisions, and the peaks that it found."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bluesky.protocols import Reading
from bluesky.utils import Msg, MsgGenerator, maybe_await
from event_model import DataKey, Dtype

from bluesky_zarr.peaks import Peak

from ._place import place

__all__ = ["Row", "decision_row", "peak_rows", "units_of", "write_row"]

_KINDS: dict[type, Dtype] = {bool: "boolean", int: "integer", float: "number", str: "string"}


class Row:
    """A device whose reading is one row of a table: numbers and texts by name.

    Parameters
    ----------
    name
        The stream, and the device.
    values
        The first row; all rows have the same names and types.
    units
        Of each column, a text or a device whose first reading has them.
    """

    parent = None

    def __init__(
        self, name: str, values: Mapping[str, Any], units: Mapping[str, Any] | None = None
    ) -> None:
        self.name = name
        self.values = dict(values)
        self._units = dict(units or {})

    def read(self) -> dict[str, Reading]:
        """The row."""
        now = time.time()
        return {name: Reading(value=value, timestamp=now) for name, value in self.values.items()}

    async def describe(self) -> dict[str, DataKey]:
        """One key for each column."""
        keys: dict[str, DataKey] = {}
        for name, value in self.values.items():
            key = DataKey(source="bluesky-zarr:plan", dtype=_KINDS[type(value)], shape=[])
            units = self._units.get(name, "")
            if not isinstance(units, str):
                described = await maybe_await(units.describe())
                units = next(iter(described.values())).get("units")
            if units:
                key["units"] = units
            keys[name] = key
        return keys


def write_row(row: Row, number: int) -> MsgGenerator[None]:
    """Take one event of the row's stream."""
    yield Msg("checkpoint")
    yield from place(row.name, number)
    yield Msg("create", name=row.name)
    yield Msg("read", row)
    yield Msg("save")


def decision_row(
    axes: Sequence[str],
    peak: Peak | None,
    *,
    signal: str,
    passes: int,
    fired: str,
    action: str,
    approved: bool,
    by: str,
    why: str = "",
) -> dict[str, Any]:
    """One decision: what fired, on which peak, what was done, and who said so."""
    return {
        "signal": signal,
        "passes": passes,
        "fired": fired,
        **_numbers(axes, peak),
        "action": action,
        "approved": approved,
        "approved_by": by,
        "why": why,
    }


def peak_rows(axes: Sequence[str], peaks: Sequence[Peak]) -> list[dict[str, Any]]:
    """The peaks of a search, one row each."""
    return [
        {
            **_numbers(axes, peak),
            "prominence": float(peak.prominence),
            "background": float(peak.background),
            "chi_squared": float(peak.chi_squared),
            "shape": peak.shape,
            "mixing": float(peak.mixing),
            "resolved": bool(peak.resolved),
            "note": peak.note,
        }
        for peak in peaks
    ]


def units_of(axes: Sequence[str], motors: Mapping[str, Any]) -> dict[str, Any]:
    """The motor whose units each column has."""
    return {
        column(field + suffix, axis, axes): motors[axis]
        for field in ("center", "fwhm")
        for suffix in ("", "_error")
        for axis in axes
    }


def _numbers(axes: Sequence[str], peak: Peak | None) -> dict[str, float]:
    """Centre, width and height with their errors; over several axes each has the axis' name."""
    missing = (math.nan,) * len(axes)
    row: dict[str, float] = {}
    for field in ("center", "fwhm"):
        for suffix in ("", "_error"):
            value = missing if peak is None else getattr(peak, field + suffix)
            each = value if isinstance(value, tuple) else (value,) * len(axes)
            for axis, number in zip(axes, each, strict=True):
                row[column(field + suffix, axis, axes)] = float(number)
    row["height"] = math.nan if peak is None else float(peak.height)
    row["height_error"] = math.nan if peak is None else float(peak.height_error)
    return row


def column(field: str, axis: str, axes: Sequence[str]) -> str:
    """The name of the column for one axis: ``center``, or ``center_x`` where there are several."""
    return field if len(axes) == 1 else f"{field}_{axis}"
