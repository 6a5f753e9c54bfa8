"""Stores that have just begun, and sinks in them, whose frames are small."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import FrameSink, SourceInfo, ZarrWriter
from bluesky_zarr.store import _sink as sink_module
from tests.store.sinks import MakeSink


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return ZarrWriter(tmp_path / "scan.zarr").path


@pytest.fixture
def make_sink(tmp_path: Path) -> MakeSink:
    numbers = itertools.count()

    def make(
        shape: tuple[int, ...] = (10, 10),
        dtype: str = "uint16",
        geometry: ScanGeometry | None = None,
        capacity: int = 0,
        **options: Any,
    ) -> FrameSink:
        writer = ZarrWriter(tmp_path / f"s{next(numbers)}.zarr", **options)
        return writer.prepare(
            SourceInfo("cam", dtype, shape, geometry=geometry), key="primary/cam", capacity=capacity
        )

    return make


@pytest.fixture
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small frames go through the workers, as large ones do."""
    monkeypatch.setattr(sink_module, "INLINE_BYTES", 0)
