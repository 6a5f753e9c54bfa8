"""What the decisions of an adaptive scan cost beside the RunEngine that carries them out.

    python benchmarks/deciding.py [--seeds N] [--cases NAME ...]

For each case and seed, one after the other: `zoom_scan` with `Resolve` through a RunEngine, whose
decisions are timed; the same with a condition, `when="peak(prominence=50)"`, whose evaluation is
timed; and the points that were measured once more, as plain steps of raw messages without any
decision, on devices that answer at once ("bare") and on simulated devices of ophyd-async. Printed
are medians over the seeds, per point, and means over all points. As a part of `make bench` there
are a few cases.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The folder of this file goes: in it `import adaptive` would find another file than the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.adaptive_cases import TABLE, Case, by_name
from benchmarks.adaptive_parts.ours import Timed
from benchmarks.adaptive_parts.simulation import Beamline, run_engine
from benchmarks.adaptive_parts.stepping import plain_devices, seconds, soft_devices
from bluesky_zarr.plans import PeakFound, Readings, Resolve, zoom_scan

GOAL = 0.05
SEEDS = 7
QUICK_CASES, QUICK_SEEDS = ("FWHM 5", "doublet 4 apart", "2-D 8x12"), 2


class TimedTrigger:
    """A condition on a peak, with the seconds that its evaluations took."""

    names = ()

    def __init__(self) -> None:
        self._trigger = PeakFound(min_prominence=50)
        self.seconds = 0.0

    def evaluate(self, readings: Readings) -> bool:
        started = time.perf_counter()
        try:
            return self._trigger.evaluate(readings)
        finally:
            self.seconds += time.perf_counter() - started


@dataclass(frozen=True)
class Cost:
    """Seconds per point: of decisions, of a condition, and of a RunEngine on either devices."""

    points: float
    deciding: float
    condition: float
    bare: float
    soft: float


class Measurement:
    """All that is timed of one case, on devices and RunEngines that are made once."""

    def __init__(self, case: Case) -> None:
        self.case = case
        self.RE, self.soft_RE = run_engine(), run_engine()
        self.plain = plain_devices(case.dims)
        self.soft = soft_devices(case.dims)

    def __call__(self, seed: int) -> Cost:
        points, deciding, _ = self._scanned(seed, None)
        bare = seconds(self.RE, *self.plain, points) / len(points)
        soft = seconds(self.soft_RE, *self.soft, points) / len(points)
        conditioned, _, condition = self._scanned(seed, TimedTrigger())
        return Cost(len(points), deciding / len(points), condition / len(conditioned), bare, soft)

    def _scanned(self, seed: int, when: TimedTrigger | None) -> tuple[np.ndarray, float, float]:
        beamline = Beamline(self.case, seed)
        timed = Timed(Resolve())
        starts, stops = zip(*self.case.axes, strict=True)
        plan = zoom_scan(
            [beamline.detector],
            "det",
            beamline.motors,
            starts,
            stops,
            narrowest=self.case.narrowest,
            strategy=timed,
            when=when,
        )
        # The plan prints its result at the end.
        with contextlib.redirect_stdout(io.StringIO()):
            self.RE(plan)
        return beamline.points, timed.seconds, when.seconds if when else 0.0


def median_of(costs: Sequence[Cost]) -> Cost:
    columns: Any = zip(*(vars(cost).values() for cost in costs), strict=True)
    return Cost(*map(statistics.median, columns))


def row(name: str, cost: Cost) -> str:
    parts = [f"{1e6 * value:8.0f}" for value in (cost.deciding, cost.condition)]
    parts += [f"{1e6 * value:9.0f}" for value in (cost.bare, cost.soft)]
    shares = [100 * cost.deciding / cost.bare, 100 * cost.deciding / cost.soft]
    parts += [f"{share:9.1f} %" for share in shares]
    return f"{name:30}{cost.points:8g}" + "".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, help=f"how many ({SEEDS})")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="see adaptive_cases.py")
    options = parser.parse_args()
    quick = "MAKELEVEL" in os.environ
    seeds = options.seeds or (QUICK_SEEDS if quick else SEEDS)
    names = options.cases or (QUICK_CASES if quick else ())
    try:
        cases = [by_name(name) for name in names] or TABLE
    except KeyError as error:
        parser.error(error.args[0])
    print(
        f"{'microseconds per point':30}  points  decide    when     bare ophyd-async"
        "    of bare  of ophyd-async"
    )
    every: list[Cost] = []
    medians: dict[str, Cost] = {}
    for case in cases:
        measure = Measurement(case)
        measure(0)  # what is only done once is not counted
        costs = [measure(seed) for seed in range(seeds)]
        every += costs
        medians[case.name] = cost = median_of(costs)
        print(row(case.name, cost), flush=True)
    points = sum(cost.points for cost in every)
    mean = Cost(
        statistics.mean(cost.points for cost in every),
        *(
            sum(getattr(cost, name) * cost.points for cost in every) / points
            for name in ("deciding", "condition", "bare", "soft")
        ),
    )
    print(row("all points", mean))
    print()
    for name, devices in (("soft", "devices of ophyd-async"), ("bare", "bare devices")):
        verdict = "pass" if mean.deciding < GOAL * getattr(mean, name) else "FAIL"
        above = [c for c, cost in medians.items() if cost.deciding >= GOAL * getattr(cost, name)]
        print(
            f"{verdict}  on average below {100 * GOAL:g} % of the RunEngine's time with {devices}; "
            f"not below in: {', '.join(above) or 'no case'}"
        )


if __name__ == "__main__":
    main()
