"""`zoom_scan` through a RunEngine, with the time that it spends deciding."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Sequence
from typing import Any

from benchmarks.adaptive_cases import Case
from bluesky_zarr.plans import Resolve, Strategy, Zoom, zoom_scan

from .contender import OneRun, Run
from .simulation import Beamline, run_engine


class Timed:
    """A strategy, with the seconds it took and the number of points of its first pass."""

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.seconds = 0.0
        self.coarse = 0

    def search(self, field: Any) -> Any:
        search = self._strategy.search(field)
        answer: Any = None
        first = True
        while True:
            started = time.perf_counter()
            try:
                wanted: Any = search.send(answer)
            except StopIteration as end:
                return end.value
            finally:
                self.seconds += time.perf_counter() - started
            if first:
                self.coarse, first = len(wanted.points), False
            answer = yield wanted


def resolve(case: Case, seeds: Sequence[int]) -> OneRun:
    """Points where they help the fit most."""
    return scanned(case, Resolve())


def zoom(case: Case, seeds: Sequence[int]) -> OneRun:
    """Passes around each peak, each twice as fine."""
    return scanned(case, Zoom(2))


def scanned(case: Case, strategy: Strategy) -> OneRun:
    RE = run_engine()
    starts, stops = zip(*case.axes, strict=True)

    def run(seed: int) -> Run:
        beamline = Beamline(case, seed)
        timed = Timed(strategy)
        plan = zoom_scan(
            [beamline.detector],
            "det",
            beamline.motors,
            starts,
            stops,
            narrowest=case.narrowest,
            strategy=timed,
        )
        started = time.perf_counter()
        # The plan prints its result at the end.
        with contextlib.redirect_stdout(io.StringIO()):
            result: Any = RE(plan)
        rest = time.perf_counter() - started - timed.seconds
        return Run(beamline.exposures, result.plan_result.peaks, timed.coarse, timed.seconds, rest)

    return run
