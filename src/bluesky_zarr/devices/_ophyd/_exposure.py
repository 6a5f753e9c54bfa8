"""What a device was asked for, and how far it is counted."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from .._binding import Binding
from .._cursor import Placement

__all__ = ["Exposure", "Progress"]


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

    def cell(self, binding: Binding) -> int:
        """Where the next frame goes: a C-order position. IndexError beyond the scan's end."""
        if self.placement is None:
            return binding.next
        if not self.flown:
            return self.placement.cell
        return binding.cell(self.placement.index + self.taken)


@dataclass
class Progress:
    """Frames counted for ophyd-async, over every run of a stage.

    `readable` counts frames in the order in which they came: workers may finish the second one
    first, and a document that announced it would announce the first one as well. `taken` of these
    went into documents; `pending` are on their way there.
    """

    readable: int = 0
    taken: int = 0
    pending: deque[tuple[Binding, int]] = field(default_factory=deque)
