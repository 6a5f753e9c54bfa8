"""Runs a strategy without bluesky."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans._strategy import Field, Found, Measure, Measured, Outcome, ScanAxis


@dataclass
class Run:
    """What a search did."""

    outcome: Outcome
    requests: list[Measure | Found] = field(default_factory=list)

    @property
    def passes(self) -> list[Measure]:
        return [request for request in self.requests if isinstance(request, Measure)]

    @property
    def asked(self) -> list[Peak]:
        found = [request for request in self.requests if isinstance(request, Found)]
        return [peak for request in found for peak in request.peaks]

    @property
    def points(self):
        return np.concatenate([measure.points for measure in self.passes])

    @property
    def centers(self) -> list[tuple[float, ...]]:
        return sorted(peak.centers for peak in self.outcome.peaks)


def run(
    strategy,
    scan: Field,
    signal: Callable,
    approve: Callable[[Sequence[Peak]], Sequence[Peak]] = tuple,
) -> Run:
    """Run a search on a signal, which is a function of points of the shape (n, axes)."""
    search = strategy.search(scan)
    done = Run(Outcome(()))
    points = np.empty((0, len(scan.axes)))
    values, passes = np.empty(0), np.empty(0, dtype=np.int64)
    answer = None
    while True:
        try:
            request = search.send(answer)
        except StopIteration as stop:
            done.outcome = stop.value
            return done
        done.requests.append(request)
        if isinstance(request, Found):
            answer = tuple(approve(request.peaks))
            continue
        points = np.concatenate([points, request.points])
        values = np.concatenate([values, signal(request.points)])
        passes = np.concatenate([passes, np.full(len(request.points), len(done.passes) - 1)])
        good = np.isfinite(values)
        answer = Measured(points[good], values[good], passes[good])


def line(narrowest: float, start: float = 0.0, stop: float = 100.0, floor: float = 0.0, **limits):
    return Field((ScanAxis("x", start, stop, narrowest, floor),), **limits)


def square(narrowest: float, start: float = 0.0, stop: float = 100.0, floor: float = 0.0, **limits):
    axes = (ScanAxis(name, start, stop, narrowest, floor) for name in "yx")
    return Field(tuple(axes), **limits)


def gaussians(*peaks, background=10.0):
    """Expected counts: each peak is (center, fwhm, height), the first two one number per axis."""

    def rate(points):
        total = np.full(len(points), float(background))
        for center, fwhm, height in peaks:
            u2 = (((points - np.array(center)) / np.array(fwhm)) ** 2).sum(axis=1)
            total += height * np.exp(-4 * np.log(2) * u2)
        return total

    return rate


def counts(rate: Callable, seed: int = 0):
    """The signal with the noise of counts."""
    rng = np.random.default_rng(seed)
    return lambda points: rng.poisson(rate(points)).astype(float)
