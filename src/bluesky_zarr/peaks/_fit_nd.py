"""Fits of one or several peaks over several axes, with what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from ._models import SHAPES, Floats
from ._nd import checked, find_peaks_nd
from ._noise import Noise
from ._peak import Peak
from ._surface import Surface, SurfaceFit, fit_surface

__all__ = ["FitND", "fit_peaks_nd"]


@dataclass(frozen=True, eq=False)
class FitND:
    """What a fit over several axes found.

    `peaks` are in the order of the starting ones. `background` is its level at the origin of the
    axes, and its slope along each if it is linear. `chi_squared` is per degree of freedom: near 1
    where the surface describes the readings to within their noise. Errors in `peaks` follow from
    the noise, and grow with the root of `chi_squared` where this is above 1.
    """

    peaks: tuple[Peak, ...]
    background: tuple[float, ...]
    chi_squared: float
    degrees_of_freedom: int
    shape: str
    _surface: Surface = field(repr=False, kw_only=True)
    _params: Floats = field(repr=False, kw_only=True)
    _unit: Floats = field(repr=False, kw_only=True)

    def surface(self, points: npt.ArrayLike) -> Floats:
        """The fitted surface at points of the shape (n, axes)."""
        at = np.atleast_2d(np.asarray(points, dtype=np.float64))
        return self._surface.evaluate(self._params, at / self._unit)[1]


def fit_peaks_nd(
    points: npt.ArrayLike,
    values: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    *,
    peaks: Sequence[Peak] | None = None,
    shape: Literal["gaussian", "lorentzian", "pseudo-voigt"] = "gaussian",
    background: Literal["constant", "linear"] = "constant",
    rotated: bool = False,
) -> FitND:
    """Fit peaks over several axes, several at once where they blend.

    Levenberg-Marquardt with analytical derivatives. Counts (whole numbers, none negative) are
    weighted as Poisson's law has it for the expected count; other signals have the same weight
    everywhere, unless `sigma` says otherwise. Errors come from the inverse of the Fisher
    information.

    Parameters
    ----------
    points, values
        Positions, shape (n, number of axes), and the signal there, shape (n,), in any order.
    sigma
        Standard deviation of the values: one number, or shape (n,).
    peaks
        Where to start; by default what `find_peaks_nd` finds. There are as many peaks in the fit.
    shape
        The shape of all peaks: a function of the distance to the centre, measured in FWHMs along
        the axes.
    background
        The same level everywhere, or with a slope along each axis.
    rotated
        Whether the axes of the peaks may be inclined to those of the scan. `fwhm` is then that of
        a cut through the centre along each axis of the scan.

    Returns
    -------
    FitND
        Peaks with their errors, the surface, and the goodness of the fit.

    Raises
    ------
    ValueError
        For arrays that do not match, a name that is not known, no peak to start from, or fewer
        readings than parameters.

    Examples
    --------
    >>> y, x = np.mgrid[0:10:1, 0:10:1].reshape(2, -1)
    >>> signal = 5 + 90 * np.exp(-4 * np.log(2) * (((y - 4.2) / 3) ** 2 + ((x - 6) / 4) ** 2))
    >>> fit = fit_peaks_nd(np.column_stack([y, x]), signal, sigma=1.0)
    >>> [round(c, 3) for c in fit.peaks[0].centers], [round(w, 3) for w in fit.peaks[0].fwhms]
    ([4.2, 6.0], [3.0, 4.0])
    """
    at, signal, error = checked(points, values, sigma)
    if shape not in SHAPES:
        raise ValueError(f"shape {shape!r} is not known: take one of {', '.join(SHAPES)}.")
    if background not in ("constant", "linear"):
        raise ValueError(f"background {background!r} is not known: take constant or linear.")
    if peaks is None:
        found = find_peaks_nd(at, signal, error)
        if not found:
            raise ValueError(f"{found.why}; give peaks=[...] to start from.")
        peaks = found.found
    if not peaks:
        raise ValueError("fit_peaks_nd needs peaks to start from: give peaks=[...].")
    axes = at.shape[1]
    for peak in peaks:
        if len(peak.centers) != axes:
            raise ValueError(
                f"the peak at {peak.center} has {len(peak.centers)} axes, the points {axes}: "
                "give a centre for each axis."
            )
    surface = Surface(
        axes,
        len(peaks),
        sloped=background == "linear",
        rotated=rotated,
        mixed=shape == "pseudo-voigt",
        lorentzian=float(shape == "lorentzian"),
    )
    if len(signal) < surface.size:
        raise ValueError(
            f"{len(signal)} readings do not determine {surface.size} parameters ({len(peaks)} "
            f"peaks on a {background} background): give more readings, or fewer peaks."
        )
    # In units of the peaks: axes of 1e-6 m and of 1e4 eV then weigh alike.
    unit = np.median([peak.fwhms for peak in peaks], axis=0)
    centers = np.array([peak.centers for peak in peaks]) / unit
    fwhms = np.array([peak.fwhms for peak in peaks]) / unit
    heights = np.array([peak.height for peak in peaks])
    span = np.maximum(np.ptp(at / unit, axis=0), 1e-300)
    noise = Noise.of(signal) if error is None else Noise()
    limits = surface.limits(centers - 2 * fwhms, centers + 2 * fwhms, 0.05 * fwhms, 10 * span)
    start = surface.start(float(np.quantile(signal, 0.25)), heights, centers, fwhms)
    fit = fit_surface(
        surface, at / unit, signal, noise, np.clip(start, *limits), limits, sigma=error, rounds=40
    )
    return _described(fit, unit, shape, known=error is not None or noise.counts)


def _described(fit: SurfaceFit, unit: Floats, shape: str, *, known: bool) -> FitND:
    surface = fit.surface
    reduced = fit.chi_squared / fit.freedom if fit.freedom > 0 else math.nan
    # Noise that nobody gave is what the fit leaves; noise that is known is never less than that.
    scale = math.sqrt(max(reduced, 1.0) if known else reduced) if fit.freedom > 0 else 1.0
    found = []
    for k in range(surface.peaks):
        center, center_error = fit.center(k)
        fwhm, fwhm_error = fit.fwhm(k)
        height, height_error = fit.height(k)
        found.append(
            Peak(
                center=_tuple(center * unit),
                fwhm=_tuple(fwhm * unit),
                height=height,
                center_error=_tuple(scale * center_error * unit),
                fwhm_error=_tuple(scale * fwhm_error * unit),
                height_error=scale * height_error,
                background=fit.level(center),
                shape=shape,
                chi_squared=reduced,
            )
        )
    background = fit.params[: surface.first].copy()
    background[1:] /= unit[: len(background) - 1]
    return FitND(
        tuple(found),
        _tuple(background),
        reduced,
        fit.freedom,
        shape,
        _surface=surface,
        _params=fit.params,
        _unit=unit,
    )


def _tuple(values: Floats) -> tuple[float, ...]:
    return tuple(float(value) for value in values)
