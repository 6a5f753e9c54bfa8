"""All that was measured over several axes, and the peaks that account for it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import Noise, lower_quartile
from bluesky_zarr.peaks._solve import solved
from bluesky_zarr.peaks._surface import Surface, SurfaceFit, fit_surface

from ._doubts import Doubts, doubtful
from ._join import join_peaks
from ._quality import inflation_of, poor
from ._split import split_peak
from ._spot import SPARROW, TOPS, Spot, Top

__all__ = ["Explanation"]

Floats = npt.NDArray[np.float64]

#: What is known of a peak before it is measured, and how well: the logarithm of its FWHM, and that
#: it is upright and a Gaussian.
_WIDTH, _WIDTH_SPREAD, _FORM_SPREAD = math.log(1.25), 0.7, 0.3
#: The mixing of a flat top, before it is measured.
_FLATNESS = 0.6
#: By what a flat top must lower chi-squared.
_FLAT = 9.0
#: Where a fit ends: no parameter is then off by more than a twentieth of its error; where the
#: coarse grid alone tells of a peak, by a sixth, as other points will soon tell more.
_ENOUGH, _ROUGHLY = 0.0025, 0.025


class Explanation:
    """Readings over several axes, and the peaks that account for them.

    Peaks are fitted with what is near them on a background of their own, neighbours together. One
    that the readings contradict is tried as two.

    Parameters
    ----------
    bounds
        The ends of each axis, shape (axes, 2).
    step
        The distance of neighbours on the coarse grid along each axis.
    """

    def __init__(self, bounds: Floats, step: Floats) -> None:
        self.bounds = bounds
        self.step = step
        self.axes = len(bounds)
        self.noise = Noise()
        self.points = np.empty((0, self.axes))
        self.values = np.empty(0)
        self.spots: list[Spot] = []
        self.doubts = Doubts()

    @property
    def live(self) -> list[Spot]:
        """The spots that are still taken for peaks."""
        return [spot for spot in self.spots if not spot.dropped]

    @property
    def used(self) -> npt.NDArray[np.bool_]:
        """Which readings are believed."""
        return np.logical_not(self.doubts.out)

    def refit(self) -> None:
        """Fit the peaks that are not done yet, where there is something new."""
        for cluster in self._clusters():
            window = self.window(cluster)
            news = (int(window.sum()), *sorted(id(spot) for spot in cluster))
            if all(spot.done or spot.seen == news for spot in cluster):
                continue
            self._solve(cluster, window)
            for spot in cluster:
                spot.seen = news
        self._merge()

    def model(self, points: Floats, spots: list[Spot]) -> Floats:
        """What the peaks amount to at points, without any background."""
        total = np.zeros(len(points))
        if not len(points):
            return total
        for spot in spots:
            if spot.fit is not None:
                surface = spot.fit.surface
                total += surface.one(spot.fit.params[surface.at(spot.index)], points)
        return total

    def significance(self, spot: Spot) -> float:
        """By how many standard deviations, over all points, the peak is there."""
        window = self.window([spot])
        part = self.model(self.points[window], [spot])
        weight = 1 / self.noise.variance(part + max(self.level(spot), 0.0))
        # What a plane would explain as well is no evidence.
        plane = np.empty((self.axes + 1, part.size))
        plane[0] = 1.0
        plane[1:] = (self.points[window] - spot.center).T
        normal = plane * weight
        left = part - solved(normal.dot(plane.T), normal.dot(part)).dot(plane)
        return math.sqrt(float((left * left).dot(weight)))

    def level(self, spot: Spot) -> float:
        """The background below the centre."""
        return spot.fitted.level(spot.center)

    def core(self, spot: Spot) -> int:
        """How many readings are on a peak."""
        return int(np.count_nonzero(self.on(spot) & self.used))

    def on(self, spot: Spot) -> npt.NDArray[np.bool_]:
        """Which readings are on a peak."""
        u = (self.points - spot.center) / spot.fwhm
        return np.add.reduce(u.dot(spot.form) * u, axis=1) < 1.25

    def window(self, cluster: list[Spot]) -> npt.NDArray[np.bool_]:
        """Which readings are on some peaks or near them."""
        inside = np.zeros(len(self.points), dtype=bool)
        for spot in cluster:
            reach = 1.7 * spot.reach + 1.6 * self.step
            inside |= (np.abs(self.points - spot.center) <= reach).all(axis=1)
        return inside & self.used

    def fit(
        self, cluster: list[Spot], points: Floats, values: Floats, *, plain: bool = False
    ) -> SurfaceFit:
        """Fit some peaks to some readings; `plain` ones are upright Gaussians.

        One that has a flat top, has neighbours that have one.
        """
        n, d = len(cluster), self.axes
        sloped = len(values) > n * (3 + 4 * d) + 4 * d
        flat: Top = ""
        for spot in () if plain else cluster:
            flat = spot.flat or flat
        rotated = not plain and flat != "box"
        surface = Surface(d, n, sloped=sloped, rotated=rotated, mixed=not plain, flat=flat)
        centers = np.array([spot.center for spot in cluster])
        fwhms = np.minimum(np.maximum([spot.fwhm for spot in cluster], 0.35), 1e3)
        heights = np.array([spot.height for spot in cluster])
        start = surface.start(lower_quartile(values), heights, centers, fwhms)
        spread = np.full(surface.size, np.inf)
        expected = np.zeros(surface.size)
        for k, spot in enumerate(cluster):
            where = surface.at(k)
            at = where.start
            if rotated:
                pairs = spot.form[np.tril_indices(d, -1)]
                start[at + 1 + 2 * d : at + 1 + 2 * d + len(pairs)] = pairs
            if spot.fit is not None and _alike(spot.fit.surface, surface):
                start[where] = spot.fit.params[spot.fit.surface.at(spot.index)]
            expected[at + 1 + d : at + 1 + 2 * d] = _WIDTH
            spread[at + 1 + d : at + 1 + 2 * d] = _WIDTH_SPREAD
            spread[at + 1 + 2 * d : where.stop] = _FORM_SPREAD
            if flat:
                expected[where.stop - 1] = _FLATNESS
        reach = 1.2 * fwhms + 0.3
        limits = surface.limits(
            np.maximum(centers - reach, self.bounds[:, 0] - 0.5),
            np.minimum(centers + reach, self.bounds[:, 1] + 0.5),
            np.full(d, 0.3),
            3 * np.ptp(self.bounds, axis=1),
        )
        return fit_surface(
            surface,
            points,
            values,
            self.noise,
            np.minimum(np.maximum(start, limits[0]), limits[1]),
            limits,
            expected=expected,
            spread=spread,
            enough=_ENOUGH if any(spot.sought for spot in cluster) else _ROUGHLY,
        )

    def _clusters(self) -> list[list[Spot]]:
        """Peaks whose windows overlap are fitted together."""
        left = self.live
        clusters: list[list[Spot]] = []
        while left:
            cluster = [left.pop()]
            grown = True
            while grown:
                grown = False
                for spot in list(left):
                    if any(self._touch(spot, other) for other in cluster):
                        cluster.append(spot)
                        left.remove(spot)
                        grown = True
            clusters.append(cluster)
        return clusters

    def _touch(self, one: Spot, other: Spot) -> bool:
        reach = 1.7 * np.maximum(one.reach, other.reach) + 1.6 * self.step + 0.5
        return bool((np.abs(one.center - other.center) < reach).all())

    def _solve(self, cluster: list[Spot], window: npt.NDArray[np.bool_]) -> None:
        which = np.flatnonzero(window)
        points, values = self.points[which], self.values[which]
        # The models of peaks outside of this cluster are what they are.
        others = self.model(points, [s for s in self.live if s not in cluster])
        values = values - others
        best = self.fit(cluster, points, values)
        if poor(best):
            again = self.fit(self._fresh(cluster, points, values), points, values)
            if again.chi_squared < best.chi_squared - 1:
                best = again
        flat = self._flattened(cluster, best, points, values) if poor(best) else best
        if not poor(flat):
            best = flat
        if poor(best) and (found := doubtful(self, cluster, best, which, values)):
            wrong, best = found
            self.doubts.doubt(wrong)
        if poor(best):
            # Two peaks that were taken for a flat top leave nothing between them where they are.
            upright = [replace(spot, flat="") for spot in cluster]
            tailed = self.fit(upright, points, values) if best.surface.flat else best
            split = split_peak(self, cluster, tailed, points, values)
            if split is not None and split[1].chi_squared > best.chi_squared:
                split = None
            if split is not None:
                new, best = split
                self.spots.append(new)
                cluster = [*cluster, new]
                for spot in cluster:
                    spot.done = False
            elif flat.chi_squared < 0.5 * best.chi_squared:
                best = flat
        if (join := join_peaks(self, cluster, best, points, values)) is not None:
            left, best = join
            for spot in cluster:
                if spot not in left:
                    spot.dropped = "it is part of another one"
            self.spots.append(left[0])
            cluster = left
        for k, spot in enumerate(cluster):
            spot.form = best.form(k)
            spot.fit, spot.index, spot.flat = best, k, best.surface.flat
            spot.center = best.center(k)[0].copy()
            spot.fwhm = best.fwhm(k)[0].copy()
            spot.height = best.height(k)[0]
            spot.inflation = inflation_of(best)

    def _flattened(
        self, cluster: list[Spot], best: SurfaceFit, points: Floats, values: Floats
    ) -> SurfaceFit:
        """The fit with another kind of top, if this describes the readings and `best` does not."""
        for flat in (*TOPS[1:], TOPS[0]):
            if flat == best.surface.flat:
                continue
            trial = self.fit([replace(s, flat=flat) for s in cluster], points, values)
            # Of what has tails least is believed beforehand.
            if trial.chi_squared < best.chi_squared - (_FLAT if flat else 0.0):
                best = trial
        return best

    def _fresh(self, cluster: list[Spot], points: Floats, values: Floats) -> list[Spot]:
        """The peaks as one would guess them if they had never been fitted: narrow, at the top."""
        guessed = []
        for spot in cluster:
            if not spot.done:
                reach = np.minimum(0.8 * spot.fwhm, 2.0) + 0.5
                near = (np.abs(points - spot.center) <= reach).all(axis=1)
                if near.any():
                    top = np.flatnonzero(near)[int(values[near].argmax())]
                    rise = float(values[top] - lower_quartile(values))
                    spot = Spot(points[top], np.full(self.axes, 1.3), max(rise, 0.0))
            guessed.append(spot)
        return guessed

    def _merge(self) -> None:
        """Peaks that have come to lie on each other are one, which may not be split again."""
        # One that has been asked for is not to be asked for again under another name.
        live = sorted(self.live, key=lambda spot: (not spot.asked, -spot.height))
        for k, spot in enumerate(live):
            for first in live[:k]:
                apart = (spot.center - first.center) / (0.5 * (spot.fwhm + first.fwhm))
                if not first.dropped and (apart**2).sum() < 0.5 * SPARROW:
                    spot.dropped = "it is the same as another one"
                    first.whole, first.done = True, False
                    break


def _alike(one: Surface, other: Surface) -> bool:
    """Whether the parameters of a peak mean the same."""
    return one.each == other.each and one.flat == other.flat
