"""What looks like one peak may be two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import lower_quartile
from bluesky_zarr.peaks._surface import SurfaceFit

from ._quality import poor
from ._spot import SPARROW, Spot

if TYPE_CHECKING:
    from ._explanation import Explanation

__all__ = ["split_peak"]

Floats = npt.NDArray[np.float64]

#: By what another peak must lower chi-squared.
_ANOTHER = 25.0


def split_peak(
    known: Explanation,
    cluster: list[Spot],
    fit: SurfaceFit,
    points: Floats,
    values: Floats,
) -> tuple[Spot, SurfaceFit] | None:
    """One peak more, and the fit with it, if it describes the points and the others do not."""
    near = fit.peaks > 0.05 * max(float(fit.peaks.max()), 1e-300)
    if len(cluster) > 5 or near.sum() < 2 * known.axes + 3:
        return None
    place = points[int(fit.residuals.argmax())]
    k = int(np.argmin([(((place - s.center) / s.fwhm) ** 2).sum() for s in cluster]))
    base = cluster[k]
    if base.whole:
        return None
    for first, second in _halves(base, fit, k, place, points, values):
        spots = [first if spot is base else spot for spot in cluster] + [second]
        trial = known.fit(spots, points, values, plain=True)
        if trial.chi_squared + _ANOTHER > fit.chi_squared or not _sound(trial, base):
            continue
        if poor(trial) and not (near.sum() > 25 and trial.chi_squared < 0.5 * fit.chi_squared):
            continue
        return second, trial
    return None


def _sound(fit: SurfaceFit, base: Spot) -> bool:
    """Whether the peaks of a fit are peaks: of a sensible width, and apart."""
    peaks = [(fit.center(k)[0], fit.fwhm(k)[0]) for k in range(fit.surface.peaks)]
    for k, (center, fwhm) in enumerate(peaks):
        if (fwhm < 0.5).any() or (fwhm > 2 * np.maximum(base.fwhm, 1.0)).any():
            return False
        for other, width in peaks[:k]:
            if (((center - other) / (0.5 * (fwhm + width))) ** 2).sum() < SPARROW:
                return False
    return True


def _halves(
    base: Spot, fit: SurfaceFit, k: int, place: Floats, points: Floats, values: Floats
) -> list[tuple[Spot, Spot]]:
    """Some ways in which what looks like one peak may be two."""
    narrow = np.maximum(0.7 * base.fwhm, 0.9)
    center = fit.center(k)[0]
    halves = [(center, place)]
    widths = fit.fwhm(k)[0]
    # The longest axis of the ellipsoid is that of the smallest eigenvalue of its form.
    values_of, vectors = np.linalg.eigh(fit.form(k) / np.outer(widths, widths))
    along = vectors[:, 0] / math.sqrt(max(values_of[0], 1e-12))
    halves.append((center - 0.35 * along, center + 0.35 * along))
    reach = (np.abs(points - center) <= 1.2 * widths + 0.3).all(axis=1)
    if reach.any():
        inside, high = points[reach], values[reach]
        top = inside[int(high.argmax())]
        level = lower_quartile(values)
        u2 = (((inside - top) / narrow) ** 2).sum(axis=1)
        rest = high - level - (high.max() - level) * np.exp(-4 * math.log(2) * u2)
        rest[u2 < 0.6] = -np.inf
        halves.append((top, inside[int(rest.argmax())]))
    return [
        (Spot(one, part * narrow, 0.8 * base.height), Spot(two, part * narrow, 0.5 * base.height))
        for part in (1.0, 0.6)
        for one, two in halves
    ]
