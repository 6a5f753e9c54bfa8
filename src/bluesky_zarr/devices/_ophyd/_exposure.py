"""What a device was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._binding import Binding
from .._cursor import Placement

__all__ = ["Exposure"]


@dataclass
class Exposure:
    """What one trigger, or one flown row, asked for; fixed when it was asked for.

    `told` says that the session said where it belongs; `quota` how many frames are still wanted,
    `taken` how many came.
    """

    placement: Placement | None
    flown: bool
    told: bool
    binding: Binding | None = None
    quota: int = 0
    taken: int = 0

    def cells(self, binding: Binding, number: int) -> Sequence[int]:
        """Where the next frames go: C-order positions. IndexError beyond the scan's end."""
        if self.placement is None:
            return binding.cells(binding.next, number)
        if not self.flown:
            return (self.placement.cell,)
        return binding.cells(self.placement.index + self.taken, number)
