"""Contenders in turn, each in a process of its own; medians, ratios, and the goals."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.writing_parts.contenders import CONTENDERS, NEEDS

ONE = Path(__file__).with_name("one.py")
INSTALL = {"zarr": "zarr", "acquire_zarr": "acquire-zarr"}


@dataclass
class Figures:
    """What the measurements of one contender gave; seconds and MiB are medians."""

    runs: list[dict[str, float]] = field(default_factory=list)

    def __getitem__(self, name: str) -> float:
        return statistics.median(run[name] for run in self.runs)


@dataclass(frozen=True)
class Goal:
    """A ratio of two figures, and how large it has to be (or how small)."""

    text: str
    value: float
    least: float | None = None
    most: float | None = None

    def __str__(self) -> str:
        met = (self.least is None or self.value >= self.least) and (
            self.most is None or self.value <= self.most
        )
        sign, bound = (">=", self.least) if self.least is not None else ("<=", self.most)
        return f"{'pass' if met else 'FAIL'}  {self.text}: {self.value:.3g} ({sign} {bound})"


def described(contenders: Sequence[str]) -> list[str]:
    """What each contender is, and at which settings."""
    return [f"{name:20} {CONTENDERS[name].__doc__}" for name in contenders]


def measure(
    contenders: Sequence[str], order: Mapping[str, Any], rounds: int, peers: str
) -> dict[str, Figures]:
    """Each contender once in every round. A peer that is not installed is left out."""
    pythons = {name: _python(name, peers) for name in contenders}
    for name in [name for name, python in pythons.items() if not python]:
        module = NEEDS[name]
        print(
            f"{name} is left out: {sys.executable} has no {module} "
            f"(pip install {INSTALL.get(module, module)}, "
            "or --peers PYTHON, one that has it)"
        )
    figures = {name: Figures() for name in contenders if pythons[name]}
    for _ in range(rounds):
        for name, figure in figures.items():
            told = json.dumps({**order, "contender": name})
            command = [str(pythons[name]), str(ONE), told]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(f"{name} failed:\n{done.stderr}")
            run = json.loads(done.stdout.splitlines()[-1])
            if run["wrong"]:
                raise SystemExit(f"{name}: {run['wrong']} frames are not what was written")
            figure.runs.append(run)
    return figures


def _python(name: str, peers: str) -> str:
    module = NEEDS.get(name)
    if module is None or importlib.util.find_spec(module) is not None:
        return sys.executable
    if peers:
        found = subprocess.run([peers, "-c", f"import {module}"], capture_output=True)
        if not found.returncode:
            return peers
    return ""
