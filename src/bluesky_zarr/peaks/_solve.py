"""Least squares with weights that follow the model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from operator import lt
from typing import Any

import numpy as np

from ._models import Floats, Model

__all__ = ["ENOUGH", "Solution", "solve", "solved"]


#: Where a fit ends: no parameter is then off by more than a fiftieth of its error.
ENOUGH = 0.0004
#: The weights of so many steps are those of the model; where it does not describe the readings,
#: these may swing, and settle when they change by less and less.
_FREELY = 3
#: No diagonal element is smaller: what has no part in the curve gets no step, and no error.
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the fit ended: parameters, curve, its derivatives, variances, and chi-squared.

    `peaks` is what of the curve is not background; `derivatives` have the shape (parameters, n).
    """

    parameters: Floats
    peaks: Floats
    curve: Floats
    derivatives: Floats
    variance: Floats
    chi_squared: float
    converged: bool

    @cached_property
    def covariance(self) -> Floats:
        """That of the parameters; many a fit is only made to be compared with another."""
        with np.errstate(over="ignore", invalid="ignore"):
            weighted = self.derivatives * (1.0 / self.variance)
            return _inverse(weighted.dot(self.derivatives.T))


@np.errstate(over="ignore", invalid="ignore")  # a step far too long is taken back
def solve(
    model: Model,
    y: Floats,
    start: Floats,
    low: Sequence[float],
    high: Sequence[float],
    variance: Callable[[Floats, Floats], Floats],
    *,
    pull: tuple[range, float, float] | None = None,
    rounds: int = 30,
    enough: float = ENOUGH,
    hopeless: float = math.inf,
) -> Solution:
    """Levenberg-Marquardt within limits, the weights renewed from the model at each step.

    With the variance of counts this is Fisher scoring, which ends where Poisson's likelihood is
    largest; weights from the data would favour the readings that came out low. `pull` is what is
    believed beforehand: which parameters are hardly below a value, the value, and the inverse
    variance of this belief. It moves the solution and has no part in its errors. A step that
    promises to lower chi-squared by less than `enough`, in units of that per degree of freedom, is
    not made; a fit whose chi-squared will stay above `hopeless` is given up.
    """
    posv = _posv()
    lowest, highest = np.array(low), np.array(high)
    p = np.minimum(np.maximum(start, lowest), highest)
    peaks, curve, rows = model.evaluate(p)
    rest = y - curve
    v = renewed = variance(curve, peaks)
    describes = True
    if not rest.dot(rest / v) < 4 * y.size:
        # The model may be far too low under a peak: nothing weighs more than it should.
        v = variance(np.maximum(curve, y), peaks)
        describes = False
    damping = 0.0
    converged = False
    numbers = p.tolist()
    for number in range(rounds):
        weight = 1.0 / v
        over = rest * weight
        chi = float(rest.dot(over))
        least = enough * max(1.0, chi / y.size)
        gradient = rows.dot(over)
        hessian = (rows * weight).dot(rows.T)
        diagonal = hessian.reshape(-1)[:: p.size + 1]
        if pull is not None:
            chi += _pulled(numbers, pull, gradient, diagonal)
        if not (all(map(lt, low, numbers)) and all(map(lt, numbers, high))):
            _hold(numbers, low, high, gradient, hessian)
        bare = diagonal + _TINY
        gain = 0.0
        for _ in range(8):
            np.multiply(bare, 1.0 + damping + 1e-10, diagonal)
            _, step, failed = posv(hessian, gradient)
            if failed:
                damping = max(damping * 8, 1e-3)
                continue
            promised = float(gradient.dot(step))
            if describes and not damping and promised < least:
                converged = True
                break
            if number and describes and chi - promised > hopeless:
                return _described(p, peaks, curve, rows, rest, renewed, converged=False)
            trial = np.minimum(np.maximum(p + step, lowest), highest)
            new_peaks, new_curve, new_rows = model.evaluate(trial)
            new_rest = y - new_curve
            new_numbers = trial.tolist()
            gain = chi - float(new_rest.dot(new_rest * weight))
            if pull is not None:
                gain -= _pulled(new_numbers, pull)
            if gain >= -1e-9 * chi:
                p, peaks, curve, rows, rest = trial, new_peaks, new_curve, new_rows, new_rest
                numbers = new_numbers
                damping = damping / 8 if damping > 1e-4 else 0.0
                break
            damping = max(damping * 8, 1e-2)
        else:
            break
        if converged:
            break
        renewed = variance(curve, peaks)
        v = renewed if number < _FREELY else v * (renewed / v) ** (_FREELY / (number + 1))
        describes = True
        if number and gain < 25 * least:
            converged = True
            break
    return _described(p, peaks, curve, rows, rest, renewed, converged=converged)


def _hold(
    numbers: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    gradient: Floats,
    hessian: Floats,
) -> None:
    """What lies on a limit and wants past it stays there."""
    for k, at in enumerate(numbers):
        if (at <= low[k] and gradient[k] < 0) or (at >= high[k] and gradient[k] > 0):
            gradient[k] = 0.0
            hessian[k] = 0.0
            hessian[:, k] = 0.0


def _pulled(
    numbers: Sequence[float],
    pull: tuple[range, float, float],
    gradient: Floats | None = None,
    diagonal: Floats | None = None,
) -> float:
    """What chi-squared is larger by for what is believed beforehand; it is added to the others."""
    chi = 0.0
    which, value, firm = pull
    for k in which:
        short = value - numbers[k]
        if short > 0:
            chi += firm * short * short
            if gradient is not None and diagonal is not None:
                gradient[k] += firm * short
                diagonal[k] += firm
    return chi


def _described(
    p: Floats,
    peaks: Floats,
    curve: Floats,
    rows: Floats,
    rest: Floats,
    v: Floats,
    *,
    converged: bool,
) -> Solution:
    return Solution(p, peaks, curve, rows, v, float(rest.dot(rest / v)), converged)


@cache
def _posv() -> Callable[..., Any]:
    """LAPACK's solver for few equations: what is around it in numpy takes longer than itself."""
    from scipy.linalg import get_lapack_funcs

    (posv,) = get_lapack_funcs(("posv",), dtype=np.float64)
    return posv


@cache
def _identity(size: int) -> Floats:
    return np.eye(size)


def solved(matrix: Floats, right: Floats) -> Floats:
    """The solution of a few normal equations; what they say nothing of is nearly zero."""
    matrix = matrix.copy()
    diagonal = matrix.ravel()[:: right.size + 1]
    diagonal *= 1.0 + 1e-12
    diagonal += _TINY
    _, solution, failed = _posv()(matrix, right)
    if failed:
        return np.asarray(np.linalg.lstsq(matrix, right, rcond=None)[0], dtype=np.float64)
    return solution


def _inverse(information: Floats) -> Floats:
    """The covariance; what the points say nothing of has a huge variance."""
    scale = 1.0 / np.sqrt(np.maximum(information.diagonal(), _TINY))
    scales = scale[:, None] * scale
    scaled = information * scales
    scaled.ravel()[:: scale.size + 1] = 1.0 + 1e-10
    _, inverse, failed = _posv()(scaled, _identity(scale.size))
    return np.diag(np.full(scale.size, np.inf)) if failed else inverse * scales
