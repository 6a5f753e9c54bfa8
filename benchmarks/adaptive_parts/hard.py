"""Cases of a judge who looked for what goes wrong, and found some of it.

Shapes, noise, backgrounds and axes that the other cases do not have: `Profile` is a peak of any
shape, `Inclined` an ellipse that lies across the axes, and readings need not be counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import erf, erfcx

from benchmarks.adaptive_cases import (
    SQUARE,
    Case,
    Draw,
    Floats,
    Rate,
    Reading,
    TruePeak,
    edge,
    level,
    nothing,
    one,
    pair,
)

__all__ = ["HARD"]

_LN16 = 4 * math.log(2)
Random = np.random.Generator


@dataclass(frozen=True)
class Profile(TruePeak):
    """A peak of any shape along one axis: of height 1 as a function of the distance in FWHM.

    Its centre is the middle of the two places at half of its height; for a lopsided one `top`,
    where it is highest, is as good.
    """

    shape: Callable[[Floats], Floats] = np.ones_like
    top: float = math.nan

    def __call__(self, points: Floats) -> Floats:
        return self.height * self.shape((points[:, 0] - self.centers[0]) / self.fwhms[0])

    def matched(self, found: Any) -> bool:
        highest = TruePeak((self.top,), self.fwhms, self.height)
        return super().matched(found) or highest.matched(found)


@dataclass(frozen=True)
class Inclined(TruePeak):
    """A Gaussian with a long and a short FWHM, the long one at an angle to the first axis."""

    long: float = 1.0
    short: float = 1.0
    angle: float = 0.0

    @classmethod
    def at(cls, center: Floats, long: float, short: float, angle: float, height: float) -> Inclined:
        """One with the FWHMs that cuts along the axes through its centre have."""
        c, s = math.cos(angle), math.sin(angle)
        fwhms = (1 / math.hypot(c / long, s / short), 1 / math.hypot(s / long, c / short))
        x, y = map(float, center)
        return cls((x, y), fwhms, height, 0.0, long, short, angle)

    def __call__(self, points: Floats) -> Floats:
        x, y = (points - np.array(self.centers)).T
        c, s = math.cos(self.angle), math.sin(self.angle)
        u2 = ((c * x + s * y) / self.long) ** 2 + ((c * y - s * x) / self.short) ** 2
        return self.height * np.exp(-_LN16 * u2)


class Box(TruePeak):
    """A flat top over two axes, with corners: the image of a slit."""

    def __call__(self, points: Floats) -> Floats:
        u = np.abs(points - np.array(self.centers)) / np.array(self.fwhms)
        return self.height * np.prod((1 - erf((u - 0.5) / 0.08)) / 2, axis=1)


class Disc(TruePeak):
    """A flat top over two axes, round."""

    def __call__(self, points: Floats) -> Floats:
        u = (points - np.array(self.centers)) / np.array(self.fwhms)
        return self.height * (1 - erf((np.hypot(*u.T) - 0.5) / 0.1)) / 2


def lopsided(center: float, sigma: float, tau: float, height: float) -> Profile:
    """An exponentially modified Gaussian."""
    x = np.linspace(-6 * sigma, 6 * sigma + 12 * tau, 20001)
    z = np.maximum((sigma / tau - x / sigma) / math.sqrt(2), -25)
    # Far in the tail erfc is two.
    y = np.where(
        z > -5,
        np.exp(-((x / sigma) ** 2) / 2) * erfcx(z),
        2 * np.exp((sigma / tau) ** 2 / 2 - x / tau),
    )
    y /= y.max()
    above = x[y >= 0.5]
    middle, fwhm = (above[0] + above[-1]) / 2, above[-1] - above[0]
    top = center + float(x[y.argmax()] - middle)

    def shape(u: Floats) -> Floats:
        return np.interp(u * fwhm + middle, x, y, left=0.0, right=0.0)

    return Profile((center,), (float(fwhm),), height, 0.0, shape, top)


def box(center: float, fwhm: float, height: float) -> Profile:
    """A flat top with flanks of a tenth of its width."""

    def shape(u: Floats) -> Floats:
        return (erf((u + 0.5) / 0.1) - erf((u - 0.5) / 0.1)) / 2

    return Profile((center,), (fwhm,), height, 0.0, shape)


def other(sigma: float) -> Reading:
    """Noise that is the same everywhere, no counts."""
    return lambda rng, rate: rate + rng.normal(0, sigma, rate.shape)


def sparks(chance: float, height: float) -> Reading:
    """Counts, some of them far too high, at no place in particular."""

    def reading(rng: Random, rate: Floats) -> Floats:
        counts = rng.poisson(rate).astype(np.float64)
        return counts + height * (rng.random(rate.shape) < chance)

    return reading


def gaps(chance: float) -> Reading:
    """Counts, some of them missing."""
    return lambda rng, rate: rng.poisson(rate) * (rng.random(rate.shape) >= chance).astype(float)


def lone(make: Callable[..., TruePeak], *numbers: float, background: float = 20) -> Draw:
    """One peak of any shape, its centre uniform in 20..80."""
    return lambda rng: ((make(float(rng.uniform(20, 80)), *numbers),), level(background))


def fixed(peaks: Sequence[tuple[float, float, float]], background: float, mixed: float = 0) -> Draw:
    """Peaks (centre, FWHM, height) that are shifted a little, each by itself."""

    def draw(rng: Random) -> tuple[Any, ...]:
        drawn = [(float(c + rng.uniform(-1.5, 1.5)), w, h) for c, w, h in peaks]
        return tuple(TruePeak((c,), (w,), h, mixed) for c, w, h in drawn), level(background)

    return draw


def beside_an_edge(
    apart: tuple[float, float], fwhm: float, height: float, levels: tuple[float, float]
) -> Draw:
    """A peak some distance from a step, on either side."""

    def draw(rng: Random) -> tuple[Any, ...]:
        step = rng.uniform(35, 65)
        center = float(step + rng.choice([-1, 1]) * rng.uniform(*apart))
        return (TruePeak((center,), (fwhm,), height),), edge(*levels, step, 1.2)

    return draw


def bent(low: float, steep: float) -> Rate:
    return lambda at: low + steep * (at[:, 0] - 50) ** 2


def fading(low: float, high: float, length: float) -> Rate:
    return lambda at: low + high * np.exp(-at[:, 0] / length)


def dent(rng: Random) -> Rate:
    center = rng.uniform(20, 80)
    return lambda at: 500 - 400 * np.exp(-_LN16 * ((at[:, 0] - center) / 4) ** 2)


def ridge(rng: Random) -> Rate:
    center = rng.uniform(30, 70)
    return lambda at: 20 + 400 * np.exp(-_LN16 * ((at[:, 0] - center) / 12) ** 2)


def at_both_limits(rng: Random) -> tuple[Any, ...]:
    low, high = rng.uniform(1.5, 3, 2).tolist()
    return (TruePeak((low,), (2.5,), 700), TruePeak((100 - high,), (2.5,), 900)), level(15)


def blend(rng: Random) -> tuple[Any, ...]:
    middle = rng.uniform(25, 75)
    ends = (middle - 2.2, middle + 2.2)
    return tuple(TruePeak((float(c),), (2.2,), 1500, 0.5) for c in ends), level(20)


def inclined(long: float, short: float, within: tuple[float, float] = (30, 70)) -> Draw:
    """A Gaussian that lies across the axes at any angle."""

    def draw(rng: Random) -> tuple[Any, ...]:
        center, angle = rng.uniform(*within, 2), float(rng.uniform(0, math.pi))
        return (Inclined.at(center, long, short, angle, 800),), level(15)

    return draw


def three_of_two_axes(rng: Random) -> tuple[Any, ...]:
    places = np.array([(20, 25), (70, 30), (45, 75)]) + rng.uniform(-3, 3, (3, 2))
    widths = (5.0, 10.0, 18.0)
    sizes = zip(places.tolist(), widths, strict=True)
    return tuple(TruePeak((x, y), (w, w), 700) for (x, y), w in sizes), level(15)


def unequal_of_two_axes(high: float, low: float) -> Draw:
    """Two peaks of very different heights."""

    def draw(rng: Random) -> tuple[Any, ...]:
        places = np.array([(25, 25), (70, 70)]) + rng.uniform(-5, 5, (2, 2))
        (a, b), (c, d) = places.tolist()
        return (TruePeak((a, b), (7, 7), high), TruePeak((c, d), (7, 7), low)), level(15)

    return draw


def three_that_blend(rng: Random) -> tuple[Any, ...]:
    (x, y), turn = rng.uniform(35, 65, 2).tolist(), rng.uniform(0, 2 * math.pi)
    angles = [float(turn + k * 2 * math.pi / 3) for k in range(3)]
    centers = [(x + 6.5 * math.cos(a), y + 6.5 * math.sin(a)) for a in angles]
    heights = zip(centers, (1000, 800, 600), strict=True)
    return tuple(TruePeak(center, (8, 8), height) for center, height in heights), level(15)


def topped(make: type[TruePeak], fwhms: tuple[float, float]) -> Draw:
    """One peak of a shape over two axes."""

    def draw(rng: Random) -> tuple[Any, ...]:
        x, y = rng.uniform(25, 75, 2).tolist()
        return (make((x, y), fwhms, 700),), level(15)

    return draw


def bowl(at: Floats) -> Floats:
    return 50 + 0.05 * ((at - 50) ** 2).sum(axis=1)


def flat(value: float) -> Draw:
    return nothing(lambda rng: level(value))


_NM = ((632e-9, 633e-9),)
_LIMITS = (20.0, 80.0)
_CUBE = ((0.0, 60.0),) * 3
_LORENTZIANS = [(5 + 8 * k, 1.0, 500.0 + 100 * k) for k in range(12)]

_PEAKLESS = (
    Case("noise only, 7 points", (25,), flat(50), peakless=True),
    Case("no counts at all", (3,), flat(0), peakless=True),
    Case("hardly any counts", (2,), flat(0.3), peakless=True),
    Case("other noise, sloping", (0.8,), nothing(lambda rng: level(5, 0.3)), peakless=True,
         reading=other(1)),
    Case("sparks", (2,), flat(20), peakless=True, reading=sparks(0.03, 4000)),
    Case("a dip", (3,), nothing(dent), peakless=True),
    Case("a sharp step from zero", (3,),
         nothing(lambda rng: edge(0, 50, rng.uniform(20, 80), 0.01)), peakless=True),
)  # fmt: skip

_ONE = (
    Case("on a steep slope", (3,), one(3, 400, level(3000, -25))),
    Case("on a slope, other noise", (3,), one(4, 20, level(-40, 3)), reading=other(1)),
    Case("on a parabola", (2,), one(2.5, 500, bent(50, 0.4), _LIMITS)),
    Case("on a decay", (2,), one(2, 300, fading(30, 2000, 15), _LIMITS)),
    Case("0.04 nm", (2e-11,), one(4e-11, 6e-9, level(1e-10), (632.2e-9, 632.8e-9)), _NM,
         reading=other(1e-10)),
    Case("encoder, backwards", (60,), one(90, 700, level(40), (101e3, 109e3)), ((11e4, 10e4),)),
    Case("20 on 0.5", (2,), one(3, 20, level(0.5), _LIMITS)),
    Case("1e8 on 1e7", (2,), one(2, 1e8, level(1e7), _LIMITS)),
    Case("five sigma, other noise", (3,), one(4, 5, level(3), _LIMITS), reading=other(1)),
    Case("sparks and a peak", (3,), one(4, 1000, level(20), _LIMITS), reading=sparks(0.02, 3000)),
    Case("lopsided", (3,), lone(lopsided, 1.5, 1.5, 800)),
    Case("very lopsided", (3,), lone(lopsided, 1.2, 2.4, 800)),
    Case("flat-top", (5,), lone(box, 6, 900)),
    Case("flat-top FWHM 15, w = 2", (2,), lone(box, 15, 900)),
    Case("step and peak", (2,), beside_an_edge((12, 22), 3, 500, (30, 330))),
    Case("peak 7 from a step", (2,), beside_an_edge((7, 7), 2.5, 500, (30, 330))),
    Case("falling step and peak", (2,), beside_an_edge((12, 22), 3, 10, (12, 1)),
         reading=other(0.3)),
)  # fmt: skip

_SEVERAL = (
    Case("1:20, 3 FWHM apart", (2,), pair(7.5, (2.5, 2.5), (4000, 200), level(10))),
    Case("pseudo-Voigt doublet", (2,), blend),
    Case("widths 1, 4 and 12", (1,), fixed([(11, 1, 600), (40, 4, 600), (72, 12, 600)], 30)),
    Case("the same, pseudo-Voigt", (1,),
         fixed([(11, 1.2, 900), (40, 3, 900), (72, 8, 900)], 30, 0.5)),
    Case("at both limits", (2,), at_both_limits),
    Case("12 Lorentzians", (0.8,), fixed(_LORENTZIANS, 25, 1)),
)  # fmt: skip

_MORE_AXES = (
    Case("2-D inclined 5.5x22", (5, 5), inclined(22, 5.5), SQUARE),
    Case("2-D on a steep slope", (6, 6), one((8, 6), 400, level(900, -6, 3)), SQUARE),
    Case("2-D widths 5, 10 and 18", (5, 5), three_of_two_axes, SQUARE),
    Case("2-D 1:20", (6, 6), unequal_of_two_axes(5000, 250), SQUARE),
    Case("2-D Lorentzian", (7, 7), one((8, 9), 900, level(20), lorentzian=1), SQUARE),
    Case("2-D weak, 40 on 50", (10, 10), one((12, 12), 40, level(50)), SQUARE),
    Case("2-D ridge", (8, 8), nothing(ridge), SQUARE, peakless=True),
    Case("2-D sparks", (8, 8), flat(20), SQUARE, peakless=True, reading=sparks(0.02, 3000)),
    Case("2-D disc", (8, 8), topped(Disc, (14, 14)), SQUARE),
    Case("2-D streak 5x40", (5, 5), inclined(40, 5, (40, 60)), SQUARE),
    Case("2-D 1:100", (6, 6), unequal_of_two_axes(20000, 200), SQUARE),
    Case("2-D cut by the edge", (8, 8), one((8, 8), 800, level(15), ((0.3, 2), (25, 75))), SQUARE),
    Case("2-D on a bowl", (8, 8), one((8, 9), 400, bowl), SQUARE),
    Case(
        "2-D of 8 nm",
        (6e-9, 6e-9),
        one((8e-9, 7e-9), 5e-9, level(1e-10), (2e-8, 8e-8)),
        ((0.0, 1e-7), (0.0, 1e-7)),
        reading=other(1e-10),
    ),
    Case("2-D three that blend", (8, 8), three_that_blend, SQUARE),
    Case(
        "2-D sparks and a peak",
        (8, 8),
        one((10, 12), 1000, level(20)),
        SQUARE,
        reading=sparks(0.02, 3000),
    ),
    Case(
        "2-D gaps and a peak", (8, 8), one((10, 12), 1000, level(100)), SQUARE, reading=gaps(0.02)
    ),
    Case("2-D box", (8, 8), topped(Box, (12, 16)), SQUARE),
    Case("2-D oblong disc", (8, 8), topped(Disc, (20, 13)), SQUARE),
    Case("2-D weak, other noise", (8, 8), one((10, 10), 4, level(3)), SQUARE, reading=other(1)),
    Case("3-D weak, 40 on 50", (12, 12, 12), one((14, 14, 14), 40, level(50), (18, 42)), _CUBE),
    Case("3-D 10x12x10", (10, 10, 10), one((10, 12, 10), 1000, level(10), (15, 45)), _CUBE),
)

HARD = _PEAKLESS + _ONE + _SEVERAL + _MORE_AXES
