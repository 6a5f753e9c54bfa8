"""What stands out of a coarse grid over several axes, and of the points beside it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._flood import prominences
from bluesky_zarr.peaks._noise import Noise, median
from bluesky_zarr.peaks._solve import solved

__all__ = ["Candidate", "Landscape"]

Floats = npt.NDArray[np.float64]

_LN16 = 4 * math.log(2)
#: FWHMs that are looked for, in units of the narrowest: each twice the one before.
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
        self._basis = np.ones((1 + len(grid), values.size))
        for k, at in enumerate(grid):
            along = self._basis[1 + k].reshape(values.shape)
            along *= at.reshape([-1 if axis == k else 1 for axis in range(len(grid))])
        self.points = self._basis[1:].T
        self.noise = _noise(values[self.known])
        self._straight = False
        self._level: Floats | None = None
        self.lattice = tuple(
            np.unique(np.concatenate([ends, at, (at[1:] + at[:-1]) / 2]))
            for at, ends in zip(grid, bounds, strict=True)
        )
        self._kernels = _kernels(self.lattice, grid)
        self._squares = [[kernel * kernel for kernel in kernels] for kernels in self._kernels]
        # On each axis, from where to where of the lattice another candidate is too near.
        self._reach = [
            [
                (
                    lattice.searchsorted(lattice - 0.9 * scale).tolist(),
                    lattice.searchsorted(lattice + 0.9 * scale, side="right").tolist(),
                )
                for lattice in self.lattice
            ]
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

    def summits(self, least: float, among: npt.NDArray[np.bool_]) -> list[int]:
        """Local maxima of the grid, most prominent first: their indices.

        Those whose prominence is less than `least` standard deviations are left out, and those that
        are not `among` some points, an array of the shape of the grid.
        """
        scaled = self.scaled(np.where(self.known, self.values, np.nanmin(self.values)))
        if not among.any():
            return []
        # What lies lower does not matter to any of them, but for the lowest.
        above = scaled >= float(scaled[among].min()) - least
        above.ravel()[scaled.argmin()] = True
        numbers = np.full([size + 2 for size in scaled.shape], -1)
        inner = (slice(1, -1),) * scaled.ndim
        numbers[inner][above] = np.arange(np.count_nonzero(above))
        flat, places = numbers.ravel(), np.flatnonzero(numbers >= 0)
        beside = list(itertools.product((-1, 0, 1), repeat=scaled.ndim))
        steps = np.array(beside).dot(np.array(numbers.strides) // numbers.itemsize)
        near = flat[places[:, None] + steps[steps != 0]].tolist()
        found = prominences(scaled[above], [[k for k in row if k >= 0] for row in near])
        at = np.flatnonzero(above.ravel()).tolist()
        chosen = among.ravel()
        rises = [(rise, at[k]) for k, (rise, _) in found.items() if chosen[at[k]]]
        return [k for rise, k in sorted(rises, key=lambda item: -item[0]) if rise >= least]

    def background(self, peaks: Floats) -> Floats:
        """The background at the points of the grid, where `peaks` are known; shape of the grid.

        A plane, and where that is not enough the median of the neighbourhood.
        """
        rest = np.where(self.known, self.values - peaks.reshape(self.values.shape), np.nan)
        plane = self._plane(rest.ravel()).reshape(rest.shape)
        if self._straight:
            return plane
        expected = np.maximum(plane, 0.0)
        departure = (rest - plane) * self.slope(expected)
        departure[~self.known] = 0.0
        local = _local_median(departure)
        # The median of 25 points of pure noise scatters by a quarter of the noise.
        if 1.4826 * median(np.abs(local).ravel()) < 0.45:
            # It stays that: the peaks that are known later only leave less to explain.
            self._straight = True
            return plane
        return plane + local / self.slope(expected)

    def under(self, peaks: Floats) -> Floats:
        """The same, counts not below zero."""
        background = self.background(peaks)
        return np.maximum(background, 0.0) if self.noise.counts else background

    def _plane(self, rest: Floats) -> Floats:
        y, basis = rest, self._basis
        if not self.known.all():
            known = self.known.ravel()
            y, basis = rest[known], basis[:, known]
        level: Floats | float
        solution = np.zeros(len(basis))
        if self._level is None:
            level, rounds = median(y), 6
        else:
            # The last one is near it already.
            level, rounds = self._level.dot(basis), 2
        for _ in range(rounds):
            variance = self.noise.variance(np.maximum(level, 0.0))
            away = (y - level) ** 2 / variance
            # Points within 2 standard deviations have the full weight, peaks soon none.
            weight = 4 / np.maximum(away, 4) / variance
            normal = basis * weight
            solution = solved(normal.dot(basis.T), normal.dot(y))
            level = solution.dot(basis)
        self._level = solution
        return solution.dot(self._basis)

    def candidates(
        self,
        under: Floats,
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
        under
            What `under` made, shape of the grid.
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
        usual = float(self.slope(np.array(median(under.ravel()))))
        residual, weight = self._standard(self.values, under, peaks, usual)
        residual[~self.known] = weight[~self.known] = 0.0
        nearest = tuple(
            np.abs(extra[:, k, None] - at).argmin(axis=1) for k, at in enumerate(self.grid)
        )
        more, more_weight = self._standard(extra_values, under[nearest], extra_peaks, usual)
        signals, powers = residual * weight, weight * weight
        more_signals, more_powers = more * more_weight, more_weight * more_weight
        beside = _kernels(self.lattice, extra.T)
        found: list[tuple[float, int, tuple[int, ...]]] = []
        maps = []
        for k, scale in enumerate(_SCALES):
            signal = _apply(self._kernels[k], signals)
            power = _apply(self._squares[k], powers)
            if len(extra):
                factors = beside[k]
                signal += _combine(factors, more_signals)
                power += _combine([f * f for f in factors], more_powers)
            power = np.maximum(power, _FAINT)
            significance = signal / np.sqrt(power)
            maps.append((significance, signal, power))
            for height, index in _maxima(significance, self._reach[k], least, most):
                found.append((height - (_WIDER if scale > 1 else 0.0), k, index))
        found.sort(key=lambda each: -each[0])
        axes = [at.tolist() for at in self.lattice]
        kept: list[Candidate] = []
        taken: list[tuple[list[float], float]] = []
        for _, k, index in found:
            if len(kept) == most:
                break
            center = [at[i] for at, i in zip(axes, index, strict=True)]
            reach = 0.9 * _SCALES[k]
            if any(
                max(abs(a - b) for a, b in zip(center, other, strict=True)) <= max(reach, far)
                for other, far in taken
            ):
                continue
            taken.append((center, reach))
            significance, signal, power = maps[k]
            kept.append(
                Candidate(
                    np.array(center),
                    float(significance[index]),
                    float(signal[index] / power[index]) / usual,
                    _SCALES[k],
                    _uphill(significance, index),
                )
            )
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


def _kernels(lattice: Sequence[Floats], places: Iterable[Floats]) -> list[list[Floats]]:
    """Gaussians of each scale around places, at those of the lattice, for each axis."""
    by_axis = []
    for at, place in zip(lattice, places, strict=True):
        away = at[:, None] - place
        away *= away
        away *= -_LN16 / _SCALES[-1] ** 2
        kernels = [np.exp(away)]
        for _ in _SCALES[1:]:
            # A Gaussian of half the width is the fourth power: that takes less time.
            square = kernels[-1] * kernels[-1]
            kernels.append(square * square)
        by_axis.append(kernels[::-1])
    return [list(kernels) for kernels in zip(*by_axis, strict=True)]


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
    height: Floats, reach: list[tuple[list[int], list[int]]], least: float, most: int
) -> list[tuple[float, tuple[int, ...]]]:
    """The highest places and their heights, none within `reach` of a higher one."""
    left = height.copy()
    flat = left.ravel()
    found: list[tuple[float, tuple[int, ...]]] = []
    while len(found) < most:
        place = int(flat.argmax())
        highest = flat.item(place)
        if highest < least:
            break
        at = []
        for size in reversed(left.shape):
            place, index = divmod(place, size)
            at.insert(0, index)
        found.append((highest, tuple(at)))
        near = zip(at, reach, strict=True)
        left[tuple(slice(first[i], last[i]) for i, (first, last) in near)] = -math.inf
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
