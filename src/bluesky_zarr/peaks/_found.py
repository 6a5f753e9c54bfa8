"""What finders give: a sequence of peaks, and those that were not taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from ._peak import Peak

__all__ = ["FoundPeaks", "Rejected"]


@dataclass(frozen=True)
class Rejected:
    """A maximum of the signal that was not taken for a peak, and why not."""

    peak: Peak
    why: str


class FoundPeaks(Sequence[Peak]):
    """A sequence of the peaks in `found`: false when it is empty."""

    found: tuple[Peak, ...]

    @overload
    def __getitem__(self, index: int) -> Peak: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Peak, ...]: ...
    def __getitem__(self, index: int | slice) -> Peak | tuple[Peak, ...]:
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[Peak]:
        return iter(self.found)
