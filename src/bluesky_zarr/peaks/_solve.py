"""Least squares with weights that follow the model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ._models import Floats, Model

__all__ = ["Solution", "solve"]


#: A step that promises to lower chi-squared per degree of freedom by less is not worth its cost: no
#: parameter is off by more than a fiftieth of its error.
_ENOUGH = 0.0004
#: The weights of so many steps are those of the model; where it does not describe the readings,
#: these may swing, and settle when they change by less and less.
_FREELY = 3


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the fit ended: parameters, their covariance, curve, variances, and chi-squared.

    `peaks` is what of the curve is not background.
    """

    parameters: Floats
    covariance: Floats
    peaks: Floats
    curve: Floats
    variance: Floats
    chi_squared: float
    converged: bool


@np.errstate(over="ignore", invalid="ignore")  # a step far too long is taken back
def solve(
    model: Model,
    y: Floats,
    start: Floats,
    low: Floats,
    high: Floats,
    variance: Callable[[Floats, Floats], Floats],
    *,
    pull: tuple[Floats, Floats] | None = None,
    rounds: int = 30,
    hopeless: float = math.inf,
) -> Solution:
    """Levenberg-Marquardt within limits, the weights renewed from the model at each step.

    With the variance of counts this is Fisher scoring, which ends where Poisson's likelihood is
    largest; weights from the data would favour the readings that came out low. `pull` is what is
    believed beforehand: values that parameters are hardly below, and the inverse variance of this
    belief, each of the shape (parameters,). It moves the solution and has no part in its errors.
    A fit whose chi-squared will stay above `hopeless` is given up.
    """
    posv = _posv()
    p = np.minimum(np.maximum(start, low), high)
    peaks, curve, jacobian = model.evaluate(p)
    rest = y - curve
    v = variance(curve, peaks)
    describes = True
    if not rest.dot(rest / v) < 4 * y.size:
        # The model may be far too low under a peak: nothing weighs more than it should.
        v = variance(np.maximum(curve, y), peaks)
        describes = False
    diagonal = slice(None, None, p.size + 1)
    damping = 0.0
    converged = False
    for number in range(rounds):
        chi = float(rest.dot(rest / v))
        enough = _ENOUGH * max(1.0, chi / y.size)
        weighted = jacobian.T / v
        gradient = weighted.dot(rest)
        hessian = weighted.dot(jacobian)
        if pull is not None:
            short = np.maximum(pull[0] - p, 0.0)
            if np.count_nonzero(short):
                firm = np.where(short > 0, pull[1], 0.0)
                gradient += firm * short
                hessian.ravel()[diagonal] += firm
                chi += float(firm.dot(short * short))
        at_low, at_high = p <= low, p >= high
        if np.count_nonzero(at_low) or np.count_nonzero(at_high):
            # What lies on a limit and wants past it stays there.
            held = (at_low & (gradient < 0)) | (at_high & (gradient > 0))
            gradient[held] = 0.0
            hessian[held] = 0.0
            hessian[:, held] = 0.0
        bare = hessian.ravel()[diagonal].copy()
        bare[bare <= 0] = 1.0
        gain = 0.0
        for _ in range(8):
            hessian.ravel()[diagonal] = bare * (1.0 + damping + 1e-10)
            _, step, failed = posv(hessian, gradient)
            if failed:
                damping = max(damping * 8, 1e-3)
                continue
            promised = float(gradient.dot(step))
            if describes and not damping and promised < enough:
                converged = True
                break
            if number and describes and chi - promised > hopeless:
                return _described(p, peaks, curve, jacobian, y, variance, converged=False)
            trial = np.minimum(np.maximum(p + step, low), high)
            new_peaks, new_curve, new_jacobian = model.evaluate(trial)
            rest = y - new_curve
            gain = chi - float(rest.dot(rest / v))
            if pull is not None:
                gain -= float(pull[1].dot(np.maximum(pull[0] - trial, 0.0) ** 2))
            if gain >= -1e-9 * chi:
                p, peaks, curve, jacobian = trial, new_peaks, new_curve, new_jacobian
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
        if number and gain < 25 * enough:
            converged = True
            break
    return _described(p, peaks, curve, jacobian, y, variance, converged=converged)


def _described(
    p: Floats,
    peaks: Floats,
    curve: Floats,
    jacobian: Floats,
    y: Floats,
    variance: Callable[[Floats, Floats], Floats],
    *,
    converged: bool,
) -> Solution:
    v = variance(curve, peaks)
    rest = y - curve
    information = (jacobian.T / v).dot(jacobian)
    chi_squared = float(rest.dot(rest / v))
    return Solution(p, _inverse(information), peaks, curve, v, chi_squared, converged)


@cache
def _posv() -> Callable[..., Any]:
    """LAPACK's solver for few equations: what is around it in numpy takes longer than itself."""
    from scipy.linalg import get_lapack_funcs

    (posv,) = get_lapack_funcs(("posv",), dtype=np.float64)
    return posv


@cache
def _identity(size: int) -> Floats:
    return np.eye(size)


def _inverse(information: Floats) -> Floats:
    """The covariance; what the points say nothing of has a huge variance."""
    scale = 1.0 / np.sqrt(np.maximum(information.diagonal(), 1e-300))
    scales = scale[:, None] * scale
    scaled = information * scales
    scaled.ravel()[:: scale.size + 1] = 1.0 + 1e-10
    _, inverse, failed = _posv()(scaled, _identity(scale.size))
    return np.diag(np.full(scale.size, np.inf)) if failed else inverse * scales
