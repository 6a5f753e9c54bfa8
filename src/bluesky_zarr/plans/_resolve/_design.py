"""Where the next points tell most about the peaks."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["between", "fill", "informative"]

Floats = npt.NDArray[np.float64]


def fill(taken: Floats, low: float, high: float, gap: float) -> list[float]:
    """Points between `low` and `high` that leave no gap wider than `gap`.

    `taken` are positions in ascending order where readings are.
    """
    inside = taken[taken.searchsorted(low, "right") : taken.searchsorted(high)].tolist()
    # An end itself needs no reading: half a gap outside of it is near enough.
    points = []
    for left, right in pairwise([low - gap / 2, *inside, high + gap / 2]):
        parts = math.ceil((right - left) / gap - 0.05)
        points += [left + (right - left) * k / parts for k in range(1, parts)]
    return points


def between(taken: Floats, low: float, high: float) -> list[float]:
    """Points to check with what stands out between `low` and `high`: in the widest gaps."""
    inside = taken[(taken >= low) & (taken <= high)]
    if inside.size <= 3:
        # Beside the one or two readings that stand out, where a peak between points is higher.
        sixth = (high - low) / 6
        return [low + 2 * sixth, high - 2 * sixth]
    gaps = np.diff(inside)
    widest = np.argsort(-gaps)[:4]
    return [float((inside[k] + inside[k + 1]) / 2) for k in widest]


def informative(
    candidates: Floats,
    jacobian: Floats,
    variance: Floats,
    covariance: Floats,
    targets: dict[int, float],
    most: int,
) -> list[float]:
    """Positions that bring the errors of some parameters down to what is asked, one by one.

    Each is the candidate that most reduces the sum of the variances in units of the asked ones, an
    A-optimal design by exchange (V. V. Fedorov, Theory of Optimal Experiments, 1972): adding a
    reading with the derivatives j and the variance v to a fit with the covariance C takes
    ``C j j' C / (v + j' C j)`` from it.

    Parameters
    ----------
    candidates
        Positions, shape (n,).
    jacobian, variance
        The derivatives of the curve there, shape (n, parameters), and a reading's variance, shape
        (n,); after them those of readings that are planned anyway.
    covariance
        That of the parameters as far as they are known.
    targets
        The standard deviation asked for, by the number of the parameter.
    most
        No more positions than this.
    """
    n = candidates.size
    covariance = covariance.copy()
    for j, v in zip(jacobian[n:], variance[n:], strict=True):
        moved = covariance.dot(j)
        covariance -= moved[:, None] * (moved / (v + j.dot(moved)))
    jacobian = jacobian[:n]
    asked = list(targets)
    weights = np.array([targets[k] ** -2 for k in asked])
    left = [float(covariance[k, k]) / targets[k] ** 2 for k in asked]
    chosen: list[float] = []
    if max(left) <= 1:
        return chosen
    # What a reading would tell, kept up to date: of each parameter asked for, and altogether.
    spread = jacobian.dot(covariance)
    tells = spread.T[asked]
    total = variance[:n] + np.einsum("ij,ij->i", spread, jacobian)
    free = np.ones(n)
    while len(chosen) < min(most, n) and max(left) > 1:
        gain = weights.dot(tells * tells)
        gain *= free
        gain /= total
        best = int(gain.argmax())
        free[best] = 0.0
        chosen.append(float(candidates[best]))
        moved = covariance.dot(jacobian[best]) / math.sqrt(total[best])
        covariance -= moved[:, None] * moved
        along = jacobian.dot(moved)
        tells -= moved[asked][:, None] * along
        along *= along
        total -= along
        left = [covariance.item(k, k) / targets[k] ** 2 for k in asked]
    return chosen
