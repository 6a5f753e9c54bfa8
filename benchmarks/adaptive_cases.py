"""The cases that adaptive scans are compared on: true peaks, expected counts, and the score.

    python benchmarks/adaptive_cases.py

prints the list. `TABLE` are the cases that one may develop on, with the seeds `SEEDS`; `HELD_OUT`
are shapes that nothing is tuned to, with `HELD_OUT_SEEDS`, and `adaptive_parts.hard` has those of a
judge who looked for what goes wrong. Everything random comes from the name of the case and the
seed.

    case = by_name("FWHM 5")
    truth = case.truth(seed=0)
    counts = truth.measure(points)  # Poisson counts at points, shape (n, case.dims)
    score(truth, peaks).success
"""

from __future__ import annotations

import math
import sys
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from scipy.special import erf

Floats = npt.NDArray[np.float64]
Rate = Callable[[Floats], Floats]
#: Readings of a rate, as random as they are.
Reading = Callable[[np.random.Generator, Floats], Floats]

SEEDS = range(20)
HELD_OUT_SEEDS = range(1000, 1020)

CENTER_TOLERANCE = 0.1  # of the FWHM
WIDTH_TOLERANCE = 0.2


class FoundPeak(Protocol):
    """What is scored: `bluesky_zarr.peaks.Peak`, or anything with a centre and FWHM per axis."""

    @property
    def centers(self) -> tuple[float, ...]: ...

    @property
    def fwhms(self) -> tuple[float, ...]: ...


@dataclass(frozen=True)
class TruePeak:
    """One peak: centre and FWHM on each axis, height in counts.

    `lorentzian` is the fraction of a Lorentzian in it, 0 for a Gaussian.
    """

    centers: tuple[float, ...]
    fwhms: tuple[float, ...]
    height: float
    lorentzian: float = 0.0

    def __call__(self, points: Floats) -> Floats:
        """The expected counts of the peak alone at points of shape (n, axes)."""
        u2 = (((points - np.array(self.centers)) / np.array(self.fwhms)) ** 2).sum(axis=1)
        gaussian = np.exp(-4 * math.log(2) * u2)
        mixed = self.lorentzian / (1 + 4 * u2) + (1 - self.lorentzian) * gaussian
        return self.height * mixed

    def matched(self, found: FoundPeak) -> bool:
        """Whether a reported peak is this one, within the tolerances of the score."""
        return all(
            abs(center - at) < CENTER_TOLERANCE * fwhm
            and abs(width - fwhm) < WIDTH_TOLERANCE * fwhm
            for at, fwhm, center, width in zip(
                self.centers, self.fwhms, found.centers, found.fwhms, strict=True
            )
        )

    def resembled(self, found: FoundPeak) -> bool:
        """Whether a reported peak may pass for this one, which nobody has to find."""
        return all(
            abs(center - at) < fwhm / 2 and fwhm / 2 < width < 2 * fwhm
            for at, fwhm, center, width in zip(
                self.centers, self.fwhms, found.centers, found.fwhms, strict=True
            )
        )


def counted(rng: np.random.Generator, rate: Floats) -> Floats:
    """Poisson counts."""
    return rng.poisson(rate).astype(np.float64)


@dataclass(eq=False)
class Truth:
    """What is there to be found: `peaks`, and `humps`, which may be reported but need not be."""

    peaks: tuple[TruePeak, ...]
    background: Rate
    humps: tuple[TruePeak, ...] = ()
    noise: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    reading: Reading = counted

    def rate(self, points: npt.ArrayLike) -> Floats:
        """Expected counts, shape (n,), at points of shape (n, axes), or (n,) along one axis."""
        at = np.asarray(points, dtype=np.float64)
        at = at.reshape(-1, 1) if at.ndim < 2 else at
        return self.background(at) + sum(part(at) for part in (*self.peaks, *self.humps))

    def measure(self, points: npt.ArrayLike) -> Floats:
        """Readings at the points; a point measured again gives another."""
        return self.reading(self.noise, self.rate(points))


#: Draws what is random of a case: the peaks, the background, and the humps.
Draw = Callable[[np.random.Generator], tuple[Any, ...]]


@dataclass(frozen=True)
class Case:
    """One case. `axes` are (start, stop) of each axis, `narrowest` the FWHM given to a sampler."""

    name: str
    narrowest: tuple[float, ...]
    draw: Draw = field(repr=False)
    axes: tuple[tuple[float, float], ...] = ((0.0, 100.0),)
    peakless: bool = False
    reading: Reading = field(default=counted, repr=False)

    @property
    def dims(self) -> int:
        """How many axes there are."""
        return len(self.axes)

    def truth(self, seed: int) -> Truth:
        """The case with its random numbers drawn; equal seeds give equal peaks and noise."""
        entropy = [zlib.crc32(self.name.encode()), seed]
        return Truth(
            *self.draw(np.random.default_rng(entropy)),
            noise=np.random.default_rng([*entropy, 1]),
            reading=self.reading,
        )

    def field(self, **limits: int) -> Any:
        """The `Field` that a strategy is given, without a RunEngine."""
        from bluesky_zarr.plans._strategy import Field, ScanAxis

        names = ("x",) if self.dims == 1 else tuple(f"x{k}" for k in range(self.dims))
        axes = zip(names, self.axes, self.narrowest, strict=True)
        return Field(tuple(ScanAxis(name, *ends, width) for name, ends, width in axes), **limits)


