"""Flat tops over several axes, and their derivatives."""

from __future__ import annotations

import math

import numpy as np

from ._models import Floats

__all__ = ["box", "disc"]

_LN2 = math.log(2)
#: Beyond exp(-600) nothing is left; the logarithm of where that is.
_GONE = math.log(600 / _LN2)
#: At the centre itself everything that the logarithm is multiplied with is zero.
_LEAST = 1e-60


def disc(q: Floats, mixing: float) -> tuple[Floats, Floats, Floats]:
    """``exp(-ln2 (4 q)^(p / 2))``, ``p = 2 / (1 - mixing)``, q being the squared distance in FWHM.

    Returns
    -------
    tuple
        The shape, minus its derivative by q, and its derivative by the mixing, each like `q`.
    """
    power = 2.0 / (1.0 - mixing)
    q = np.maximum(q, _LEAST)
    logarithm = np.log(4.0 * q)
    falls = _LN2 * np.exp(np.minimum(0.5 * power * logarithm, _GONE))
    shape = np.exp(-falls)
    falls *= shape
    return shape, 0.5 * power * falls / q, -0.25 * power * power * falls * logarithm


def box(u: Floats, mixing: float) -> tuple[Floats, Floats, Floats]:
    """The product over the axes of ``exp(-ln2 |2 u|^p)``, ``p = 2 / (1 - mixing)``, u in FWHM.

    Returns
    -------
    tuple
        The shape, shape (n,); minus u times its derivative by u, for each axis, shape of `u`; and
        its derivative by the mixing, shape (n,).
    """
    power = 2.0 / (1.0 - mixing)
    logarithm = np.log(np.maximum(np.abs(2.0 * u), _LEAST))
    falls = _LN2 * np.exp(np.minimum(power * logarithm, _GONE))
    shape = np.exp(-np.add.reduce(falls, axis=0))
    falls *= shape
    return shape, power * falls, -0.5 * power * power * np.add.reduce(falls * logarithm, axis=0)
