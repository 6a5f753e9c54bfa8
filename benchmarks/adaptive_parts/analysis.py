"""Peaks from points that a sampler has taken: the same plain analysis for all that give none.

It is written with scipy alone: candidates stand out of the smoothed signal, neighbours are fitted
together by pseudo-Voigts on a straight background, and what is not `SIGNIFICANT` is dropped.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares
from scipy.signal import find_peaks, peak_widths

Array = npt.NDArray[Any]

SIGNIFICANT = 5.0
STANDS_OUT = 6.0
REACH = 3.0


@dataclass(frozen=True)
class Fitted:
    """A peak that was found: centre and FWHM on each axis."""

    centers: tuple[float, ...]
    fwhms: tuple[float, ...]


def analyse(points: Array, values: Array, narrowest: tuple[float, ...]) -> list[Fitted]:
    """The peaks in counts at points of shape (n, axes), in any order."""
    if points.shape[1] > 1:
        return over_axes(points, values, narrowest)
    x, group = np.unique(points[:, 0], return_inverse=True)
    times = np.bincount(group)
    y = np.bincount(group, values) / times
    if len(x) < 5:
        return []
    variance = np.maximum(y, 1) / times
    candidates = standing_out(x, y, variance, narrowest[0])
    found: list[Fitted] = []
    for cluster in clusters(candidates):
        found += fitted(x, y, times, cluster, narrowest[0])
    return [peak for peak in found if falls_on_both_sides(x, y, variance, peak)]


def standing_out(x: Array, y: Array, variance: Array, width: float) -> list[tuple[float, float]]:
    """Centre and FWHM of what stands out of the signal smoothed by half the narrowest width."""
    # Bins, so that thousands of points cost no square of that.
    at = np.rint((x - x[0]) / (width / 16)).astype(int)
    number = np.bincount(at)
    sums, spread = np.bincount(at, y), np.bincount(at, variance)
    kernel = np.exp(-0.5 * (np.arange(-16, 17) / 3.4) ** 2)

    def blurred(values: Array, kernel: Array) -> Array:
        return np.convolve(values, kernel)[16:-16][number > 0]

    near = blurred(number, kernel)
    smooth = blurred(sums, kernel) / near
    sigma = np.sqrt(blurred(spread, kernel**2)) / near
    x = np.bincount(at, x)[number > 0] / number[number > 0]
    # The ends are no neighbours that a maximum could be measured against.
    padded = np.concatenate(([smooth.min()], smooth, [smooth.min()]))
    top, properties = find_peaks(padded, prominence=0)
    top = top[properties["prominences"] > STANDS_OUT * sigma[top - 1]]
    _, _, left, right = peak_widths(padded, top, rel_height=0.5)
    index = np.arange(len(x))
    low, high = (np.interp(side - 1, index, x) for side in (left, right))
    return [
        (float(x[k - 1]), max(float(b - a), width)) for k, a, b in zip(top, low, high, strict=True)
    ]


def clusters(candidates: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    """Candidates so near to each other that they have to be fitted together."""
    groups: list[list[tuple[float, float]]] = []
    for center, width in sorted(candidates):
        last = groups[-1][-1] if groups else (-np.inf, 0.0)
        # A hump is no neighbour of the needle on it.
        if center - last[0] < 1.5 * (width + last[1]) and 1 / 5 < width / last[1] < 5:
            groups[-1].append((center, width))
        else:
            groups.append([(center, width)])
    return groups


def falls_on_both_sides(x: Array, y: Array, variance: Array, peak: Fitted) -> bool:
    """Whether a peak is none of the corners of an edge, which a fit takes for a peak."""
    (center,), (fwhm,) = peak.centers, peak.fwhms
    distance = np.abs(x - center) / fwhm
    core = distance < 0.3
    if not core.any():
        return False
    top, error = y[core].mean(), variance[core].mean() / core.sum()
    for side in ((x < center), (x > center)):
        # The mean of each quarter of a width, or else of many points one is always low.
        bins = (4 * distance[side]).astype(int)
        means = [
            (top - y[side][bins == k].mean())
            / np.sqrt(error + variance[side][bins == k].mean() / (bins == k).sum())
            for k in range(2, 12)
            if (bins == k).any()
        ]
        if not means or max(means) < SIGNIFICANT:
            return False
    return True


def pseudo_voigt(u2: Array, lorentzian: float) -> Array:
    """Height 1, FWHM 1; `u2` is the square of the distance."""
    return lorentzian / (1 + 4 * u2) + (1 - lorentzian) * np.exp2(-4 * u2)


def least_chi_squared(
    model: Callable[[Array], Array],
    start: Array,
    values: Array,
    times: Array,
    bounds: tuple[Any, Any] = (-np.inf, np.inf),
) -> tuple[Array, Array]:
    """Parameters and their errors, for counts: weights from the data, and then from the model."""
    low, high = (np.broadcast_to(bound, start.shape) for bound in bounds)
    p, expected, jacobian = start, values, np.eye(len(start))
    for _ in range(2):
        sigma = np.sqrt(np.maximum(expected, 1) / times)
        fit = least_squares(
            lambda p, sigma=sigma: (model(p) - values) / sigma,
            np.clip(p, low + 1e-9, high - 1e-9),
            bounds=(low, high),
            x_scale=np.maximum(np.abs(start), 1e-3),
            max_nfev=60,
        )
        p, jacobian = fit.x, fit.jac
        expected = model(p)
    covariance = np.linalg.pinv(jacobian.T @ jacobian)
    return p, np.sqrt(np.maximum(np.diag(covariance), 1e-18))


def fitted(
    x: Array, y: Array, times: Array, cluster: list[tuple[float, float]], narrowest: float
) -> list[Fitted]:
    """The significant ones of a cluster, fitted together twice, the second time where they are."""
    peaks = cluster
    for _ in range(2):
        low = min(c - REACH * f for c, f in peaks)
        high = max(c + REACH * f for c, f in peaks)
        inside = (x >= low) & (x <= high)
        if inside.sum() < 3 * len(peaks) + 2:
            return []
        xs, ys = x[inside], y[inside]
        slope = (xs - (low + high) / 2) / (high - low)

        def model(p: Array, xs: Array = xs, slope: Array = slope) -> Array:
            curve = p[0] + p[1] * slope
            for h, c, f in p[3:].reshape(-1, 3):
                curve = curve + h * pseudo_voigt(((xs - c) / f) ** 2, p[2])
            return curve

        base = float(ys.min())
        start, lowest, highest = [base, 0.0, 0.2], [-np.inf, -np.inf, 0.0], [np.inf, np.inf, 1.0]
        for c, f in peaks:
            start += [max(float(np.interp(c, xs, ys)) - base, 1.0), c, f]
            lowest += [0.0, c - f, narrowest / 3]
            highest += [np.inf, c + f, 3 * f]
        p, errors = least_chi_squared(
            model, np.array(start), ys, times[inside], (np.array(lowest), np.array(highest))
        )
        known = p[3::3] > SIGNIFICANT * errors[3::3]
        peaks = [(float(c), float(f)) for _, c, f in p[3:].reshape(-1, 3)[known]]
        if not peaks:
            return []
    return [Fitted((c,), (f,)) for c, f in peaks]


def over_axes(points: Array, values: Array, narrowest: tuple[float, ...]) -> list[Fitted]:
    """Upright Gaussians on a plane, one more as long as what is left stands out."""
    dims = points.shape[1]
    plane = np.column_stack([np.ones(len(points)), points])
    each = 1 + 2 * dims

    def model(p: Array) -> Array:
        surface = plane @ p[: dims + 1]
        for part in p[dims + 1 :].reshape(-1, each):
            u2 = (((points - part[1 : 1 + dims]) / part[1 + dims :]) ** 2).sum(axis=1)
            surface = surface + part[0] * pseudo_voigt(u2, 0.0)
        return surface

    p = np.linalg.lstsq(plane, np.minimum(values, np.quantile(values, 0.9)), rcond=None)[0]
    while len(p) + each < len(points) and len(p) < 8 * each:
        rest = values - model(p)
        top = int(np.argmax(rest / np.sqrt(np.maximum(model(p), 1))))
        start = np.concatenate([p, [rest[top]], points[top], narrowest])
        trial, errors = least_chi_squared(model, start, values, np.ones(len(values)))
        if trial[-each] < SIGNIFICANT * errors[-each]:
            break
        p = trial
    return [
        Fitted(tuple(map(float, f[1 : 1 + dims])), tuple(map(float, np.abs(f[1 + dims :]))))
        for f in p[dims + 1 :].reshape(-1, each)
    ]
