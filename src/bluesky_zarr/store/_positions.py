"""Which position of a scan a frame is for, checked."""

from __future__ import annotations

import math
import operator

from bluesky_zarr.store._source_info import SourceInfo

Index = int | tuple[int, ...]

# What is kept for each position takes 12 bytes: a mistaken index must not ask for terabytes.
_MOST_POSITIONS = 2**31


class FrameError(ValueError):
    """A frame that does not fit: of another shape or dtype, or outside of the scan.

    Nothing was written, and the sink goes on.
    """


class Positions:
    """The positions of a scan as C-order numbers of its cells.

    `scan_shape` is how long the array is now; a growing one takes positions beyond, up to its
    capacity (0 = unlimited).
    """

    def __init__(self, source: SourceInfo, scan_shape: tuple[int, ...], capacity: int) -> None:
        self.growing = source.growing
        self.shape = scan_shape
        self.length = math.prod(scan_shape)
        self._name = source.name
        self._dims = source.scan_dims
        self._geometry = source.geometry
        self._capacity = capacity

    def resize(self, length: int) -> None:
        """The growing array now is this long."""
        self.length, self.shape = length, (length,)

    def flat(self, index: Index) -> int:
        """The C-order number of an index, which may be that number; FrameError if there is none."""
        what = f"index {index!r} for {self._name!r}"
        try:
            if isinstance(index, tuple):
                flat = self._ravel(tuple(map(operator.index, index)), what)
            else:
                flat = operator.index(index)
        except TypeError:
            raise FrameError(
                f"{what} is neither a whole number nor a tuple of them; give one of the two"
            ) from None
        if flat < 0 or (flat >= self.length and not self.growing):
            raise FrameError(
                f"{what} is out of bounds: the scan has {self.length} positions, {self._words()}; "
                "give an index inside of it"
            )
        self._check_capacity(flat)
        return flat

    def after(self, flat: int) -> int:
        """The position that follows in order of acquisition; the first one after -1."""
        geometry = None if self.growing else self._geometry
        k = 1 + (flat if flat < 0 or geometry is None else geometry.turn(flat))
        self._check_capacity(k)
        if geometry is None:
            return k
        if k >= self.length:
            raise FrameError(
                f"frame {k} for {self._name!r} is out of bounds: the scan has {self.length} "
                f"positions, {self._words()}; to write a position again, give its index"
            )
        return geometry.flat(k)

    def _ravel(self, position: tuple[int, ...], what: str) -> int:
        if len(position) != len(self.shape):
            raise FrameError(
                f"{what} has {len(position)} entries; the scan has {self._words()}: give "
                "one for each"
            )
        flat = 0
        for dim, n, size in zip(self._dims, position, self.shape, strict=True):
            if n < 0 or (n >= size and not self.growing):
                raise FrameError(
                    f"{what} is out of bounds in {dim!r}; the scan has {self._words()}: "
                    "give an index inside of it"
                )
            flat = flat * size + n
        return flat

    def _check_capacity(self, flat: int) -> None:
        if not self.growing:
            return
        if 0 < self._capacity <= flat:
            raise FrameError(
                f"index {flat} for {self._name!r} is past the capacity of {self._capacity} frames; "
                "prepare() with a larger capacity, or 0 for unlimited"
            )
        if flat >= _MOST_POSITIONS:
            raise FrameError(
                f"index {flat} for {self._name!r} is past the {_MOST_POSITIONS} positions that an "
                "array can grow to; check how the index is counted"
            )

    def _words(self) -> str:
        sizes = (f"{dim}: {n}" for dim, n in zip(self._dims, self.shape, strict=True))
        return f"the dims {', '.join(sizes)}"
