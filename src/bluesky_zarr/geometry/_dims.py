"""What a dim of a scan is: its positions, and the axes that stand at them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

__all__ = ["Coordinate", "CoordinateDict", "Dim", "DimDict"]


class CoordinateDict(TypedDict):
    """What `ScanGeometry.to_dict` writes for one `Coordinate`."""

    name: str
    values: list[float]
    units: str


class DimDict(TypedDict):
    """What `ScanGeometry.to_dict` writes for one `Dim`."""

    name: str
    size: int
    snaked: bool
    coordinates: list[CoordinateDict]


@dataclass(frozen=True, eq=False)
class Coordinate:
    """The positions of one axis along one dim.

    `values` is copied into a read-only float64 array of shape (dim size,), in `units`.

    Raises:
        ValueError: The values are not a 1-D sequence of finite real numbers.

    >>> Coordinate("x", np.array([0, 1]), units="mm")
    Coordinate(name='x', values=array([0., 1.]), units='mm')

    """

    name: str
    values: npt.NDArray[np.float64]
    units: str = ""

    def __post_init__(self) -> None:
        given = np.asarray(self.values)
        # Text such as "1.5" would convert without a complaint, but no motor is sent to a text.
        if given.ndim != 1 or (given.size and given.dtype.kind not in "iuf"):
            raise ValueError(
                f"positions of {self.name!r} are {given.ndim}-D of type {given.dtype}; "
                "give a 1-D sequence of real numbers"
            )
        values = given.astype(np.float64)
        if not np.isfinite(values).all():
            where = int(np.argmin(np.isfinite(values)))
            raise ValueError(
                f"position {where} of {self.name!r} is {values[where]}; give finite numbers"
            )
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Coordinate):
            return NotImplemented
        return (self.name, self.units) == (other.name, other.units) and np.array_equal(
            self.values, other.values
        )

    def __reduce__(self) -> tuple[type[Coordinate], tuple[Any, ...]]:
        # Through the constructor: an array comes out of a pickle writeable.
        return type(self), (self.name, self.values, self.units)


@dataclass(frozen=True)
class Dim:
    """One dimension of a scan: what moves together, how many positions, and in which order.

    `name` is the axis' name if one axis moves along it, the names joined by "_" if several do,
    "repeat" if none does, and "event" for the order of events. A `snaked` dim runs backwards on
    every odd iteration.

    Raises:
        ValueError: A coordinate has not `size` positions.

    >>> Dim("x", 3, snaked=True, coordinates=(Coordinate("x", np.linspace(0, 1, 3)),)).size
    3

    """

    name: str
    size: int
    snaked: bool = False
    coordinates: tuple[Coordinate, ...] = ()

    def __post_init__(self) -> None:
        for coordinate in self.coordinates:
            if len(coordinate.values) != self.size:
                raise ValueError(
                    f"{coordinate.name!r} has {len(coordinate.values)} positions along dim "
                    f"{self.name!r} of size {self.size}; give one position per index"
                )
