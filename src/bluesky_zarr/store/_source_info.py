"""What a source of frames delivers."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bluesky_zarr.geometry import ScanGeometry


@dataclass(frozen=True)
class SourceInfo:
    """What a source of frames delivers.

    Parameters
    ----------
    name
        The source's, a device's name.
    dtype
        Of an element: numbers or bool.
    shape
        Of a frame, in elements: () for scalars, (n,) for spectra.
    dims
        The names of the frame's dims, by default "x", or "y", "x", or "z", "y", "x"; stored they
        are prefixed by the name: "cam_y", "cam_x".
    units
        Of an element.
    geometry
        Where in the scan each frame belongs; without one, the array is 1-D in order of events and
        grows.
    flown
        Frames come in a row along the fastest scan dim, without a stop at each. Small ones are then
        stored several to a chunk and become readable together.
    extra
        Open: whoever reads it knows what it holds; here, "long_name" is used.

    Raises
    ------
    ValueError
        Dtype, shape or dims that cannot be stored.

    Examples
    --------
    >>> SourceInfo("cam", dtype="uint16", shape=(512, 1024)).stored_dims
    ('cam_y', 'cam_x')
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    dims: tuple[str, ...] = ()
    units: str = ""
    geometry: ScanGeometry | None = None
    flown: bool = False
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        what = f"source {self.name!r}"
        try:
            dtype = np.dtype(self.dtype)
        except TypeError:
            raise ValueError(
                f"{what}: {self.dtype!r} is not a numpy dtype; write for example 'uint16'"
            ) from None
        if dtype.kind not in "biufc" or dtype.itemsize > 16:
            raise ValueError(
                f"{what}: frames of dtype {dtype} cannot be stored; use numbers or bool"
            )
        object.__setattr__(self, "dtype", dtype.str if dtype.byteorder == ">" else dtype.name)
        try:
            shape = tuple(operator.index(n) for n in self.shape)
        except TypeError:
            raise ValueError(
                f"{what}: shape {self.shape!r} is not a tuple of whole numbers; write "
                "for example (2048, 2048)"
            ) from None
        if any(n < 1 for n in shape):
            raise ValueError(
                f"{what}: a frame of shape {shape} has no elements; check the region of interest"
            )
        dims = tuple(self.dims) or _default_dims(len(shape))
        if len(dims) != len(shape) or len(set(dims)) != len(dims):
            raise ValueError(
                f"{what}: dims {dims} do not name each of the {len(shape)} dims of the shape "
                f"{shape} once; give one name for each"
            )
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "dims", dims)

    @property
    def stored_dims(self) -> tuple[str, ...]:
        """The frame's dims as they are named in the store."""
        return tuple(f"{self.name}_{dim}" for dim in self.dims)

    @property
    def scan_dims(self) -> tuple[str, ...]:
        """The scan's dims as they are named in the store."""
        return ("event",) if self.geometry is None else tuple(self.geometry.names)

    @property
    def growing(self) -> bool:
        """Whether nobody knows how many frames come."""
        return self.geometry is None or self.geometry.growing


def _default_dims(ndim: int) -> tuple[str, ...]:
    return (
        ("z", "y", "x")[3 - ndim :] if ndim <= 3 else tuple(f"dim_{axis}" for axis in range(ndim))
    )
