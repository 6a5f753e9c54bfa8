"""Time and memory from `RE(plan)` to the first move of a 1000 x 1000 scan.

    python benchmarks/first_move.py [REPEATS]

Each measurement is a process of its own, contenders in turn. Memory is what tracemalloc sees
allocated at the first move, and the growth of the process; times are measured without tracemalloc.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import tracemalloc
from typing import Any

CONTENDERS = (
    "nested_scan, snaked",
    "nested_scan, snaked, storage attached",
    "bp.grid_scan",
    "bp.grid_scan, snaked",
)
SIZE = 1000


class FirstMove(Exception):
    """Ends the plan where the measurement ends."""


def measure(contender: str, traced: bool) -> dict[str, float]:
    """One run to the first `set` message."""
    import bluesky.plans as bp
    from bluesky.run_engine import RunEngine
    from ophyd_async.core import init_devices
    from ophyd_async.sim import SimMotor
    from scanspec.specs import Linspace

    from bluesky_zarr import Storage
    from bluesky_zarr.devices import SimCamera
    from bluesky_zarr.plans import nested_scan

    RE = RunEngine()
    RE.log.setLevel("CRITICAL")
    with init_devices():
        x, y, cam = SimMotor(), SimMotor(), SimCamera(shape=(64, 64))
    if "attached" in contender:
        storage = Storage(tempfile.mkdtemp())
        storage.attach(RE)
        storage.inject(cam)

    def until_the_first_move(plan: Any) -> Any:
        result = None
        while True:
            msg = plan.send(result)
            if msg.command == "set" and msg.obj in (x, y):
                raise FirstMove
            result = yield msg

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if traced:
        tracemalloc.start()
    started = time.perf_counter()
    if contender.startswith("nested_scan"):
        plan = nested_scan([cam], Linspace(y, 0, 1, SIZE) * ~Linspace(x, 0, 1, SIZE))
    else:
        snaked = "snaked" in contender
        plan = bp.grid_scan([cam], y, 0, 1, SIZE, x, 0, 1, SIZE, snake_axes=snaked)
    try:
        RE(until_the_first_move(plan))
    except FirstMove:
        seconds = time.perf_counter() - started
    traced_bytes = tracemalloc.get_traced_memory()[1] if traced else 0
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"s": seconds, "traced MB": traced_bytes / 1e6, "grown MB": (after - before) / 1e3}


def in_a_process(contender: str, traced: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", contender, str(int(traced))]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measure(sys.argv[2], sys.argv[3] == "1")))
        return
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    results: dict[str, list[dict[str, float]]] = {c: [] for c in CONTENDERS}
    for _ in range(repeats):
        for contender in CONTENDERS:
            results[contender].append(in_a_process(contender, traced=False))
    print(f"{SIZE} x {SIZE} points, to the first move; medians of {repeats}")
    print(f"{'':40} {'ms':>8} {'traced MB':>10} {'grown MB':>9}")
    for contender in CONTENDERS:
        traced = in_a_process(contender, traced=True)["traced MB"]
        ms = 1000 * statistics.median(r["s"] for r in results[contender])
        grown = statistics.median(r["grown MB"] for r in results[contender])
        print(f"{contender:40} {ms:8.1f} {traced:10.1f} {grown:9.1f}")


if __name__ == "__main__":
    main()