@dataclass(frozen=True)
class Score:
    """How many true peaks were missed, and how many of those reported are none."""

    missed: int
    false: int

    @property
    def success(self) -> bool:
        """Every true peak was found, and nothing else."""
        return not self.missed and not self.false


def score(truth: Truth, found: Sequence[FoundPeak]) -> Score:
    """Match reported peaks with true ones, one to one, and count what is left of both."""
    taken: dict[int, int] = {}

    def place(peak: int, tried: set[int]) -> bool:
        for k, candidate in enumerate(found):
            if k in tried or not truth.peaks[peak].matched(candidate):
                continue
            tried.add(k)
            if k not in taken or place(taken[k], tried):
                taken[k] = peak
                return True
        return False

    missed = sum(not place(peak, set()) for peak in range(len(truth.peaks)))
    left = [candidate for k, candidate in enumerate(found) if k not in taken]
    for hump in truth.humps:
        similar = next((candidate for candidate in left if hump.resembled(candidate)), None)
        if similar is not None:
            left.remove(similar)
    return Score(missed, len(left))


def level(constant: float, *slopes: float) -> Rate:
    """A background that is flat, or has a slope along each axis."""

    def background(at: Floats) -> Floats:
        return constant + at[:, : len(slopes)] @ np.array(slopes, dtype=np.float64)

    return background


def edge(low: float, high: float, center: float, width: float) -> Rate:
    """A step along the first axis from `low` to `high`, erf((x - center) / width)."""
    return lambda at: low + (high - low) * (1 + erf((at[:, 0] - center) / width)) / 2


def valley(center: float) -> Rate:
    """A parabola, highest at the limits of the axis: a curved background without a peak."""
    return lambda at: 100 + 0.15 * (at[:, 0] - center) ** 2


def one(
    fwhm: float | tuple[float, ...],
    height: float,
    background: Rate,
    center: tuple[float, float] | tuple[tuple[float, float], ...] = (25.0, 75.0),
    lorentzian: float = 0.0,
    humps: tuple[TruePeak, ...] = (),
) -> Draw:
    """One peak, its centre uniform in a range, the same on each axis or given for each."""
    fwhms = fwhm if isinstance(fwhm, tuple) else (fwhm,)

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        low, high = np.broadcast_to(np.array(center), (len(fwhms), 2)).T
        at = tuple(float(c) for c in rng.uniform(low, high))
        return (TruePeak(at, fwhms, height, lorentzian),), background, humps

    return draw


