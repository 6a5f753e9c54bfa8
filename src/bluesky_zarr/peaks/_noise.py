"""How far a reading may lie from the truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ._models import Floats

__all__ = ["Noise", "extent", "lower_quartile", "median", "total"]

#: Normal standard deviations per median absolute deviation.
_MAD = 1.4826
#: The least that the 80th percentile speaks for, 0.85 of what it is in the mean.
_MOST = 0.85 / 1.2816
#: Normal standard deviations per lower quartile of absolute deviations.
_QUARTER = 3.1381
#: No line of an instrument follows a formula better than this fraction of its height: without
#: it the smallest departure of a strong peak from the formula would be taken for another peak.
_SHAPE_ERROR = 0.01
#: So many values are added sooner one by one.
_FEW = 60
#: From here on all float64 are whole numbers, which then says nothing.
_WHOLE = 2.0**52
#: What is below this fraction of the whole signal's range is taken for noise, even in a signal
#: without any.
_FLOOR = 0.002


def total(values: Floats) -> float:
    """The sum: what is around it in numpy takes longer than adding few values."""
    return sum(values.tolist()) if values.size < _FEW else float(np.add.reduce(values))


def extent(values: Floats) -> float:
    """The difference of the largest and the smallest of at least one value."""
    return float(np.maximum.reduce(values) - np.minimum.reduce(values))


def median(values: Floats) -> float:
    """The median of at least one value; that of numpy takes ten times as long for few values."""
    ordered = np.sort(values)
    half = ordered.size // 2
    if ordered.size % 2:
        return float(ordered[half])
    return (float(ordered[half - 1]) + float(ordered[half])) / 2


def lower_quartile(values: Floats) -> float:
    """The 25th percentile of at least one value, on a line between two where it has to be."""
    ordered = np.sort(values)
    at, part = divmod(0.25 * (ordered.size - 1), 1)
    low = float(ordered[int(at)])
    return low + part * (float(ordered[int(at) + 1]) - low) if part else low


@dataclass(frozen=True)
class Noise:
    """The variance of a reading as a function of what is expected: ``offset + gain * expected``.

    Counts have a gain of one and no offset (Poisson), and at least the variance of one count;
    other signals have the same variance everywhere.

    >>> Noise.of(np.array([3.0, 5.0, 4.0, 60.0, 2.0])).gain
    1.0
    """

    gain: float = 0.0
    offset: Floats | float = 0.0
    floor: Floats | float = 0.0
    shape_error: float = _SHAPE_ERROR

    @property
    def counts(self) -> bool:
        """Whether the noise follows from the expectation itself."""
        return self.gain > 0

    @classmethod
    def of(cls, y: Floats) -> Noise:
        """The noise of readings in order along the axis: counts, or something else.

        Whole numbers, none negative, are counts, or a multiple of counts; if they scatter far less
        than counts would, they are counts on an offset. Readings of other kinds have the same noise
        everywhere, which is taken from their second differences: what a straight line between
        neighbours does not explain.
        """
        if not y.size or not (height := extent(y)):
            return cls.constant(1e-12 * (abs(float(y[0])) if y.size and y[0] else 1.0))
        floor = _FLOOR * height
        around = y[2:] + y[:-2]
        around *= 0.5
        second = np.abs(y[1:-1] - around)
        countable = np.minimum.reduce(y) >= 0 and np.maximum.reduce(y) < _WHOLE
        if countable and not np.count_nonzero(y != np.rint(y)):
            # Few different values may have a common divisor by chance.
            many = len(set(y.tolist())) >= 6 and np.maximum.reduce(y) < 1e15
            gain = float(np.gcd.reduce(y.astype(np.int64))) if many else 1.0
            if y.size >= 16:
                around += y[1:-1]
                around = np.maximum(around, 2 * gain)
                # As large as expected of counts: one. A quarter is free of peaks even among many.
                scatter = np.sort(second / np.sqrt(0.75 * gain * around))[: second.size // 4 + 1]
                if _QUARTER * scatter[-1] < 0.3:
                    sigma = _MAD * median(second) / math.sqrt(1.5)
                    level = median(y)
                    return cls(gain, sigma**2 - gain * level, max(sigma**2 / 4, gain**2))
            return cls(gain, floor=gain**2)
        sigma = _MAD * median(second) / math.sqrt(1.5) if y.size >= 4 else 0.0
        return cls.constant(max(sigma, floor))

    def above(self, known: Floats) -> Noise:
        """The noise of readings from which a known part, shape (n,), was taken away."""
        return Noise(self.gain, self.offset + self.gain * known, self.floor, self.shape_error)

    @classmethod
    def between(cls, x: Floats, rest: Floats, y: Floats) -> Noise:
        """The same noise everywhere, as it shows in how the readings y, in ascending order of their
        places x, depart from a line between their neighbours; `rest` is what is no peak of them.
        """
        apart = np.maximum(x[2:] - x[:-2], 1e-300)
        part = np.minimum((x[1:-1] - x[:-2]) / apart, 1.0)
        departs = rest[1:-1] - (1 - part) * rest[:-2] - part * rest[2:]
        sigma = _MAD * median(np.abs(departs) / np.sqrt(1 + part**2 + (1 - part) ** 2))
        return cls.constant(max(sigma, _FLOOR * extent(y)))

    @classmethod
    def left(cls, rest: Floats, y: Floats) -> Noise:
        """The same noise everywhere, as it shows in what a fit leaves of the readings y."""
        away = np.sort(np.abs(rest))
        # Of few readings half may lie close by chance; hardly four of five do.
        sigma = max(_MAD * median(away), _MOST * float(away[4 * away.size // 5]))
        return cls.constant(max(sigma, _FLOOR * float(np.ptp(y))))

    @classmethod
    def constant(cls, sigma: float) -> Noise:
        """The same standard deviation for all readings."""
        return cls(offset=sigma**2, floor=sigma**2)

    @classmethod
    def given(cls, sigma: Floats) -> Noise:
        """The standard deviation of each reading, shape (n,), as somebody knows it."""
        return cls(offset=sigma**2, floor=sigma**2, shape_error=0.0)

    def variance(self, expected: Floats, peaks: Floats | float = 0.0) -> Floats:
        """The variance of readings whose expectation is `expected`, `peaks` of it from peaks."""
        # Called at each step of each fit: what changes nothing is not calculated.
        if self.gain != 1.0:
            expected = expected * self.gain
        if isinstance(self.offset, np.ndarray) or self.offset:
            expected = expected + self.offset
        own = np.maximum(expected, self.floor)
        if isinstance(peaks, float):
            return own + (peaks * self.shape_error) ** 2 if peaks else own
        wrong = peaks * self.shape_error
        wrong *= wrong
        wrong += own
        return wrong
