"""The dims of a whole scan, and the rule from order of acquisition to cell."""

from __future__ import annotations

import math
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypedDict

import numpy as np
from scanspec.specs import Spec

from bluesky_zarr._stock_plans import levels_of, num_points, refuse_repeated

from ._dims import Coordinate, Dim, DimDict
from ._levels import levels_of_spec, name_dims

__all__ = ["MAX_DIMS", "GeometryDict", "ScanGeometry", "check_depth"]

#: The dim of a scan that is known only as a number of events.
EVENT = "event"

#: How deep dims can be nested.
MAX_DIMS = 10

#: More events than this are not prepared for; a run that takes them grows.
MAX_EVENTS = 10_000_000

#: How deep dims can be nested before `check_depth` warns.
USUAL_DIMS = 3


class GeometryDict(TypedDict):
    """What `ScanGeometry.to_dict` writes, slowest dim first."""

    dims: list[DimDict]
    growing: bool


@dataclass(frozen=True)
class ScanGeometry:
    """The dims of a scan, slowest first, and the rule from order of acquisition to N-D cell.

    A snaked dim runs backwards on every odd iteration of it, where point `k` is in iteration
    `k // (product of the sizes from that dim inwards)`: the rule of
    `scanspec.core.SnakedDimension`, and of bluesky's `snake_axes`.

    A `growing` geometry is one dim in order of events: its size is only an expectation
    (0 = unknown) and points past it are as good as any.

    Raises:
        ValueError: There is no dim, more than 10, a dim without points, two dims or two axes of
            one name, or a growing geometry with anything but one plain dim.

    >>> from scanspec.specs import Linspace
    >>> grid = ScanGeometry.from_spec(Linspace("y", 0, 1, 2) * ~Linspace("x", 5, 7, 3))
    >>> grid.names, grid.shape
    (('y', 'x'), (2, 3))
    >>> grid.position(3), grid.setpoints(3)
    ((1, 2), {'y': 1.0, 'x': 7.0})

    """

    dims: tuple[Dim, ...]
    growing: bool = False

    def __post_init__(self) -> None:
        if not self.dims:
            raise ValueError("the scan has no dim; use ScanGeometry.events() for one without order")
        if len(self.dims) > MAX_DIMS:
            raise ValueError(
                f"the scan has {len(self.dims)} nested dims; at most {MAX_DIMS} are possible: "
                "zip axes that can move together, or scan fewer of them"
            )
        if len(set(self.names)) < len(self.dims):
            raise ValueError(f"the dims are named {self.names}; give each a name of its own")
        refuse_repeated(self.axes)
        first, *inner = self.dims
        if self.growing and (inner or first.coordinates or first.snaked or first.name != EVENT):
            raise ValueError(
                f"a growing scan has one dim '{EVENT}' in order of events, without coordinates or "
                f"snaking, not {self.names}; use ScanGeometry.events()"
            )
        for dim in self.dims:
            if dim.size < (0 if self.growing else 1):
                raise ValueError(
                    f"dim {dim.name!r} has {dim.size} points; a scan needs at least one in each dim"
                )

    def __reduce__(self) -> tuple[type[ScanGeometry], tuple[Any, ...]]:
        # Through the constructor: what is cached is not worth its bytes in a message.
        return type(self), (self.dims, self.growing)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the dims."""
        return tuple(dim.name for dim in self.dims)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the dims."""
        return tuple(dim.size for dim in self.dims)

    @cached_property
    def size(self) -> int:
        """How many points the scan has; how many are expected (0 = unknown) if growing."""
        return math.prod(self.shape)

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of the axes, slowest first."""
        return tuple(coordinate.name for _, coordinate in self.coordinates)

    @property
    def coordinates(self) -> tuple[tuple[str, Coordinate], ...]:
        """Each coordinate with the name of the dim that it lies along."""
        return tuple((dim.name, coord) for dim in self.dims for coord in dim.coordinates)

    @cached_property
    def _strides(self) -> tuple[tuple[int, int, bool], ...]:
        """Of each dim: how many points one step lasts, its size, whether it is snaked."""
        strides = (math.prod(self.shape[i + 1 :]) for i in range(len(self.dims)))
        return tuple((s, dim.size, dim.snaked) for s, dim in zip(strides, self.dims, strict=True))

    @cached_property
    def _lookups(self) -> tuple[tuple[tuple[str, Callable[[int], float]], ...], ...]:
        """Of each dim: its axes, each with a lookup from index to position."""
        return tuple(
            tuple((coord.name, coord.values.item) for coord in dim.coordinates) for dim in self.dims
        )

    def _checked(self, k: int) -> int:
        k = operator.index(k)
        if k < 0 or (k >= self.size and not self.growing):
            raise IndexError(
                f"there is no point {k}: "
                + ("points count from 0" if self.growing else f"the scan has {self.size} points")
            )
        return k

    def position(self, k: int) -> tuple[int, ...]:
        """Return the N-D cell that the k-th point in order of acquisition fills.

        Raises:
            IndexError: `k` is negative, or past the end of a scan that does not grow.

        """
        k = self._checked(k)
        if self.growing:
            return (k,)
        cell = []
        for stride, size, snaked in self._strides:
            iteration, index = divmod(k // stride, size)
            cell.append(size - 1 - index if snaked and iteration % 2 else index)
        return tuple(cell)

    def flat(self, k: int) -> int:
        """Return the C-order index of the cell that the k-th point fills.

        Raises:
            IndexError: As in `position`.

        """
        if self.growing:
            return self._checked(k)
        cell = self.position(k)
        return sum(i * stride for i, (stride, _, _) in zip(cell, self._strides, strict=True))

    def turn(self, flat: int) -> int:
        """Return which point in order of acquisition fills a cell: the inverse of `flat`.

        >>> from scanspec.specs import Linspace
        >>> geometry = ScanGeometry.from_spec(Linspace("y", 0, 1, 2) * ~Linspace("x", 0, 1, 3))
        >>> [geometry.turn(flat) for flat in range(6)]
        [0, 1, 2, 5, 4, 3]

        Raises:
            IndexError: As in `position`.

        """
        flat = self._checked(flat)
        if self.growing:
            return flat
        k = 0
        for stride, size, snaked in self._strides:
            index, flat = divmod(flat, stride)
            # A snaked dim runs backwards on every odd iteration, and k so far is how many it had.
            k = k * size + (size - 1 - index if snaked and k % 2 else index)
        return k

    def setpoints(self, k: int) -> dict[str, float]:
        """Return what the axes are commanded to at the k-th point, in the units of each axis.

        Raises:
            IndexError: As in `position`.

        """
        return {
            name: lookup(index)
            for index, axes in zip(self.position(k), self._lookups, strict=True)
            for name, lookup in axes
        }

    def points(self, start: int = 0) -> Iterator[dict[str, float]]:
        """Yield the setpoints of each point from `start` on, in order of acquisition.

        >>> from scanspec.specs import Linspace
        >>> list(ScanGeometry.from_spec(Linspace("x", 0, 1, 3)).points(start=1))
        [{'x': 0.5}, {'x': 1.0}]

        """
        for k in range(start, self.size):
            yield self.setpoints(k)

    def shifted(self, offsets: Mapping[str, float]) -> ScanGeometry:
        """Return the geometry with an offset added to the positions of each axis named.

        Makes the positions of a relative plan absolute. Names that are no axis are ignored.

        >>> from scanspec.specs import Linspace
        >>> ScanGeometry.from_spec(Linspace("x", -1, 1, 3)).shifted({"x": 10}).setpoints(0)
        {'x': 9.0}

        """

        def shift(coordinate: Coordinate) -> Coordinate:
            if coordinate.name not in offsets:
                return coordinate
            return replace(coordinate, values=coordinate.values + offsets[coordinate.name])

        return self._with_coordinates(shift)

    def with_units(self, units: Mapping[str, str]) -> ScanGeometry:
        """Return the geometry with the units of each axis named; other names are ignored."""
        return self._with_coordinates(lambda c: replace(c, units=units.get(c.name, c.units)))

    def _with_coordinates(self, change: Callable[[Coordinate], Coordinate]) -> ScanGeometry:
        dims = (replace(dim, coordinates=tuple(map(change, dim.coordinates))) for dim in self.dims)
        return replace(self, dims=tuple(dims))

    def to_dict(self) -> GeometryDict:
        """Return the geometry as plain JSON types; `from_dict` gives exactly it back."""
        return {
            "dims": [
                {
                    "name": dim.name,
                    "size": dim.size,
                    "snaked": dim.snaked,
                    "coordinates": [
                        {"name": c.name, "values": c.values.tolist(), "units": c.units}
                        for c in dim.coordinates
                    ],
                }
                for dim in self.dims
            ],
            "growing": self.growing,
        }

    @classmethod
    def from_dict(cls, d: GeometryDict) -> ScanGeometry:
        """Make a geometry from what `to_dict` returned.

        Raises:
            ValueError: A key is missing, or a value is not possible.

        >>> ScanGeometry.from_dict(ScanGeometry.events(5).to_dict()) == ScanGeometry.events(5)
        True

        """
        try:
            dims = tuple(
                Dim(
                    dim["name"],
                    dim["size"],
                    dim["snaked"],
                    tuple(
                        Coordinate(c["name"], np.asarray(c["values"]), c["units"])
                        for c in dim["coordinates"]
                    ),
                )
                for dim in d["dims"]
            )
            return cls(dims, d["growing"])
        except KeyError as error:
            raise ValueError(
                f"not a scan geometry: {error} is missing in {d!r:.200}; give what to_dict made"
            ) from error

    @classmethod
    def events(cls, num: int | None = None) -> ScanGeometry:
        """Make the geometry of a scan that is known only as so many events, if at all.

        >>> ScanGeometry.events().position(7)
        (7,)

        """
        return cls((Dim(EVENT, num or 0),), growing=True)

    @classmethod
    def from_spec(cls, spec: Spec[Any] | Mapping[str, Any]) -> ScanGeometry:
        """Make the geometry of a scanspec `Spec`, or of what its `serialize()` returned.

        Each `Dimension` of `spec.calculate()` is one dim. Axes are names, or devices with a name.
        An integer factor is a dim "repeat" without coordinates; durations are no dims.

        Raises:
            ValueError: The spec has more than 10 dims, no points, a motor twice or without a
                name, or is refused by scanspec itself.

        >>> from scanspec.specs import Linspace
        >>> pair = Linspace("x", 0, 1, 4).zip(Linspace("y", 2, 3, 4))
        >>> ScanGeometry.from_spec(3 * pair).names
        ('repeat', 'x_y')

        """
        return cls(name_dims(levels_of_spec(spec)))

    @classmethod
    def from_start(cls, doc: Mapping[str, Any]) -> ScanGeometry:
        """Make the geometry of a run from its bluesky start document.

        Known are a serialized spec under "scanspec", and bluesky's own `scan`, `list_scan`,
        `grid_scan`, `list_grid_scan` with their relative forms, whose positions are relative
        here as they are in the document (see `shifted`). All else, and what contradicts itself,
        is `events`: so are plans with a `per_step` of their own, which may take any number of
        events a point. Documents that went through JSON are as good.

        >>> ScanGeometry.from_start(
        ...     {
        ...         "plan_name": "scan",
        ...         "motors": ["x"],
        ...         "plan_args": {"args": ["repr of x", 0, 1], "num": 3, "per_step": "None"},
        ...     }
        ... ).coordinates
        (('x', Coordinate(name='x', values=array([0. , 0.5, 1. ]), units='')),)

        """
        num = num_points(doc)
        try:
            geometry = cls._described(doc)
        except (KeyError, TypeError, ValueError):
            # Metadata of a user overwrites any part of a start document, so nothing in it can be
            # relied on; a run is never refused for that.
            geometry = None
        if geometry is None or (num is not None and num != geometry.size):
            # Arrays are made for what is expected: nobody means a number beyond reason.
            return cls.events(num if num is not None and num <= MAX_EVENTS else None)
        return geometry

    @classmethod
    def _described(cls, doc: Mapping[str, Any]) -> ScanGeometry | None:
        """Return what a start document describes; None or an error if it does not."""
        if "scanspec" in doc:
            return cls.from_spec(doc["scanspec"])
        levels = levels_of(doc)
        return None if levels is None else cls(name_dims(levels))


def check_depth(geometry: ScanGeometry) -> None:
    """Warn (UserWarning) if the scan has more than 3 dims: they multiply.

    >>> check_depth(ScanGeometry.events(5))

    """
    if len(geometry.dims) > USUAL_DIMS:
        warnings.warn(
            f"the scan has {len(geometry.dims)} nested dims {geometry.names}: "
            f"{geometry.size} points; zip axes that can move together if that is too many",
            UserWarning,
            stacklevel=2,
        )
