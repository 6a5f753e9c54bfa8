"""Fits of one or several peaks, with what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._models import BACKGROUNDS, FLAT_TOP, MIXED, SHAPES, Floats, Model
from ._noise import Noise, median
from ._peak import Peak
from ._solve import ENOUGH, Solution, solve

__all__ = ["Fit", "fit_peaks", "fit_shape"]


@dataclass(frozen=True, eq=False)
class Fit:
    """What a fit found.

    `peaks` are in the order of the starting ones. `background` holds the coefficients of its
    polynomial in x, lowest power first. `chi_squared` is per degree of freedom: near 1 where the
    curve describes the readings to within their noise. `converged` is false where the fit ran out
    of steps. Errors in `peaks` follow from the noise, and grow with the root of `chi_squared` where
    this is above 1.
    """

    peaks: tuple[Peak, ...]
    background: tuple[float, ...]
    chi_squared: float
    degrees_of_freedom: int
    shape: str
    converged: bool
    _model: Model = field(repr=False, kw_only=True)
    _parameters: Floats = field(repr=False, kw_only=True)

    def curve(self, x: npt.ArrayLike) -> Floats:
        """The fitted curve at positions of the shape (n,)."""
        return self._model.at(np.atleast_1d(np.asarray(x, float))).evaluate(self._parameters)[1]


def fit_peaks(
    x: npt.ArrayLike,
    y: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    *,
    peaks: Sequence[Peak | float],
    shape: Literal["auto", "gaussian", "lorentzian", "pseudo-voigt", "flat-top"] = "auto",
    background: Literal["constant", "linear", "quadratic"] = "linear",
) -> Fit:
    """Fit peaks, several at once where they blend, on a smooth background.

    Levenberg-Marquardt with analytical derivatives. Counts (whole numbers, none negative) are
    weighted as Poisson's law has it for the expected count, so that the fit ends where the
    likelihood of the counts is largest (W. Cash, ApJ 228, 939 (1979)); other signals have the same
    weight everywhere, unless `sigma` says otherwise. Without `sigma`, 1 % of the height of a peak
    is added to the noise, as no line follows a formula any better. Errors come from the inverse of
    the Fisher information.

    Parameters
    ----------
    x, y
        Positions and readings, each of the shape (n,), in any order.
    sigma
        Standard deviation of each reading, shape (n,), or one for all.
    peaks
        Where to start: peaks, or their centres alone. There are as many peaks in the fit.
    shape
        The curve, the same for all peaks; "auto" takes the one with the lowest Bayesian information
        criterion (G. Schwarz, Ann. Stat. 6, 461 (1978)), but no flat top, as two peaks look like
        one.
    background
        The polynomial under the peaks.

    Returns
    -------
    Fit
        Peaks with their errors, the curve, and the goodness of the fit.

    Raises
    ------
    ValueError
        For arrays that do not match, readings or positions that are not finite, a sigma that is not
        positive, no peak, a name that is not known, or fewer readings than parameters.

    Examples
    --------
    >>> x = np.linspace(0, 10, 21)
    >>> y = 5 + 80 * np.exp(-4 * np.log(2) * ((x - 4.2) / 1.5) ** 2)
    >>> fit = fit_peaks(x, y, sigma=1.0, peaks=[4.0])
    >>> round(fit.peaks[0].center, 3), round(fit.peaks[0].fwhm, 3), fit.shape
    (4.2, 1.5, 'gaussian')
    """
    at, readings, noise = _checked(x, y, sigma)
    if not len(peaks):
        raise ValueError("fit_peaks needs peaks to start from: give peaks=[...], or their centres.")
    if shape not in (*SHAPES, FLAT_TOP, "auto"):
        names = ", ".join((*SHAPES, FLAT_TOP, "auto"))
        raise ValueError(f"shape {shape!r} is not known: take one of {names}.")
    if background not in BACKGROUNDS:
        raise ValueError(
            f"background {background!r} is not known: take one of {', '.join(BACKGROUNDS)}."
        )
    degree = BACKGROUNDS[background]
    least = (3 + (shape in MIXED)) * len(peaks) + degree + 1
    if at.size < least:
        raise ValueError(
            f"{at.size} readings do not determine {least} parameters ({len(peaks)} peaks on a "
            f"{background} background): give more readings, or fewer peaks."
        )
    start = _start(at, readings, peaks)
    fits = []
    for name in SHAPES if shape == "auto" else (shape,):
        model = Model(at, [name] * len(peaks), degree)
        if model.size > at.size:
            continue
        solution = fit_shape(model, readings, noise, *start)
        fits.append((solution.chi_squared + math.log(at.size) * model.size, model, solution))
    _, model, solution = min(fits, key=lambda fit: fit[0])
    return _described(model, solution, unknown_noise=sigma is None and not noise.counts)


def fit_shape(
    model: Model,
    y: Floats,
    noise: Noise,
    centers: Sequence[float],
    fwhms: Sequence[float],
    heights: Sequence[float],
    fractions: Sequence[float] | None = None,
    *,
    fwhm_limits: tuple[Sequence[float], float] | None = None,
    expected_fwhm: tuple[float, float] | None = None,
    background: Sequence[float] | None = None,
    rounds: int = 30,
    enough: float = ENOUGH,
    hopeless: float = math.inf,
) -> Solution:
    """Fit one model from given centres, widths and heights, each of the shape (peaks,).

    `background` holds its coefficients to start from, as the model has them. `fwhm_limits` are the
    least for each peak and the largest for all; `expected_fwhm` is what widths are hardly below,
    and the standard deviation of its logarithm. `rounds`, `enough` and `hopeless` are what they are
    to `solve`.
    """
    m = model.count
    span = 2 * model.scale
    narrow, wide = fwhm_limits or ([span / max(4 * model.x.size, 200)] * m, 3 * span)
    lows: list[float] = []
    highs: list[float] = []
    # A peak whose top is far outside of the readings is not determined by them.
    for center, fwhm in zip(centers, fwhms, strict=True):
        reach = max(fwhm, 0.02 * span)
        lows.append(max(center - reach, model.low - 0.5 * fwhm))
        highs.append(max(min(center + reach, model.high + 0.5 * fwhm), lows[-1]))
    given = [0.5 if fractions is None else fractions[k] for k in model.mixed]
    flat = background or [0.0] * (model.degree + 1)
    start = np.array([*centers, *map(math.log, fwhms), *heights, *given, *flat])
    lows += [*map(math.log, narrow), *[-1e-3 * abs(height) for height in heights]]
    lows += [0.0] * len(given) + [-math.inf] * len(flat)
    highs += [math.log(wide)] * m + [math.inf] * m
    highs += [MIXED[model.shapes[k]] for k in model.mixed] + [math.inf] * len(flat)
    if background is None:
        # That which goes with these peaks: linear least squares would follow an outlying reading,
        # the median of what is below does not.
        start[model.background_at] = median(y - model.evaluate(start)[0])
    pull = None
    if expected_fwhm is not None:
        value, spread = expected_fwhm
        pull = range(m, 2 * m), math.log(value), spread**-2
    return solve(
        model,
        y,
        start,
        lows,
        highs,
        noise.variance,
        pull=pull,
        rounds=rounds,
        enough=enough,
        hopeless=hopeless,
    )


def _checked(
    x: npt.ArrayLike, y: npt.ArrayLike, sigma: npt.ArrayLike | None
) -> tuple[Floats, Floats, Noise]:
    """The readings in order of position, and their noise."""
    at = np.asarray(x, dtype=np.float64)
    readings = np.asarray(y, dtype=np.float64)
    if at.ndim != 1 or at.shape != readings.shape:
        raise ValueError(
            f"x has the shape {at.shape} and y {readings.shape}: give a reading for each position."
        )
    for name, values in (("x", at), ("y", readings)):
        if bad := int(np.count_nonzero(~np.isfinite(values))):
            raise ValueError(f"{bad} values of {name} are not finite: leave these points out.")
    order = np.argsort(at, kind="stable")
    at, readings = at[order], readings[order]
    if sigma is None:
        return at, readings, Noise.of(readings)
    given = np.asarray(sigma, dtype=np.float64)
    if given.ndim and given.shape != at.shape:
        raise ValueError(
            f"sigma has the shape {given.shape}, x {at.shape}: give one for each reading, or one."
        )
    if not np.all(given > 0) or not np.all(np.isfinite(given)):
        raise ValueError(
            "sigma is a standard deviation, above zero for each reading; leave it out where it is "
            "not known."
        )
    return at, readings, Noise.given(np.broadcast_to(given, at.shape)[order])


def _start(
    x: Floats, y: Floats, peaks: Sequence[Peak | float]
) -> tuple[Sequence[float], Sequence[float], Sequence[float]]:
    """Centres, widths and heights to start from; what is not given is read off the points."""
    under = float(np.median(np.partition(y, y.size // 2)[: y.size // 2 + 1]))
    rows: list[tuple[float, float, float]] = []
    for peak in peaks:
        if isinstance(peak, Peak):
            (center,), (fwhm,) = peak.centers, peak.fwhms
            rows.append((float(center), float(fwhm), float(peak.height)))
            continue
        top = int(np.argmin(np.abs(x - peak)))
        height = max(float(y[top]) - under, 1e-3 * float(np.ptp(y)), 1e-300)
        beyond = np.flatnonzero(y < under + height / 2)
        left, right = beyond[beyond < top], beyond[beyond > top]
        start = x[left[-1]] if left.size else 2 * peak - x[right[0]] if right.size else x[0]
        stop = x[right[0]] if right.size else 2 * peak - x[left[-1]] if left.size else x[-1]
        rows.append((float(peak), max(float(stop - start) / 2, float(np.ptp(x)) / x.size), height))
    centers, fwhms, heights = zip(*rows, strict=True)
    return centers, fwhms, heights


def _described(model: Model, solution: Solution, *, unknown_noise: bool) -> Fit:
    m = model.count
    p = solution.parameters
    degrees = model.x.size - model.size
    reduced = solution.chi_squared / degrees if degrees > 0 else math.nan
    # Noise that nobody gave is what the fit leaves; noise that is known is never less than that.
    scale = math.sqrt(reduced if unknown_noise else max(reduced, 1.0)) if degrees > 0 else 1.0
    errors = scale * np.sqrt(np.maximum(np.diagonal(solution.covariance), 0.0))
    fwhms = np.exp(p[m : 2 * m])
    fractions = model.fractions(p)
    peaks = tuple(
        Peak(
            center=float(p[k]),
            fwhm=float(fwhms[k]),
            height=float(p[2 * m + k]),
            center_error=float(errors[k]),
            fwhm_error=float(fwhms[k] * errors[m + k]),
            height_error=float(errors[2 * m + k]),
            background=float(model.background(p, float(p[k]))),
            shape=model.shapes[k],
            mixing=float(fractions[k]) if k in model.mixed else math.nan,
            chi_squared=reduced,
        )
        for k in range(m)
    )
    powers = np.polynomial.Polynomial(
        p[model.background_at :], domain=[-model.scale, model.scale], window=[-1, 1]
    )
    shifted = powers(np.polynomial.Polynomial([-model.origin, 1.0]))
    coefficients = np.zeros(model.degree + 1)
    coefficients[: shifted.coef.size] = shifted.coef
    return Fit(
        peaks,
        tuple(map(float, coefficients)),
        reduced,
        degrees,
        model.shapes[0],
        solution.converged,
        _model=model,
        _parameters=p,
    )
