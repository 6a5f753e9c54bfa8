"""Least squares with weights that follow the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ._models import Floats, Model

__all__ = ["Solution", "solve"]


#: A step that lowers chi-squared by less moves no parameter by more than a tenth of its error.
_ENOUGH = 0.01


@dataclass(frozen=True, eq=False)
class Solution:
    """Where the fit ended: parameters, their covariance, curve, variances, and chi-squared."""

    parameters: Floats
    covariance: Floats
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
) -> Solution:
    """Levenberg-Marquardt within limits, the weights renewed from the model at each step.

    With the variance of counts this is Fisher scoring, which ends where Poisson's likelihood is
    largest; weights from the data would favour the readings that came out low. `pull` is what is
    believed beforehand: values that parameters are hardly below, and the inverse variance of this
    belief, each of the shape (parameters,). It moves the solution and has no part in its errors.
    """
    posv = _posv()
    p = np.minimum(np.maximum(start, low), high)
    peaks, curve, jacobian = model.evaluate(p)
    # At first the model may be far too low under a peak: nothing weighs more than it should.
    v = variance(np.maximum(curve, y), peaks)
    diagonal = slice(None, None, p.size + 1)
    damping = 0.0
    converged = False
    for number in range(rounds):
        rest = y - curve
        weighted = jacobian / v[:, None]
        gradient = rest @ weighted
        hessian = jacobian.T @ weighted
        chi = float(rest @ (rest / v))
        if pull is not None:
            short = np.maximum(pull[0] - p, 0.0)
            firm = np.where(short > 0, pull[1], 0.0)
            gradient += firm * short
            hessian.ravel()[diagonal] += firm
            chi += float(firm @ (short * short))
        at_low, at_high = p <= low, p >= high
        if at_low.any() or at_high.any():
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
            trial = np.minimum(np.maximum(p + step, low), high)
            new_peaks, new_curve, new_jacobian = model.evaluate(trial)
            rest = y - new_curve
            gain = chi - float(rest @ (rest / v))
            if pull is not None:
                gain -= float(pull[1] @ np.maximum(pull[0] - trial, 0.0) ** 2)
            if gain >= -1e-9 * chi:
                p, peaks, curve, jacobian = trial, new_peaks, new_curve, new_jacobian
                damping = damping / 8 if damping > 1e-4 else 0.0
                break
            damping = max(damping * 8, 1e-2)
        else:
            break
        v = variance(curve, peaks)
        if number and gain < _ENOUGH + 1e-6 * chi:
            converged = True
            break
    weighted = jacobian / v[:, None]
    rest = y - curve
    return Solution(
        p, _inverse(jacobian.T @ weighted), curve, v, float(rest @ (rest / v)), converged
    )


@cache
def _posv() -> Callable[..., Any]:
    """LAPACK's solver for few equations: what is around it in numpy takes longer than itself."""
    from scipy.linalg import get_lapack_funcs

    (posv,) = get_lapack_funcs(("posv",), dtype=np.float64)
    return posv


def _inverse(information: Floats) -> Floats:
    """The covariance; what the points say nothing of has a huge variance."""
    scale = 1.0 / np.sqrt(np.maximum(np.diagonal(information), 1e-300))
    scaled = information * np.outer(scale, scale)
    scaled.ravel()[:: scale.size + 1] = 1.0 + 1e-10
    try:
        return np.linalg.inv(scaled) * np.outer(scale, scale)
    except np.linalg.LinAlgError:
        return np.diag(np.full(scale.size, np.inf))
