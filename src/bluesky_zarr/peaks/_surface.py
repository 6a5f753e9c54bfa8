"""Peaks over several axes on a background: the model, its derivatives, and its fit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, Literal, cast

import numpy as np

from ._flat_nd import box, disc
from ._models import FLAT_TOP, MIXED, Floats
from ._noise import Noise
from ._solve import ENOUGH, solve

__all__ = ["Surface", "SurfaceFit", "fit_surface"]

_LN16 = 4 * math.log(2)


@dataclass(frozen=True)
class Surface:
    """Peaks of one shape on a background, over `axes` axes: how the parameters are laid out.

    First the background at the origin, and its slope along each axis if it is `sloped`. Then for
    each peak: height, centre per axis, logarithm of the FWHM per axis, for `rotated` peaks one
    number for each pair of axes, and if `mixed` the Lorentzian fraction of a pseudo-Voigt, or the
    mixing of a `flat` top.

    With u the distances to the centre in FWHM, a peak is a function of ``q = sum(u_i ** 2) + 2 *
    sum(r_ij * u_i * u_j)``: a Gaussian ``exp(-4 ln2 q)``, a Lorentzian ``1 / (1 + 4 q)``. So the
    FWHM along an axis is that of a cut through the centre along this axis. A flat top is a disc, a
    super-Gaussian of q, or a box, the product of super-Gaussians of each u, which are upright;
    both are Gaussians with a mixing of 0.
    """

    axes: int
    peaks: int
    sloped: bool = False
    rotated: bool = False
    mixed: bool = False
    lorentzian: float = 0.0
    flat: Literal["", "disc", "box"] = ""

    def __post_init__(self) -> None:
        if self.flat and not self.mixed:
            raise ValueError(f"flat={self.flat!r}: a flat top is mixed, give mixed=True")
        if self.flat == "box" and self.rotated:
            raise ValueError(f"flat={self.flat!r}: boxes are upright, leave rotated=True out")

    @cached_property
    def first(self) -> int:
        """The index of the first parameter of the first peak."""
        return 1 + (self.axes if self.sloped else 0)

    @cached_property
    def each(self) -> int:
        """How many parameters a peak has."""
        pairs = self.axes * (self.axes - 1) // 2
        return 1 + 2 * self.axes + (pairs if self.rotated else 0) + self.mixed

    @cached_property
    def size(self) -> int:
        """How many parameters there are."""
        return self.first + self.peaks * self.each

    @property
    def _most_mixed(self) -> float:
        return MIXED[FLAT_TOP] if self.flat else 1.0

    def at(self, peak: int) -> slice:
        """Where the parameters of a peak are."""
        begin = self.first + peak * self.each
        return slice(begin, begin + self.each)

    def start(self, background: float, heights: Floats, centers: Floats, fwhms: Floats) -> Floats:
        """Parameters to begin with: peaks upright, the background flat."""
        params = np.zeros(self.size)
        params[0] = background
        d = self.axes
        rows = params[self.first :].reshape(self.peaks, self.each)
        rows[:, 0] = heights
        rows[:, 1 : 1 + d] = centers
        rows[:, 1 + d : 1 + 2 * d] = np.log(fwhms)
        if self.mixed:
            rows[:, -1] = 0.5 if self.flat else 0.3
        return params

    def curve(self, params: Floats, points: Floats) -> Floats:
        """The peaks alone, shape (n,), without any derivatives."""
        peaks = np.zeros(len(points))
        for k in range(self.peaks):
            peaks += self.one(params[self.at(k)], points)
        return peaks

    def one(self, params: Floats, points: Floats) -> Floats:
        """One peak alone, from its own parameters."""
        u, half_dq, _ = self._distances(params, points.T)
        if self.flat == "box":
            return params[0] * box(u, float(params[-1]))[0]
        half_dq *= u
        q = half_dq[0] + half_dq[1] if self.axes == 2 else np.add.reduce(half_dq, axis=0)
        if self.flat:
            return params[0] * disc(q, float(params[-1]))[0]
        eta = float(params[-1]) if self.mixed else self.lorentzian
        shape = np.exp(q * -_LN16)
        if eta:
            q *= 4
            q += 1
            shape += eta * (1 / q - shape)
        shape *= params[0]
        return shape

    def limits(
        self, low: Floats, high: Floats, narrow: Floats, wide: Floats
    ) -> tuple[Floats, Floats]:
        """The lowest and highest parameters, no height being negative.

        `low` and `high` are those of the centres, `narrow` and `wide` those of the FWHMs, each of a
        shape that broadcasts to (peaks, axes).
        """
        least, most = np.full(self.size, -np.inf), np.full(self.size, np.inf)
        d = self.axes
        for limit, centers, fwhms, sign in ((least, low, narrow, -1), (most, high, wide, 1)):
            rows = limit[self.first :].reshape(self.peaks, self.each)
            rows[:, 0] = 0.0 if sign < 0 else math.inf
            rows[:, 1 : 1 + d] = centers
            rows[:, 1 + d : 1 + 2 * d] = np.log(fwhms)
            # Beyond this the form may have no centre: it is positive for |r| < 1 / (d - 1).
            rows[:, 1 + 2 * d :] = sign * (0.99 if d == 2 else 0.9 / (d - 1))
            if self.mixed:
                rows[:, -1] = 0.0 if sign < 0 else self._most_mixed
        return least, most

    def evaluate(self, params: Floats, points: Floats) -> tuple[Floats, Floats, Floats]:
        """The peaks alone and all, shape (n,), and derivatives, shape (parameters, n)."""
        rows = np.empty((self.size, len(points)))
        peaks, values = self.write(params, points.T, rows)
        return peaks, values, rows

    def write(self, params: Floats, columns: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """Write the derivatives at points of the shape (axes, n), and return both curves."""
        first, each = self.first, self.each
        rows[0] = 1.0
        if self.sloped:
            rows[1:first] = columns
        peaks = np.zeros(columns.shape[1])
        for begin in range(first, self.size, each):
            where = slice(begin, begin + each)
            peaks += self._peak(params[where], columns, rows[where])
        return peaks, peaks + params[:first].dot(rows[:first])

    def _distances(self, params: Floats, columns: Floats) -> tuple[Floats, Floats, Floats]:
        """Distances to a centre in FWHM, half the derivatives of q by them, and the FWHMs."""
        d = self.axes
        widths = np.exp(params[1 + d : 1 + 2 * d, None])
        u = columns - params[1 : 1 + d, None]
        u /= widths
        if not self.rotated:
            return u, u.copy(), widths
        if d == 2:
            # Turned round and scaled, the distances are what a product with the form would add.
            half_dq = u[::-1] * params[5]
            half_dq += u
            return u, half_dq, widths
        form = np.eye(d)
        for k, (i, j) in enumerate(_pairs(d)):
            form[i, j] = form[j, i] = params[1 + 2 * d + k]
        return u, form.dot(u), widths

    def _peak(self, params: Floats, columns: Floats, rows: Floats) -> Floats:
        d = self.axes
        height = float(params[0])
        u, half_dq, widths = self._distances(params, columns)
        by_center, by_width = rows[1 : 1 + d], rows[1 + d : 1 + 2 * d]
        if self.flat == "box":
            rows[0], by_width[:], rows[-1] = box(u, float(params[-1]))
            rows[1 + d :] *= height
            np.divide(by_width, np.where(u == 0.0, 1.0, u) * widths, by_center)
            return height * rows[0]
        np.multiply(half_dq, u, by_width)
        q = by_width[0] + by_width[1] if d == 2 else np.add.reduce(by_width, axis=0)
        if self.flat:
            shape, steep, rows[-1] = disc(q, float(params[-1]))
            steep *= 2 * height
            rows[-1] *= height
        else:
            shape, steep = self._tailed(q, params, rows)
        rows[0] = shape
        np.multiply(half_dq, steep, by_center)
        by_center /= widths
        by_width *= steep
        for k, (i, j) in enumerate(_pairs(d) if self.rotated else ()):
            row = rows[1 + 2 * d + k]
            np.multiply(u[i], u[j], row)
            row *= steep
            np.negative(row, row)
        shape *= height
        return shape

    def _tailed(self, q: Floats, params: Floats, rows: Floats) -> tuple[Floats, Floats]:
        """A Gaussian or a Lorentzian or both, and minus twice its derivative by q and height."""
        height = float(params[0])
        eta = float(params[-1]) if self.mixed else self.lorentzian
        shape = np.exp(-_LN16 * q)
        steep = shape * (2 * height * _LN16 * (1 - eta))
        if self.mixed or eta:
            q *= 4
            q += 1
            lorentz = 1 / q
            steep += lorentz * lorentz * (8 * height * eta)
            lorentz -= shape
            shape += eta * lorentz
            if self.mixed:
                np.multiply(lorentz, height, rows[-1])
        return shape, steep


@cache
def _pairs(axes: int) -> list[tuple[int, int]]:
    """The pairs of axes, in the order of their parameters."""
    return [(i, j) for i in range(axes) for j in range(i)]


@dataclass(frozen=True, eq=False)
class SurfaceFit:
    """A surface fitted to points: parameters, their covariance, and how well it fits.

    `covariance` is for noise of the size that was assumed, as are `residuals`, which are in
    standard deviations, shape (n,); `peaks` is what of the surface at the points are peaks.
    """

    surface: Surface
    params: Floats
    covariance: Floats
    residuals: Floats
    peaks: Floats

    @cached_property
    def chi_squared(self) -> float:
        """The sum of the squared residuals."""
        return float(self.residuals.dot(self.residuals))

    @cached_property
    def errors(self) -> Floats:
        """The standard deviations of the parameters."""
        return np.sqrt(np.maximum(self.covariance.diagonal(), 0.0))

    @property
    def freedom(self) -> int:
        """How many points there are more than parameters."""
        return len(self.residuals) - self.surface.size

    def level(self, place: Floats) -> float:
        """The background at a place."""
        slopes = self.params[1 : self.surface.first]
        return float(self.params[0] + (place @ slopes if len(slopes) else 0.0))

    def height(self, peak: int) -> tuple[float, float]:
        """The height of a peak and its error."""
        at = self.surface.at(peak).start
        return float(self.params[at]), float(self.errors[at])

    def center(self, peak: int) -> tuple[Floats, Floats]:
        """The centre of a peak and its errors, one number for each axis."""
        at = self.surface.at(peak).start + 1
        return self._of(slice(at, at + self.surface.axes))

    def fwhm(self, peak: int) -> tuple[Floats, Floats]:
        """The FWHM of a peak and its errors, one number for each axis."""
        at = self.surface.at(peak).start + 1 + self.surface.axes
        logs, errors = self._of(slice(at, at + self.surface.axes))
        fwhms = np.exp(logs)
        return fwhms, fwhms * errors

    def form(self, peak: int) -> Floats:
        """The matrix F with which ``q = u F u`` of a peak, shape (axes, axes)."""
        d = self.surface.axes
        form = np.eye(d)
        if self.surface.rotated:
            params = self.params[self.surface.at(peak)]
            for k, (i, j) in enumerate(_pairs(d)):
                form[i, j] = form[j, i] = params[1 + 2 * d + k]
        return form

    def _of(self, where: slice) -> tuple[Floats, Floats]:
        return self.params[where], self.errors[where]


class _Sampled:
    """A surface at given points, and what is known beforehand as if it had been measured."""

    def __init__(self, surface: Surface, points: Floats, held: Any) -> None:
        self._surface = surface
        self._columns = np.ascontiguousarray(points.T)
        self._held = held
        self._n = len(points)
        self._rows = np.zeros((surface.size, self._n + len(held)))
        self._rows[held, self._n + np.arange(len(held))] = 1.0

    def evaluate(self, params: Floats) -> tuple[Floats, Floats, Floats]:
        rows = self._rows.copy()
        n = self._n
        if not len(self._held):
            return *self._surface.write(params, self._columns, rows), rows
        peaks, values = np.zeros((2, rows.shape[1]))
        peaks[:n], values[:n] = self._surface.write(params, self._columns, rows[:, :n])
        values[n:] = params[self._held]
        return peaks, values, rows


def fit_surface(
    surface: Surface,
    points: Floats,
    values: Floats,
    noise: Noise,
    start: Floats,
    limits: tuple[Floats, Floats],
    *,
    expected: Floats | None = None,
    spread: Floats | None = None,
    sigma: Floats | None = None,
    rounds: int = 20,
    enough: float = ENOUGH,
) -> SurfaceFit:
    """Fit a surface by least squares, weights from the model.

    Parameters
    ----------
    surface
        What is fitted.
    points, values
        Where and what was measured, shapes (n, axes) and (n,).
    noise
        The noise of `values`; `sigma`, shape (n,), takes its place.
    start, limits
        Parameters to begin with, and the lowest and highest of each.
    expected, spread
        What is known of the parameters beforehand and how well; `spread` is infinite where nothing
        is. They keep the fit of a few points from running away.
    rounds, enough
        At most so many steps are made, and none that promises less, as `solve` has it.
    """
    n = len(values)
    held = np.empty(0, dtype=np.intp)
    known = known_variance = np.empty(0)
    if expected is not None and spread is not None:
        held = np.flatnonzero(np.isfinite(spread))
        known, known_variance = expected[held], spread[held] ** 2

    def variance(curve: Floats, peaks: Floats) -> Floats:
        own = sigma**2 if sigma is not None else noise.variance(curve[:n], peaks[:n])
        return np.concatenate([own, known_variance])

    solution = solve(
        cast(Any, _Sampled(surface, points, held)),
        np.concatenate([values, known]),
        start,
        limits[0].tolist(),
        limits[1].tolist(),
        variance,
        rounds=rounds,
        enough=enough,
    )
    residuals = (values - solution.curve[:n]) / np.sqrt(solution.variance[:n])
    return SurfaceFit(
        surface, solution.parameters, solution.covariance, residuals, solution.peaks[:n]
    )
