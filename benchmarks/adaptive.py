"""Exposures that adaptive scans need to find and resolve peaks, and how often they succeed.

    python benchmarks/adaptive.py [--held-out] [--hard] [--quick] [--seeds N] [--cases NAME ...]
                                  [--only NAME ...] [--blop PYTHON]

Each cell is the median of the exposures over the seeds, and the success in percent: each true peak
found with its centre within 0.1 FWHM and its width within 20 %, and nothing else reported. Ours and
bluesky's plans go through a RunEngine with simulated devices, all that give no peaks are analysed
alike, and peers have the best of their settings for each case. Every number is made anew from the
name of the case and the seed. The whole table takes most of an hour, nearly all of it for the
settings of the peers (--only Resolve: a minute); as a part of `make bench` it is --quick. What
decisions cost beside the RunEngine alone is in deciding.py.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The folder of this file goes: in it `import adaptive` would find this file, not the package.
sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.adaptive_cases import (
    HELD_OUT,
    HELD_OUT_SEEDS,
    SEEDS,
    TABLE,
    Case,
    by_name,
    score,
)
from benchmarks.adaptive_parts import ours, peers
from benchmarks.adaptive_parts.contender import Contender, Run
from benchmarks.adaptive_parts.hard import HARD

RESOLVE = "Resolve"
CONTENDERS: dict[str, Contender] = {
    RESOLVE: ours.resolve,
    "Zoom(2)": ours.zoom,
    "uniform w/4": peers.uniform,
    "adaptive_scan": peers.adaptive_scan,
    "tune_centroid": peers.tune_centroid,
    "Learner": peers.learner,
}
QUICK_CASES = ("FWHM 5", "doublet 4 apart", "noise only", "2-D 8x12")
QUICK_SEEDS = 2

SUM_GOAL, MEAN_GOAL, CASE_GOAL = 1100, 97, 95
WEAK_GOAL, WEAK_EXPOSURES = 80, 150
NOISE_GOAL = 1.2
GOALS_2D = {"2-D 8x12": 100, "2-D 3x3": 450, "2-D two 5x5": 300}


@dataclass(frozen=True)
class Cell:
    """One contender on one case, over all seeds."""

    case: Case
    runs: Sequence[Run]
    successes: Sequence[bool]

    @property
    def exposures(self) -> float:
        """The median."""
        return statistics.median(run.exposures for run in self.runs)

    @property
    def success(self) -> float:
        """In percent."""
        return 100 * statistics.mean(self.successes)

    @property
    def overhead(self) -> float:
        """The time of decisions, as a fraction of that of all else in the scan; the median."""
        return statistics.median(run.deciding / run.engine for run in self.runs)

    def __str__(self) -> str:
        return f"{self.exposures:g} ({self.success:.0f})"


def measured(case: Case, contender: Contender, seeds: Sequence[int]) -> Cell | None:
    run = contender(case, seeds)
    if run is None:
        return None
    runs = [run(seed) for seed in seeds]
    found = zip(seeds, runs, strict=True)
    return Cell(case, runs, [score(case.truth(seed), one.peaks).success for seed, one in found])


def table(cases: Sequence[Case], contenders: dict[str, Contender], seeds: Sequence[int]) -> None:
    """Measure and print, row by row."""
    print(f"{'':30}" + "".join(f"{name:>19}" for name in contenders))
    columns: dict[str, list[Cell]] = {name: [] for name in contenders}
    for case in cases:
        print(f"{case.name:30}", end="", flush=True)
        for name, contender in contenders.items():
            cell = measured(case, contender, seeds)
            print(f"{'-' if cell is None else str(cell):>19}", end="", flush=True)
            if cell is not None:
                columns[name].append(cell)
        print()
    lines = {
        name: [cell for cell in cells if cell.case.dims == 1] for name, cells in columns.items()
    }
    full = max(map(len, lines.values()))
    if full > 1:
        print(f"{'1-D: sum (mean)':30}", end="")
        for cells in lines.values():
            total = f"{total_of(cells):g} ({mean_of(cells):.0f})"
            print(f"{total if len(cells) == full else f'of {len(cells)}: {total}':>19}", end="")
        print()
    for name in (RESOLVE, "Zoom(2)"):
        if columns.get(name):
            deciding(name, columns[name])
    if RESOLVE in columns:
        goals({cell.case.name: cell for cell in columns[RESOLVE]}, cases)


def total_of(cells: Sequence[Cell]) -> float:
    return sum(cell.exposures for cell in cells)


def mean_of(cells: Sequence[Cell]) -> float:
    return statistics.mean(cell.success for cell in cells) if cells else 0.0


def deciding(name: str, cells: Sequence[Cell]) -> None:
    """How long decisions take beside the RunEngine, on devices that take no time themselves."""
    runs = [run for cell in cells for run in cell.runs]
    exposures = sum(run.exposures for run in runs)
    decision = 1e3 * sum(run.deciding for run in runs) / exposures
    engine = 1e3 * sum(run.engine for run in runs) / exposures
    worst = max(cells, key=lambda cell: cell.overhead)
    print(
        f"{name} decides in {decision:.2f} ms per point, {100 * decision / engine:.1f} % of the "
        f"{engine:.2f} ms of all else; at most {100 * worst.overhead:.1f} % ({worst.case.name})"
    )


def goals(cells: dict[str, Cell], cases: Sequence[Case]) -> None:
    """What ours has to reach, as far as the cases are measured."""
    print(f"\nGoals of {RESOLVE}")

    def goal(what: str, reached: bool, figure: str) -> None:
        print(f"  {'pass' if reached else 'FAIL'}  {what}: {figure}")

    lines = [cell for cell in cells.values() if cell.case.dims == 1]
    if set(cells) >= {case.name for case in TABLE if case.dims == 1}:
        total = total_of(lines)
        goal(f"1-D sum at most {SUM_GOAL}", total <= SUM_GOAL, f"{total:g}")
    if lines:
        mean = mean_of(lines)
        goal(f"1-D success at least {MEAN_GOAL} %", mean >= MEAN_GOAL, f"{mean:.1f} %")
    for name, cell in cells.items():
        if name.startswith("weak"):
            soon = [
                success and run.exposures <= WEAK_EXPOSURES
                for success, run in zip(cell.successes, cell.runs, strict=True)
            ]
            share = 100 * statistics.mean(soon)
            what = f"{name}: {WEAK_GOAL} % within {WEAK_EXPOSURES} exposures"
            goal(what, share >= WEAK_GOAL, f"{share:.0f} %")
    below = [
        f"{cell.case.name} {cell.success:.0f} %"
        for name, cell in cells.items()
        if cell.success < CASE_GOAL and not name.startswith("weak")
    ]
    goal(f"every other case at least {CASE_GOAL} %", not below, ", ".join(below) or "all")
    for name, cell in cells.items():
        if "noise only" in name:
            coarse = cell.runs[0].coarse
            ratio = cell.exposures / coarse
            figure = f"{ratio:.2f} x {coarse}, {cell.success:.0f} % without"
            what = f"{name}: no false peak, at most {NOISE_GOAL} x the coarse pass"
            goal(what, ratio <= NOISE_GOAL and cell.success == 100, figure)
    for name, most in GOALS_2D.items():
        if name in cells:
            goal(f"{name}: at most {most}", cells[name].exposures <= most, str(cells[name]))


def peers_at_hand(contenders: dict[str, Contender], blop: str | None) -> None:
    """Add blop, take away what is not installed, and say what is not compared, and why."""
    if "Learner" in contenders and importlib.util.find_spec("adaptive") is None:
        del contenders["Learner"]
        print("Left out: python-adaptive (Learner1D, Learner2D): pip install adaptive")
    if blop:
        contenders["blop"] = peers.blop(blop)
    else:
        print("Left out: blop, a Bayesian optimizer: pip install 'blop[ax]' (6 GB) in an")
        print("  environment of its own, and give its Python as --blop")
    print("Left out: bluesky-adaptive 1.0: the files compared with blop's differ in names only")
    if {"Learner", "blop"} & set(contenders):
        print("Learner and blop are stopped by an oracle, as soon as their points give the truth\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--held-out", action="store_true", help="seeds and shapes not tuned to")
    parser.add_argument("--hard", action="store_true", help="shapes of a judge, and no others")
    parser.add_argument("--quick", action="store_true", help="a few cases and seeds, a minute")
    parser.add_argument("--seeds", type=int, help="how many (20)")
    parser.add_argument("--cases", nargs="+", metavar="NAME", help="see adaptive_cases.py")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, help="contenders (all)")
    parser.add_argument("--blop", metavar="PYTHON", help="of an environment that has blop[ax]")
    options = parser.parse_args()
    quick = options.quick or "MAKELEVEL" in os.environ
    number = options.seeds or (QUICK_SEEDS if quick else len(SEEDS))
    contenders = {name: CONTENDERS[name] for name in options.only or CONTENDERS}
    peers_at_hand(contenders, options.blop)
    first = (HELD_OUT_SEEDS if options.held_out or options.hard else SEEDS)[0]
    seeds = range(first, first + number)
    parts = [TABLE, HELD_OUT] if options.held_out else [TABLE]
    if options.hard:
        parts = [HARD]
    if options.cases or quick:
        try:
            parts = [[by_name(name) for name in options.cases or QUICK_CASES]]
        except KeyError as error:
            parser.error(error.args[0])
    started = time.perf_counter()
    for cases in parts:
        print(f"Median exposures (success in %) over seeds {seeds[0]} to {seeds[-1]}")
        table(cases, contenders, seeds)
        print()
    print(f"{time.perf_counter() - started:.0f} s")


if __name__ == "__main__":
    main()
