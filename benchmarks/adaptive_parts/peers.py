"""The samplers that ours is compared with, each with the settings that suit it best.

All but ours leave points only; the peaks in them are found by `analyse`, the same for all.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import os
import statistics
import subprocess
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import bluesky.plans as bp
import numpy as np
from bluesky.utils import Msg

from benchmarks.adaptive_cases import Case, Truth, score

from .analysis import analyse
from .contender import Contender, OneRun, Run
from .simulation import Beamline, Done, run_engine

#: The share of successes at which fewer exposures count for more than further successes.
ENOUGH = 0.95

Setting = TypeVar("Setting")
Plan = Generator[Msg, Any, Any]
PlanOf = Callable[[Beamline], Plan]


def uniform(case: Case, seeds: Sequence[int]) -> OneRun | None:
    """Evenly spaced points, four to the narrowest width."""
    if case.dims > 1:
        return None
    number = quarters(case)

    def run(seed: int) -> Run:
        points = np.linspace(*case.axes[0], number)[:, None]
        values = case.truth(seed).measure(points)
        return Run(number, analyse(points, values, case.narrowest))

    return run


def adaptive_scan(case: Case, seeds: Sequence[int]) -> OneRun | None:
    """bluesky's plan with the best of a grid of its settings, through a RunEngine."""
    if case.dims > 1:
        return None
    w = case.narrowest[0]

    def plan(longest: float, delta: float, backstep: bool) -> PlanOf:
        # Upwards always: its step back goes down the axis even where the scan does.
        return lambda b: bp.adaptive_scan(
            [b.detector], "det", b.motors[0], *upwards(case), w / 10, longest, delta, backstep
        )

    grid = itertools.product((w / 2, 0.7 * w, w), (30, 100, 300), (True, False))
    return through_run_engine(case, best(case, seeds, [plan(*one) for one in grid], messages_only))


def tune_centroid(case: Case, seeds: Sequence[int]) -> OneRun | None:
    """bluesky's plan with the best of a grid of its settings, through a RunEngine."""
    if case.dims > 1:
        return None
    low, high = upwards(case)

    def plan(step: float, passes: int) -> PlanOf:
        factor = 3.0
        finest = 0.9 * step / factor ** (passes - 1)
        num = round((high - low) / step) + 1
        return lambda b: bp.tune_centroid(
            [b.detector], "det", b.motors[0], low, high, finest, num, factor
        )

    w = case.narrowest[0]
    grid = itertools.product((w / 2, w / 3), (1, 3))
    return through_run_engine(case, best(case, seeds, [plan(*one) for one in grid], messages_only))


def learner(case: Case, seeds: Sequence[int]) -> OneRun | None:
    """python-adaptive with the best of its losses, stopped by an oracle.

    The oracle stops it as soon as the analysis gives the true peaks. Where there is none it would
    stop at once, which says nothing.
    """
    from adaptive.learner import learner1D, learner2D

    if case.peakless:
        return None
    ends: Any = [tuple(sorted(axis)) for axis in case.axes]
    # The losses know the axes as 0..1.
    widths = [w / (high - low) for w, (low, high) in zip(case.narrowest, ends, strict=True)]
    finest, coarsest = min(widths) / 8, min(widths)
    if case.dims == 1:
        most = quarters(case)
        losses = [
            learner1D.resolution_loss_function(finest, coarsest),
            learner1D.curvature_loss_function(),
            learner1D.default_loss,
        ]
    else:
        most = 1200
        losses = [
            learner2D.resolution_loss_function(finest, coarsest),
            learner2D.default_loss,
        ]

    def nobody(at: Any) -> float:
        raise AssertionError("a learner that is told calls no function")

    def points(loss: Any, truth: Truth) -> Iterator[tuple[list[float], float]]:
        if case.dims == 1:
            one: Any = learner1D.Learner1D(nobody, ends[0], loss)
        else:
            one = learner2D.Learner2D(nobody, ends, loss)
        while True:
            (asked,), _ = one.ask(1)
            at = [float(x) for x in np.atleast_1d(asked)]
            value = float(truth.measure([at])[0])
            one.tell(asked, value)
            yield at, value

    def run_with(loss: Any) -> OneRun:
        # Chosen with the same seeds, so that the runs of the chosen loss are there already.
        return functools.cache(
            lambda seed: oracle(case, seed, points(loss, case.truth(seed)), most)
        )

    return best(case, seeds, [run_with(loss) for loss in losses], lambda case, run: run)


