"""From what a scanspec or a plan says of a scan to named dims."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from scanspec.core import Dimension, SnakedDimension
from scanspec.specs import Spec

from bluesky_zarr._stock_plans import Level, refuse_repeated

from ._dims import Coordinate, Dim

__all__ = ["levels_of_spec", "name_dims"]


def levels_of_spec(spec: Spec[Any] | Mapping[str, Any]) -> list[Level]:
    """The dims of a scanspec `Spec`, or of what its `serialize()` returned, slowest first.

    Raises:
        ValueError: A motor is there twice or has no name, or scanspec itself refuses.

    """
    if not isinstance(spec, Spec):
        spec = Spec.deserialize(spec)
    # Before scanspec asserts it of zipped axes, and because it does not look at nested ones.
    refuse_repeated(map(_axis_name, spec.axes()))
    try:
        stack = spec.calculate()
    except (AssertionError, ValueError) as error:
        raise ValueError(f"scanspec refuses {spec!r}: {error}") from error
    # A bare ConstantDuration in a product is a Dimension of one frame that moves nothing.
    moving = [d for d in stack if d.axes() or d.duration is None or len(d) > 1]
    return [_level(dimension) for dimension in moving or stack]


def name_dims(levels: Iterable[Level]) -> tuple[Dim, ...]:
    """Give each level a name of its own: its axis', or one made of all of its axes' names."""
    levels = list(levels)
    # An axis keeps its name, whatever the others are called when joined.
    taken = {axis for level in levels for axis in level.positions}
    dims = []
    for depth, (positions, size, snaked) in enumerate(levels):
        name = stem = "_".join(positions) or "repeat"
        if len(positions) != 1:
            number = 1
            while name in taken:
                number += 1
                name = f"{stem}_{number}"
            taken.add(name)
        # The outermost dim is iterated once, and a repeat looks the same in both directions.
        snaked = snaked and depth > 0 and bool(positions)
        coordinates = tuple(Coordinate(axis, values) for axis, values in positions.items())
        dims.append(Dim(name, size, snaked, coordinates))
    return tuple(dims)


def _axis_name(axis: Any) -> str:
    name = axis if isinstance(axis, str) else getattr(axis, "name", None)
    if not isinstance(name, str) or not name:
        raise ValueError(f"axis {axis!r} has no name; use a named device, or a name")
    return name


def _level(dimension: Dimension[Any]) -> Level:
    positions = {_axis_name(axis): values for axis, values in dimension.midpoints.items()}
    return Level(positions, len(dimension), isinstance(dimension, SnakedDimension))
