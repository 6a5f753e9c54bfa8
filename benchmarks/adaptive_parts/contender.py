"""What is compared: a contender is made ready for a case, and then run for each seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.adaptive_cases import Case, FoundPeak


@dataclass(frozen=True)
class Run:
    """One run of a contender: what it cost and what it found.

    `coarse` is the number of exposures of the first pass. `deciding` are the seconds spent on
    deciding where to measure, and `engine` those of all the rest, for those that tell them.
    """

    exposures: int
    peaks: Sequence[FoundPeak]
    coarse: int = 0
    deciding: float = 0.0
    engine: float = 0.0


#: Runs a case with a seed.
OneRun = Callable[[int], Run]
#: Made ready for a case and the seeds that it will see; None where it is not made for such a case.
Contender = Callable[[Case, Sequence[int]], OneRun | None]
