"""What stands out of a coarse grid over several axes, and of the points beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._flood import grid_neighbours, prominences
from bluesky_zarr.peaks._noise import Noise, median
from bluesky_zarr.peaks._solve import solved

__all__ = ["Candidate", "Landscape"]

Floats = npt.NDArray[np.float64]

_LN16 = 4 * math.log(2)
#: FWHMs that are looked for, in units of the narrowest.
_SCALES = (1.0, 2.0, 4.0)
#: No peak follows the formula better than this: below it, what is left of a fit is no candidate.
_SHAPE_ERROR = 0.05
#: The same for fits: a peak that is nearly what the formula says is one peak.
_FIT_SHAPE_ERROR = 0.03
#: Where all points together see less than this of a peak's square, nothing is known.
_FAINT = 1e-4
#: What a wider peak must be more significant by than one of the narrowest at the same place: all
#: widths see a single high point alike, and it tells least about where the widest may be.
_WIDER = 1.0


@dataclass(frozen=True)
class Candidate:
    """Where a peak may be: its significance, height and FWHM, all lengths in FWHMs of w."""

    center: Floats
    significance: float
    height: float
    fwhm: float
    #: On each axis the direction in which the significance falls less steeply.
    toward: Floats


class Landscape:
    """A coarse grid, its background, and how significant a peak would be at each place.

    Lengths are in units of the narrowest FWHM of each axis. Peaks are looked for on a lattice twice
    as fine as the grid with a Gaussian as filter (a matched filter): its sum over the residuals,
    each over its noise, has a standard deviation of 1 where there is no peak. Counts are brought to
    equal noise by Anscombe's transform, 2 sqrt(n + 3/8).

    Parameters
    ----------
    grid
        The positions along each axis.
    bounds
        The ends of each axis, shape (number of axes, 2).
    values
        What was measured, shape of the grid, NaN where nothing was.
    """

    def __init__(self, grid: tuple[Floats, ...], bounds: Floats, values: Floats) -> None:
        self.grid = grid
        self.values = values
        self.known = np.isfinite(values)
        self.points = np.stack(np.meshgrid(*grid, indexing="ij"), axis=-1).reshape(-1, len(grid))
        self._basis = np.concatenate([np.ones((1, len(self.points))), self.points.T])
        self.noise = _noise(values[self.known])
        self.lattice = tuple(
            np.unique(np.concatenate([ends, at, (at[1:] + at[:-1]) / 2]))
            for at, ends in zip(grid, bounds, strict=True)
        )
        self._kernels = [
            [_kernel(lattice, at, scale) for lattice, at in zip(self.lattice, grid, strict=True)]
            for scale in _SCALES
        ]

    def scaled(self, values: Floats) -> Floats:
        """Values on the scale where their noise is 1."""
        if self.noise.counts:
            return 2 * np.sqrt(np.maximum(values / self.noise.gain, 0.0) + 0.375)
        return values / math.sqrt(self.noise.offset)

    def slope(self, values: Floats) -> Floats:
        """The derivative of `scaled`."""
        if self.noise.counts:
            gain = self.noise.gain
            return 1 / (gain * np.sqrt(np.maximum(values / gain, 0.0) + 0.375))
        return np.full(np.shape(values), 1 / math.sqrt(self.noise.offset))

    def summits(self, least: float) -> list[tuple[int, float]]:
        """Local maxima of the grid, most prominent first: their index and their prominence.

        Those whose prominence is less than `least` standard deviations are left out.
        """
        scaled = self.scaled(np.where(self.known, self.values, np.nanmin(self.values))).ravel()
        found = prominences(scaled, grid_neighbours(self.values.shape))
        chosen = [(at, rise) for at, (rise, _) in found.items() if rise >= least]
        return sorted(chosen, key=lambda item: -item[1])

    def background(self, peaks: Floats) -> Floats:
        """The background at the points of the grid, where `peaks` are known; shape of the grid.

        A plane, and where that is not enough the median of the neighbourhood.
        """
        rest = np.where(self.known, self.values - peaks.reshape(self.values.shape), np.nan)
        plane = self._plane(rest.ravel()).reshape(rest.shape)
        expected = np.maximum(plane, 0.0)
        departure = (rest - plane) * self.slope(expected)
        departure[~self.known] = 0.0
        local = _local_median(departure)
        # The median of 25 points of pure noise scatters by a quarter of the noise.
        if 1.4826 * median(np.abs(local).ravel()) < 0.45:
            return plane
        return plane + local / self.slope(expected)

    def _plane(self, rest: Floats) -> Floats:
        known = np.flatnonzero(np.isfinite(rest))
        y, basis = rest[known], self._basis[:, known]
        level: Floats | float = median(y)
        solution = np.zeros(len(basis))
        solution[0] = level
        for _ in range(6):
            variance = self.noise.variance(np.maximum(level, 0.0))
            away = (y - level) ** 2 / variance
            # Points within 2 standard deviations have the full weight, peaks soon none.
            weight = 4 / np.maximum(away, 4) / variance
            normal = basis * weight
            solution = solved(normal.dot(basis.T), normal.dot(y))
            level = solution.dot(basis)
        return solution.dot(self._basis)

    def candidates(
        self,
        background: Floats,
        peaks: Floats,
        extra: Floats,
        extra_values: Floats,
        extra_peaks: Floats,
        least: float,
        most: int,
    ) -> list[Candidate]:
        """Where the residuals suggest another peak, most significant first.

        Parameters
        ----------
        background
            What `background` made, shape of the grid.
        peaks
            The peaks known so far at the points of the grid, same shape.
        extra, extra_values, extra_peaks
            The points beside the grid, shape (n, axes), what was measured there, and the known
            peaks there, shape (n,).
        least
            The least significance.
        most
            At most so many candidates.
        """
        under = np.maximum(background, 0.0)
        usual = float(self.slope(np.array(median(under.ravel()))))
        residual, weight = self._standard(self.values, under, peaks, usual)
        residual[~self.known] = weight[~self.known] = 0.0
        nearest = tuple(
            np.abs(extra[:, k, None] - at).argmin(axis=1) for k, at in enumerate(self.grid)
        )
        more, more_weight = self._standard(extra_values, under[nearest], extra_peaks, usual)
        found: list[Candidate] = []
        for kernels, scale in zip(self._kernels, _SCALES, strict=True):
            signal = _apply(kernels, residual * weight)
            power = _apply([k * k for k in kernels], weight * weight)
            if len(extra):
                factors = [_kernel(at, extra[:, k], scale) for k, at in enumerate(self.lattice)]
                signal += _combine(factors, more * more_weight)
                power += _combine([f * f for f in factors], more_weight**2)
            significance = signal / np.sqrt(np.maximum(power, _FAINT))
            for index in _maxima(significance, self.lattice, 0.9 * scale, least, most):
                center = np.array([at[i] for at, i in zip(self.lattice, index, strict=True)])
                found.append(
                    Candidate(
                        center,
                        float(significance[index]),
                        float(signal[index] / max(power[index], _FAINT)) / usual,
                        scale,
                        _uphill(significance, index),
                    )
                )
        found.sort(key=lambda each: -each.significance + (_WIDER if each.fwhm > 1 else 0.0))
        centers = np.array([each.center for each in found]).reshape(len(found), len(self.grid))
        reach = 0.9 * np.array([each.fwhm for each in found])
        kept: list[Candidate] = []
        free = np.ones(len(found), dtype=bool)
        for k, candidate in enumerate(found):
            if free[k] and len(kept) < most:
                kept.append(candidate)
                apart = np.abs(centers - candidate.center).max(axis=1)
                free &= apart > np.maximum(reach, reach[k])
        return kept

    def _standard(
        self, values: Floats, under: Floats, peaks: Floats, usual: float
    ) -> tuple[Floats, Floats]:
        """Residuals over their noise, and the sensitivity to a peak where `usual` is that of 1."""
        model = under + peaks
        slope = self.slope(model)
        noise = np.sqrt(1 + (_SHAPE_ERROR * peaks * slope) ** 2)
        residual = (self.scaled(values) - self.scaled(model)) / noise
        return residual, slope / usual / noise


def _noise(values: Floats) -> Noise:
    """The noise of a signal: that of counts, of scaled counts, or the same everywhere."""
    noise = replace(Noise.of(values), shape_error=_FIT_SHAPE_ERROR)
    if noise.counts:
        return noise
    variance = float(noise.offset)
    level = median(values)
    if values.min() < 0 or level < 2 * math.sqrt(variance):
        return noise
    # A signal that is never negative is taken for scaled counts: if it is not, the noise of its
    # peaks is taken for larger than it is, which costs a few points and makes no false peak.
    return replace(noise, gain=variance / level, offset=0.0)


def _kernel(lattice: Floats, at: Floats, scale: float) -> Floats:
    return np.exp(-_LN16 * ((lattice[:, None] - at) / scale) ** 2)


def _apply(kernels: list[Floats], grid: Floats) -> Floats:
    for kernel in kernels:
        # The first axis is summed over and comes back as the last: after all axes it is in place.
        lines = grid.reshape(len(grid), -1).T
        grid = lines.dot(kernel.T).reshape(*grid.shape[1:], len(kernel))
    return grid


def _combine(factors: list[Floats], weights: Floats) -> Floats:
    """The sum over points of weight times the product of the factors, shape of the lattice."""
    product = weights * factors[0]
    for factor in factors[1:-1]:
        product = product[..., None, :] * factor
    return product @ factors[-1].T


def _maxima(
    height: Floats, lattice: tuple[Floats, ...], reach: float, least: float, most: int
) -> list[tuple[int, ...]]:
    """The highest places, none within `reach` of a higher one."""
    left = height.copy()
    found: list[tuple[int, ...]] = []
    while len(found) < most:
        at = np.unravel_index(int(left.argmax()), left.shape)
        if left[at] < least:
            break
        found.append(tuple(int(i) for i in at))
        near = tuple(
            slice(
                int(np.searchsorted(axis, axis[i] - reach)),
                int(np.searchsorted(axis, axis[i] + reach, side="right")),
            )
            for axis, i in zip(lattice, at, strict=True)
        )
        left[near] = -np.inf
    return found


def _uphill(height: Floats, at: tuple[int, ...]) -> Floats:
    """For each axis, +1 or -1: on which side of a maximum the neighbour is higher."""
    sides = np.ones(len(at))
    for k, i in enumerate(at):
        line = height[tuple(slice(None) if j == k else n for j, n in enumerate(at))]
        below = line[i - 1] if i else -np.inf
        above = line[i + 1] if i + 1 < len(line) else -np.inf
        if below > above:
            sides[k] = -1.0
    return sides


def _local_median(values: Floats) -> Floats:
    widths = tuple(min(5, size - (size + 1) % 2) for size in values.shape)
    padded = values
    for axis, width in enumerate(widths):
        # Odd about the edge, so that a slope goes on beyond it.
        lines = np.moveaxis(padded, axis, 0)
        half = width // 2
        before = 2 * lines[0] - lines[half:0:-1]
        after = 2 * lines[-1] - lines[-2 : -2 - half : -1]
        padded = np.moveaxis(np.concatenate([before, lines, after]), 0, axis)
    windows = np.lib.stride_tricks.sliding_window_view(padded, widths)
    flat = windows.reshape(*values.shape, -1)
    # The number of values in a window is odd.
    middle = flat.shape[-1] // 2
    return np.partition(flat, middle, axis=-1)[..., middle]
