"""The curves that peaks are taken for, and their derivatives."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["BACKGROUNDS", "SHAPES", "Floats", "Model"]

Floats = npt.NDArray[np.float64]

SHAPES = ("gaussian", "lorentzian", "pseudo-voigt")

#: Degree of the polynomial under the peaks, by name.
BACKGROUNDS = {"constant": 0, "linear": 1, "quadratic": 2}

_LN16 = 4 * math.log(2)


class Model:
    """Peaks on a polynomial background, at given positions.

    The parameters are one vector: the centres, the logarithms of the FWHMs, the heights, the
    Lorentzian fraction of each peak that is a pseudo-Voigt, and the coefficients of the background
    in powers of ``(x - origin) / scale``. With t the distance to the centre in FWHM, a Gaussian is
    ``exp(-4 ln2 t^2)``, a Lorentzian ``1 / (1 + 4 t^2)``, and a pseudo-Voigt the sum of both, the
    fraction of the one and what remains to 1 of the other.
    """

    def __init__(self, x: Floats, shapes: Sequence[str], degree: int) -> None:
        self.shapes = tuple(shapes)
        self.count = len(self.shapes)
        low, high = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
        self.origin = (low + high) / 2
        self.scale = (high - low) / 2 or 1.0
        self.degree = degree
        self.mixed = np.flatnonzero([shape == "pseudo-voigt" for shape in self.shapes])
        self.background_at = 3 * self.count + self.mixed.size
        self.size = self.background_at + degree + 1
        self._fixed = np.array([float(shape == "lorentzian") for shape in self.shapes])
        self._tails = bool(self.mixed.size or self._fixed.any())
        self._take(x)

    def at(self, x: Floats) -> Model:
        """The same model at other positions: the background keeps its origin and scale."""
        other = object.__new__(Model)
        other.__dict__.update(self.__dict__)
        other._take(x)
        return other

    def _take(self, x: Floats) -> None:
        self.x = x
        self._basis = np.empty((x.size, self.degree + 1))
        self._basis[:, 0] = 1.0
        if self.degree:
            self._basis[:, 1] = (x - self.origin) / self.scale
            for power in range(2, self.degree + 1):
                self._basis[:, power] = self._basis[:, power - 1] * self._basis[:, 1]

    def fractions(self, parameters: Floats) -> Floats:
        """The Lorentzian fraction of each peak."""
        fractions = self._fixed.copy()
        fractions[self.mixed] = parameters[3 * self.count : self.background_at]
        return fractions

    def background(self, parameters: Floats) -> Floats:
        """The curve without its peaks, shape (n,)."""
        return self._basis @ parameters[self.background_at :]

    def evaluate(self, parameters: Floats) -> tuple[Floats, Floats, Floats]:
        """The peaks alone, the whole curve, and its Jacobian of the shape (n, parameters)."""
        m = self.count
        jacobian = np.empty((self.x.size, self.size))
        jacobian[:, self.background_at :] = self._basis
        fwhm = np.exp(parameters[m : 2 * m])
        heights = parameters[2 * m : 3 * m]
        t = (self.x[:, None] - parameters[:m]) / fwhm
        squared = t * t
        curve = np.exp(-_LN16 * squared)
        # The derivative by the centre is this over the FWHM; that by log FWHM, this times t.
        steep = 2.0 * _LN16 * curve * t
        if self._tails:
            fractions = self.fractions(parameters)
            tails = 1.0 / (1.0 + 4.0 * squared)
            mixed = self.mixed
            jacobian[:, 3 * m : self.background_at] = (tails - curve)[:, mixed] * heights[mixed]
            steep += fractions * (8.0 * tails * tails * t - steep)
            curve += fractions * (tails - curve)
        steep *= heights
        jacobian[:, :m] = steep / fwhm
        jacobian[:, m : 2 * m] = steep * t
        jacobian[:, 2 * m : 3 * m] = curve
        peaks = curve @ heights
        return peaks, peaks + self.background(parameters), jacobian
