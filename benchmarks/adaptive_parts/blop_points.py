"""The points that blop's agent takes on one case, as JSON: run by a Python that has blop[ax].

python benchmarks/adaptive_parts/blop_points.py CASE SEED NUMBER
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.adaptive_cases import by_name


def main() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from blop.ax import (  # pyright: ignore[reportMissingImports] of another environment
        Agent,
        Objective,
        RangeDOF,
    )

    name, seed, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    case = by_name(name)
    truth = case.truth(seed)
    axes = [f"x{k}" for k in range(case.dims)]
    dofs = [
        RangeDOF(name=axis, bounds=(min(ends), max(ends)), parameter_type="float")
        for axis, ends in zip(axes, case.axes, strict=True)
    ]
    agent = Agent(
        sensors=[],
        dofs=dofs,
        objectives=[Objective(name="signal", minimize=False)],
        evaluation_function=lambda uid, suggestions: [],
    )
    taken = []
    for _ in range(number):
        (suggestion,) = agent.suggest(1)
        at = [float(suggestion[axis]) for axis in axes]
        value = float(truth.measure([at])[0])
        agent.ingest([{"_id": suggestion["_id"], "signal": value}])
        taken.append((at, value))
    print(json.dumps(taken))


if __name__ == "__main__":
    main()
