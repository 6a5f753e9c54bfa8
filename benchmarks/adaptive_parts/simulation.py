"""Motors and a point detector that answer at once, and the RunEngine that scans them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from bluesky.protocols import Hints
from bluesky.run_engine import RunEngine

from benchmarks.adaptive_cases import Case, Truth


class Done:
    """The status of what was over as soon as it was begun."""

    done = True
    success = True

    def add_callback(self, callback: Callable[[Any], None]) -> None:
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        return None


class Motor:
    """Is where it was sent, without delay."""

    parent = None

    def __init__(self, name: str) -> None:
        self.name = name
        self.position = 0.0
        self.hints: Hints = {"fields": [name]}

    def set(self, value: float) -> Done:
        self.position = float(value)
        return Done()

    def read(self) -> dict[str, Any]:
        return {self.name: {"value": self.position, "timestamp": time.time()}}

    def describe(self) -> dict[str, Any]:
        return {self.name: {"source": "sim", "dtype": "number", "shape": []}}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    def describe_configuration(self) -> dict[str, Any]:
        return {}


class Detector(Motor):
    """Counts what the truth gives where the motors stand, and remembers each exposure."""

    def __init__(self, name: str, truth: Truth, motors: Sequence[Motor]) -> None:
        super().__init__(name)
        self._truth = truth
        self._motors = motors
        self.points: list[list[float]] = []
        self.values: list[float] = []

    def trigger(self) -> Done:
        self.points.append([motor.position for motor in self._motors])
        self.position = float(self._truth.measure([self.points[-1]])[0])
        self.values.append(self.position)
        return Done()


class Beamline:
    """The devices of one case with one seed."""

    def __init__(self, case: Case, seed: int) -> None:
        self.motors = [Motor(f"x{k}") for k in range(case.dims)]
        self.detector = Detector("det", case.truth(seed), self.motors)

    @property
    def exposures(self) -> int:
        """How often the detector was triggered."""
        return len(self.detector.values)

    @property
    def points(self) -> np.ndarray:
        """Where, shape (exposures, axes)."""
        return np.array(self.detector.points)

    @property
    def values(self) -> np.ndarray:
        """What was counted, shape (exposures,)."""
        return np.array(self.detector.values)


def run_engine() -> RunEngine:
    """A RunEngine as a session has it, without its handlers of signals, that returns results."""
    RE = RunEngine({}, call_returns_result=True, context_managers=[])
    RE.log.setLevel("CRITICAL")
    return RE