def pair(
    apart: float, fwhms: tuple[float, float], heights: tuple[float, float], background: Rate
) -> Draw:
    """Two peaks along one axis, their middle uniform in 25..75."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        middle = rng.uniform(25, 75)
        ends = (float(middle - apart / 2), float(middle + apart / 2))
        both = zip(ends, fwhms, heights, strict=True)
        return tuple(TruePeak((c,), (w,), h) for c, w, h in both), background

    return draw


def several(
    number: int,
    fwhm: tuple[float, float],
    height: tuple[float, float],
    background: Rate,
    *,
    gap: float,
    dims: int = 1,
    within: tuple[float, float] = (5.0, 95.0),
) -> Draw:
    """Peaks at least `gap` apart; widths uniform, heights log-uniform in their ranges."""

    def draw(rng: np.random.Generator) -> tuple[Any, ...]:
        while True:
            centers = rng.uniform(*within, (number, dims))
            distances = np.linalg.norm(centers[:, None] - centers[None], axis=2)
            if (distances + np.diag(np.full(number, np.inf))).min() > gap:
                break
        peaks = []
        for center in centers:
            width = float(rng.uniform(*fwhm))
            tall = math.exp(rng.uniform(math.log(height[0]), math.log(height[1])))
            peaks.append(TruePeak(tuple(map(float, center)), (width,) * dims, tall))
        return tuple(peaks), background

    return draw


def nothing(background: Callable[[np.random.Generator], Rate]) -> Draw:
    """No peak at all."""
    return lambda rng: ((), background(rng))


SQUARE = ((0.0, 100.0), (0.0, 100.0))

TABLE_1D = (
    Case("FWHM 20", (20,), one(20, 1000, level(10))),
    Case("FWHM 5", (5,), one(5, 1000, level(10))),
    Case("FWHM 1", (1,), one(1, 1000, level(10))),
    Case("FWHM 0.2", (0.2,), one(0.2, 1000, level(10))),
    Case("Lorentzian FWHM 2", (2,), one(2, 2000, level(20), lorentzian=1)),
    Case("pseudo-Voigt FWHM 3 on 50+2x", (3,), one(3, 500, level(50, 2), lorentzian=0.5)),
    Case("doublet 4 apart", (2,), pair(4, (2, 2), (1000, 600), level(10))),
    Case("doublet 2.6 apart", (2,), pair(2.6, (2, 2), (1000, 1000), level(10))),
    Case("five peaks", (1,), several(5, (1, 5), (300, 3000), level(20), gap=10)),
    Case(
        "step",
        (2,),
        nothing(lambda rng: edge(20, 820, rng.uniform(25, 75), 1.5)),
        peakless=True,
    ),
    Case("noise only", (1,), nothing(lambda rng: level(50)), peakless=True),
    Case("weak", (6,), one(6, 30, level(100))),
    Case("at the limit", (2,), one(2, 1000, level(10), center=(2, 3))),
    Case(
        "needle on a hump",
        (0.5,),
        one(0.5, 600, level(50), humps=(TruePeak((50.0,), (60.0,), 200.0),)),
    ),
)

TABLE_2D = (
    Case("2-D 8x12", (8, 8), one((8, 12), 1000, level(10)), SQUARE),
    Case("2-D 3x3", (3, 3), one((3, 3), 1000, level(10)), SQUARE),
    Case(
        "2-D two 5x5",
        (5, 5),
        several(2, (5, 5), (1000, 1000), level(10), gap=15, dims=2, within=(25, 75)),
        SQUARE,
    ),
)

HELD_OUT_1D = (
    Case("FWHM 3, 100 on 5", (3,), one(3, 100, level(5))),
    Case("FWHM 0.7, 400 on 40", (0.7,), one(0.7, 400, level(40))),
    Case("three peaks", (2,), several(3, (2, 4), (200, 2000), level(30), gap=14)),
    Case("FWHM 1 and 10", (1,), pair(25, (1, 10), (800, 400), level(20))),
    Case("doublet of 2 and 3, 5 apart", (2,), pair(5, (2, 3), (1500, 500), level(30))),
    Case("Lorentzian FWHM 8", (8,), one(8, 800, level(40), lorentzian=1)),
    Case("weak, 50 on 200", (10,), one(10, 50, level(200))),
    Case("noise only, mean 5", (2,), nothing(lambda rng: level(5)), peakless=True),
    Case("noise only, mean 500", (5,), nothing(lambda rng: level(500)), peakless=True),
    Case(
        "falling edge",
        (3,),
        nothing(lambda rng: edge(600, 30, rng.uniform(25, 75), 2)),
        peakless=True,
    ),
    Case(
        "valley",
        (4,),
        nothing(lambda rng: valley(rng.uniform(25, 75))),
        peakless=True,
    ),
    Case(
        "decay",
        (4,),
        nothing(lambda rng: lambda at: 40 + 800 * np.exp(-at[:, 0] / 30)),
        peakless=True,
    ),
    Case("at the upper limit", (2,), one(2, 1000, level(10), center=(97, 98))),
    Case("reversed axis", (3,), one(3, 800, level(20)), ((100.0, 0.0),)),
    Case("needle on a slope", (0.8,), one(0.8, 400, level(50, 5))),
    Case("FWHM 12, w = 2", (2,), one(12, 600, level(30))),
    Case(
        "axis of an energy", (0.05,), one(0.08, 900, level(15), (7110, 7114)), ((7108.0, 7116.0),)
    ),
)

HELD_OUT_2D = (
    Case("2-D 6x6, 200 on 10", (6, 6), one((6, 6), 200, level(10)), SQUARE),
    Case("2-D 4x10, w per axis", (4, 10), one((4, 10), 800, level(15)), SQUARE),
    Case("2-D noise only", (8, 8), nothing(lambda rng: level(20)), SQUARE, peakless=True),
    Case("2-D sloping", (6, 6), one((6, 7), 600, level(50, 2, 1)), SQUARE),
    Case(
        "2-D at the edge", (6, 6), one((6, 6), 1000, level(10), ((3.0, 4.0), (25.0, 75.0))), SQUARE
    ),
)

TABLE = TABLE_1D + TABLE_2D
HELD_OUT = HELD_OUT_1D + HELD_OUT_2D


def by_name(name: str) -> Case:
    """The case of a name; a wrong one is answered with those that exist."""
    from benchmarks.adaptive_parts.hard import HARD

    cases = {case.name: case for case in TABLE + HELD_OUT + HARD}
    if name not in cases:
        raise KeyError(f"no case is called {name!r}; there are: {', '.join(cases)}")
    return cases[name]


def main() -> None:
    from benchmarks.adaptive_parts.hard import HARD

    for title, cases in (("Table", TABLE), ("Held out", HELD_OUT), ("Hard", HARD)):
        print(f"{title}: {'case':30} {'w':>8}  peaks (seed 0)")
        for case in cases:
            widths = " x ".join(f"{w:g}" for w in case.narrowest)
            peaks = case.truth(0).peaks
            shown = "; ".join(", ".join(f"{c:.5g}" for c in peak.centers) for peak in peaks)
            print(f"  {case.name:38} {widths:>8}  {shown or 'none'}")


if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).parents[1])
    main()
