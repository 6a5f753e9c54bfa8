"""The curves that peaks are taken for, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BACKGROUNDS", "FLAT_TOP", "MIXED", "SHAPES", "Floats", "Model"]

Floats = npt.NDArray[np.float64]

SHAPES = ("gaussian", "lorentzian", "pseudo-voigt")
#: A shape that is only tried with a reason: two peaks look like it.
FLAT_TOP = "flat-top"
#: The shapes with a parameter more, and the largest value that it may have.
MIXED = {"pseudo-voigt": 1.0, FLAT_TOP: 0.95}

#: Degree of the polynomial under the peaks, by name.
BACKGROUNDS = {"constant": 0, "linear": 1, "quadratic": 2}

_LN16 = 4 * math.log(2)


class Model:
    """Peaks on a polynomial background, at given positions in ascending order.

    The parameters are one vector: the centres, the logarithms of the FWHMs, the heights, the
    mixing of each peak that is a pseudo-Voigt or has a flat top, and the coefficients of the
    background in powers of ``(x - origin) / scale``. With t the distance to the centre in FWHM, a
    Gaussian is ``exp(-4 ln2 t^2)``, a Lorentzian ``1 / (1 + 4 t^2)``, a pseudo-Voigt the sum of
    both, the mixing of the one and what remains to 1 of the other, and a flat top the
    super-Gaussian ``exp(-ln2 |2 t|^p)`` with ``p = 2 / (1 - mixing)``: from a Gaussian at 0 almost
    to a box.
    """

    def __init__(self, x: Floats, shapes: Sequence[str], degree: int) -> None:
        self.shapes = tuple(shapes)
        self.count = len(self.shapes)
        self.low, self.high = (float(x[0]), float(x[-1])) if x.size else (0.0, 1.0)
        self.origin = (self.low + self.high) / 2
        self.scale = (self.high - self.low) / 2 or 1.0
        self.degree = degree
        self.mixed = [k for k, shape in enumerate(self.shapes) if shape in MIXED]
        self.background_at = 3 * self.count + len(self.mixed)
        self.size = self.background_at + degree + 1
        self._take(x)

    def at(self, x: Floats) -> Model:
        """The same model at other positions: the background keeps its origin and scale."""
        other = object.__new__(Model)
        other.__dict__.update(self.__dict__)
        other._take(x)
        return other

    def alone(self, k: int) -> tuple[Model, list[int]]:
        """The same model with one of its peaks only, and which of the parameters that one has."""
        m = self.count
        which = [k, m + k, 2 * m + k]
        which += [3 * m + self.mixed.index(k)] if k in self.mixed else []
        which += range(self.background_at, self.size)
        other = object.__new__(Model)
        other.__dict__.update(self.__dict__)
        other.shapes, other.count = self.shapes[k : k + 1], 1
        other.mixed = [0] if k in self.mixed else []
        other.size, other.background_at = len(which), len(which) - self.degree - 1
        other._rows = self._rows[which]
        return other, which

    def _take(self, x: Floats) -> None:
        self.x = x
        # One row for each parameter: few long rows cost less than many short ones. Those of the
        # background are always the same.
        self._rows = np.empty((self.size, x.size))
        self._rows[self.background_at] = 1.0
        if self.degree:
            power = scaled = (x - self.origin) / self.scale
            for at in range(self.background_at + 1, self.size):
                self._rows[at] = power
                power = power * scaled

    def fractions(self, parameters: Floats) -> list[float]:
        """The mixing of each peak: 1 for a Lorentzian, 0 for a Gaussian."""
        fractions = [float(shape == "lorentzian") for shape in self.shapes]
        for k, at in enumerate(self.mixed):
            fractions[at] = float(parameters[3 * self.count + k])
        return fractions

    def background(self, parameters: Floats, x: Floats | float) -> Floats | float:
        """The curve without its peaks at some positions."""
        lowest, *higher = parameters[self.background_at :].tolist()
        if not higher:
            return lowest
        u = (x - self.origin) / self.scale
        return lowest + u * (higher[0] if len(higher) == 1 else higher[0] + u * higher[1])

    def evaluate(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """The peaks alone, the whole curve, and its derivatives of the shape (parameters, n)."""
        m, first = self.count, self.background_at
        rows = self._rows.copy()
        numbers = parameters.tolist()
        mixed = 3 * m
        for k, shape in enumerate(self.shapes):
            where = rows[k], rows[m + k], rows[2 * m + k]
            one = numbers[k], math.exp(numbers[m + k]), numbers[2 * m + k]
            if shape == "gaussian":
                _gaussian(self.x, *one, *where)
            elif shape == "lorentzian":
                _lorentzian(self.x, *one, *where)
            else:
                draw = _flat_top if shape == FLAT_TOP else _pseudo_voigt
                draw(self.x, *one, numbers[mixed], *where, rows[mixed])
                mixed += 1
        peaks = parameters[2 * m : 3 * m].dot(rows[2 * m : 3 * m])
        under = parameters[first:].dot(rows[first:]) if self.degree else numbers[first]
        return peaks, peaks + under, rows


def _gaussian(
    x: Floats,
    center: float,
    fwhm: float,
    height: float,
    by_center: Floats,
    by_width: Floats,
    by_height: Floats,
) -> None:
    """Write the derivatives of a Gaussian by centre, logarithm of the FWHM, and height."""
    steep = _LN16 / fwhm / fwhm
    away = x - center
    np.multiply(away, -steep, by_center)
    np.multiply(by_center, away, by_height)
    np.exp(by_height, by_height)
    by_center *= by_height
    by_center *= -2.0 * height
    np.multiply(by_center, away, by_width)


def _lorentzian(
    x: Floats,
    center: float,
    fwhm: float,
    height: float,
    by_center: Floats,
    by_width: Floats,
    by_height: Floats,
) -> None:
    """The same for a Lorentzian."""
    steep = 4.0 / fwhm / fwhm
    away = x - center
    np.multiply(away, steep, by_center)
    np.multiply(by_center, away, by_height)
    by_height += 1.0
    np.divide(1.0, by_height, by_height)
    by_center *= by_height
    by_center *= by_height
    by_center *= 2.0 * height
    np.multiply(by_center, away, by_width)


def _pseudo_voigt(
    x: Floats,
    center: float,
    fwhm: float,
    height: float,
    fraction: float,
    by_center: Floats,
    by_width: Floats,
    by_height: Floats,
    by_fraction: Floats,
) -> None:
    """The same for a pseudo-Voigt, and by its Lorentzian fraction."""
    steep, far = _LN16 / fwhm / fwhm, 4.0 / fwhm / fwhm
    away = x - center
    np.multiply(away, away, by_width)
    tails = by_width * far
    tails += 1.0
    np.divide(1.0, tails, tails)
    by_width *= -steep
    np.exp(by_width, by_width)
    np.subtract(tails, by_width, by_fraction)
    np.multiply(by_fraction, fraction, by_height)
    by_height += by_width
    by_fraction *= height
    # Both fall with the square of the distance, the Lorentzian with the square of itself.
    tails *= tails
    tails *= 2.0 * far * height * fraction
    by_width *= 2.0 * steep * height * (1.0 - fraction)
    tails += by_width
    np.multiply(tails, away, by_center)
    np.multiply(by_center, away, by_width)


def _flat_top(
    x: Floats,
    center: float,
    fwhm: float,
    height: float,
    mixing: float,
    by_center: Floats,
    by_width: Floats,
    by_height: Floats,
    by_mixing: Floats,
) -> None:
    """The same for a super-Gaussian, and by its mixing."""
    power = 2.0 / (1.0 - mixing)
    away = x - center
    # At the centre itself everything that the logarithm is multiplied with is zero.
    logarithm = np.log(np.maximum(np.abs(away) * (2.0 / fwhm), 1e-100))
    # Beyond exp(-600) nothing is left of it.
    falls = math.log(2) * np.exp(np.minimum(power * logarithm, math.log(600 / math.log(2))))
    np.exp(-falls, by_height)
    np.multiply(by_height, falls, by_mixing)
    np.multiply(by_mixing, height * power, by_width)
    np.divide(by_width, np.where(away == 0.0, 1.0, away), by_center)
    by_mixing *= logarithm
    by_mixing *= -0.5 * height * power * power
