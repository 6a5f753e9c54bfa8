"""Specs of scans, and scanspec's own order as the measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from scanspec.specs import Linspace, Spec

from bluesky_zarr.geometry import ScanGeometry


def grid_spec(sizes: Sequence[int], snaked: Sequence[bool]) -> Spec[Any]:
    """A spec of nested lines a0, a1, ... with different positions on each."""
    lines: list[Spec[Any]] = [
        Linspace(f"a{i}", i, i + 0.7, num) if not snake else ~Linspace(f"a{i}", i, i + 0.7, num)
        for i, (num, snake) in enumerate(zip(sizes, snaked, strict=True))
    ]
    return reduce(lambda outer, inner: outer * inner, lines)


def names_of(point: Mapping[Any, Any]) -> dict[str, float]:
    return {getattr(axis, "name", axis): float(value) for axis, value in point.items()}


def assert_runs_as_scanspec_does(spec: Spec[Any]) -> ScanGeometry:
    geometry = ScanGeometry.from_spec(spec)
    expected = [names_of(point) for point in spec.midpoints()]
    assert list(geometry.points()) == expected
    assert [geometry.setpoints(k) for k in range(geometry.size)] == expected
    return geometry