def blop(python: str) -> Contender:
    """blop's agent, run by a Python that has it, with the oracle's stop and at most 60 points.

    It looks for the one maximum, and takes a third of a second for each point: it is given the
    cases of one peak that so many points could cover, in a process for each seed.
    """
    script = Path(__file__).with_name("blop_points.py")
    most = 60

    def contender(case: Case, seeds: Sequence[int]) -> OneRun | None:
        spans = (
            abs(stop - start) / width
            for (start, stop), width in zip(case.axes, case.narrowest, strict=True)
        )
        if math.prod(spans) > 3 * most or len(case.truth(0).peaks) != 1:
            return None

        def run(seed: int) -> Run:
            done = subprocess.run(
                [python, str(script), case.name, str(seed), str(most)],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
            return oracle(case, seed, iter(json.loads(done.stdout.splitlines()[-1])), most)

        return run

    return contender


def oracle(case: Case, seed: int, points: Iterator[tuple[list[float], float]], most: int) -> Run:
    """Points until the analysis is right, looked at each time that there are 5 % more of them."""
    truth = case.truth(seed)
    at: list[list[float]] = []
    values: list[float] = []
    look = 6
    peaks: Any = []
    for point, value in itertools.islice(points, most):
        at.append(point)
        values.append(value)
        if len(at) < min(look, most):
            continue
        look = max(look + 1, int(look * 1.05))
        peaks = analyse(np.array(at), np.array(values), case.narrowest)
        if score(truth, peaks).success:
            break
    return Run(len(at), peaks)


def upwards(case: Case) -> tuple[float, float]:
    """The limits of the axis, the lower one first."""
    return min(case.axes[0]), max(case.axes[0])


def quarters(case: Case) -> int:
    """The number of points that are a quarter of the narrowest width apart."""
    low, high = upwards(case)
    return round((high - low) / (case.narrowest[0] / 4)) + 1


def through_run_engine(case: Case, plan: PlanOf) -> OneRun:
    """Run a plan by a RunEngine and analyse its points."""
    RE = run_engine()

    def run(seed: int) -> Run:
        beamline = Beamline(case, seed)
        RE(plan(beamline))
        return Run(beamline.exposures, analyse(beamline.points, beamline.values, case.narrowest))

    return run


def best(
    case: Case,
    seeds: Sequence[int],
    settings: Sequence[Setting],
    ready: Callable[[Case, Setting], OneRun],
) -> Setting:
    """The setting with the fewest exposures of those that succeed often enough, or most often.

    It is chosen with the very seeds that it is measured with: a peer is shown at its best.
    """
    chosen, record = settings[0], (-1.0, -math.inf)
    for setting in settings:
        run = ready(case, setting)
        failures = 0
        exposures = []
        for seed in seeds:
            result = run(seed)
            failures += not score(case.truth(seed), result.peaks).success
            exposures.append(result.exposures)
            if min(1 - failures / len(seeds), ENOUGH) < record[0]:
                break
        mark = (min(1 - failures / len(seeds), ENOUGH), -statistics.median(exposures))
        if mark > record:
            chosen, record = setting, mark
    return chosen


def messages_only(case: Case, plan: PlanOf) -> OneRun:
    """Do what the messages of a plan say without a RunEngine, which would take minutes for this."""

    def run(seed: int) -> Run:
        beamline = Beamline(case, seed)
        messages = plan(beamline)
        answer: Any = None
        with contextlib.suppress(StopIteration):
            while True:
                msg = messages.send(answer)
                answer = (Done(),) if msg.command == "wait" else None
                if msg.command in ("set", "trigger", "read"):
                    answer = getattr(msg.obj, msg.command)(*msg.args)
        return Run(beamline.exposures, analyse(beamline.points, beamline.values, case.narrowest))

    return run
