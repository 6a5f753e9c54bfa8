"""Cameras that stream through their devices: speed, company, fairness.

    python benchmarks/devices.py [--real] [--directory DIRECTORY] [--frames N] [--rounds N]

Frames are 2048 x 2048 uint16 from a ring, 12-bit counts with Poisson noise. A fly scan through the
device beside the same frames given to the writer alone; a step scan with and without a camera that
streams beside it; cameras that fly together. Contenders take turns in one process. Without --real
it is quick, which says little.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

import bluesky.preprocessors as bpp
import numpy as np
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg
from ophyd_async.core import init_devices
from ophyd_async.plan_stubs import ensure_connected
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace

from benchmarks.devices_parts.ring import (
    Heartbeat,
    RingCamera,
    completed,
    ended,
    kicked_off,
    prepared,
    ring_of,
)
from benchmarks.writing_parts.measure import Goal
from bluesky_zarr import Storage
from bluesky_zarr.devices import SimPointDetector
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.plans._point import Exposure, Mover
from bluesky_zarr.store import SourceInfo, ZarrWriter

SHAPE = (2048, 2048)
CODECS = ("none", "blosc-lz4-5")
WARM_BYTES = 2**30
"""Of memory that is touched before each measurement."""


class Bench:
    """A directory that is emptied before each measurement, and a RunEngine with storage there."""

    RE: RunEngine

    def __init__(self, directory: str) -> None:
        self.directory = Path(tempfile.mkdtemp(dir=directory))

    def storage(self, codec: str) -> Storage:
        """Storage with this codec, attached to a RunEngine of its own."""
        self.RE = RunEngine({})
        self.RE.log.setLevel("CRITICAL")
        storage = Storage(str(self.directory / "stores"), codec=codec)
        storage.attach(self.RE)
        return storage

    def clean(self) -> None:
        """Forget what was written, and let the disk be done with it.

        A virtual machine gets memory from its host when it is first touched, which takes longer
        than to write a frame there: what the page cache needs next is touched here.
        """
        for path in self.directory.iterdir():
            shutil.rmtree(path)
        (self.directory / "stores").mkdir()
        warm, block = self.directory / "warm", bytes(2**23)
        with warm.open("wb") as file:
            for _ in range(WARM_BYTES // len(block)):
                file.write(block)
        warm.unlink()
        os.sync()


def flight(cameras: Sequence[RingCamera], frames: Sequence[int], times: list[float]) -> Any:
    """A plan that flies cameras together, and notes when they began and when all was readable."""

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator(md={"plan_name": "flight"})
    def plan() -> Any:
        yield from prepared(cameras, frames, "primary")
        times.append(time.perf_counter())
        yield from kicked_off(cameras)
        yield from completed(cameras, "primary")
        times.append(time.perf_counter())

    return plan()


# ---------------------------------------------------------------------------- one camera


def alone(bench: Bench, ring: np.ndarray, count: int, codec: str, copy: bool) -> float:
    """Seconds for the frames given to the writer by a loop."""
    writer = ZarrWriter(bench.directory / "alone.zarr", codec=codec)
    source = SourceInfo("cam", ring.dtype.name, ring.shape[1:], geometry=ScanGeometry.events(count))
    sink = writer.prepare(source, capacity=count)
    frames = list(ring)
    started = time.perf_counter()
    for number in range(count):
        sink.write(frames[number % len(frames)], copy=copy)
    sink.drain()
    seconds = time.perf_counter() - started
    writer.complete()
    return seconds


def streaming(bench: Bench, ring: np.ndarray, count: int, rounds: int, codec: str) -> list[Goal]:
    """A fly scan through the device, beside the writer alone."""
    storage = bench.storage(codec)
    with init_devices():
        cam, copied = RingCamera(ring), RingCamera(ring, fresh=False)
    storage.inject(cam, copied)

    def flown(camera: RingCamera) -> float:
        times: list[float] = []
        bench.RE(flight([camera], [count], times))
        return times[1] - times[0]

    contenders: dict[str, Callable[[], float]] = {
        "writer alone": lambda: alone(bench, ring, count, codec, copy=False),
        "through the device": lambda: flown(cam),
        "writer alone, copies": lambda: alone(bench, ring, count, codec, copy=True),
        "through the device, copies": lambda: flown(copied),
    }
    taken = in_turn(bench, contenders, rounds)
    print(f"\n{codec:28} {'MB/s':>6} {'of the writer':>14}")
    for name, seconds in taken.items():
        base = taken["writer alone" + (", copies" if "copies" in name else "")]
        print(f"{name:28} {count * ring[0].nbytes / seconds / 1e6:6.0f} {base / seconds:14.2f}")
    return [
        Goal(
            f"{codec}{words}: the device, times as fast as the writer alone",
            taken["writer alone" + words] / taken["through the device" + words],
            least=0.8,
        )
        for words in ("", ", copies")
    ]


def in_turn(
    bench: Bench, contenders: dict[str, Callable[[], float]], rounds: int
) -> dict[str, float]:
    """Medians, after one turn that counts for nothing."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            bench.clean()
            figure = run()
            if turn:
                taken[name].append(figure)
    return {name: statistics.median(figures) for name, figures in taken.items()}


# ---------------------------------------------------------------------------- beside a step scan


def company(bench: Bench, ring: np.ndarray, points: int, rounds: int, codec: str) -> list[Goal]:
    """A step scan of a diode, alone and while a camera streams as fast as it can."""
    storage = bench.storage(codec)
    with init_devices():
        cam, x = RingCamera(ring), SimMotor(instant=True)
        diode = SimPointDetector(x=x, exposure=1e-9)
    storage.inject(cam)
    worst = {"alone": 0.0, "beside": 0.0}

    def steps(name: str) -> float:
        stream = name == "beside"
        spec = Linspace(x, 0, 1, points)
        times: list[float] = []

        @bpp.stage_decorator([cam, diode, x])
        @bpp.run_decorator(md={"plan_name": "steps", "scanspec": spec.serialize(), "motors": ["x"]})
        def plan() -> Any:
            if stream:
                yield from prepared([cam], [1_000_000], "flown")
                yield from kicked_off([cam])
                yield Msg("sleep", None, 0.2)
            move, expose = Mover({"x": x}, {}), Exposure([diode, x])
            with Heartbeat(bench.RE.loop) as heart:
                before = cam.readable
                times.append(time.perf_counter())
                for point in ScanGeometry.from_spec(spec).points():
                    yield Msg("checkpoint")
                    yield from move(point)
                    yield from expose("primary")
                times.append(time.perf_counter())
                taken_beside = cam.readable - before
            worst[name] = max(worst[name], heart.worst)
            if stream:
                frames.append(taken_beside / (times[1] - times[0]))
                yield from ended([cam])

        bench.RE(plan())
        return (times[1] - times[0]) / points * 1e3

    frames: list[float] = []
    taken = in_turn(bench, {name: lambda n=name: steps(n) for name in worst}, rounds)
    print(f"\n{'step scan, ' + codec:28} {'ms/point':>9} {'loop stood still, ms at most':>30}")
    for name, figure in taken.items():
        print(f"{name:28} {figure:9.3f} {worst[name] * 1e3:30.1f}")
    speed = statistics.median(frames) * ring[0].nbytes / 1e6
    print(f"beside it, {speed:.0f} MB/s were streamed meanwhile")
    ratio = taken["beside"] / taken["alone"]
    return [Goal(f"{codec}: a step while a camera streams, times a step alone", ratio, most=1.3)]


# ---------------------------------------------------------------------------- cameras together


def together(bench: Bench, rings: dict[str, np.ndarray], seconds: float, codec: str) -> Goal:
    """Cameras that fly at the same time, each as fast as it can; what each of them gets."""
    alone = {
        name: speeds(bench, {name: ring}, seconds, codec)[0]
        for name, ring in {str(ring.shape): ring for ring in rings.values()}.items()
    }
    got = speeds(bench, rings, seconds, codec)
    shares = [speed / alone[str(r.shape)] for speed, r in zip(got, rings.values(), strict=True)]
    print(f"\n{len(rings)} cameras, {codec:16} {'frames/s':>9} {'MB/s':>7} {'of alone':>9}")
    for (name, ring), speed, share in zip(rings.items(), got, shares, strict=True):
        text = f"{name}, {' x '.join(map(str, ring.shape[1:]))}"
        print(f"{text:28} {speed:8.0f} {speed * ring[0].nbytes / 1e6:7.0f} {share:9.2f}")
    text = (
        f"{codec}, {', '.join(rings)}: the smallest share of what each gets alone, of the largest"
    )
    return Goal(text, min(shares) / max(shares), least=0.8 if len(alone) == 1 else 0.3)


def speeds(bench: Bench, rings: dict[str, np.ndarray], seconds: float, codec: str) -> list[float]:
    """Frames a second of cameras that fly at the same time."""
    storage = bench.storage(codec)
    cameras = [RingCamera(ring, name=name) for name, ring in rings.items()]
    bench.RE(ensure_connected(*cameras))
    storage.inject(*cameras)
    got: list[int] = []

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator(md={"plan_name": "together"})
    def plan() -> Any:
        for camera in cameras:
            yield from prepared([camera], [1_000_000], camera.name)
        yield from kicked_off(cameras)
        yield Msg("sleep", None, seconds / 4)
        before = [camera.readable for camera in cameras]
        yield Msg("sleep", None, seconds)
        got[:] = [c.readable - n for c, n in zip(cameras, before, strict=True)]
        yield from ended(cameras)

    bench.clean()
    bench.RE(plan())
    return [number / seconds for number in got]


def main() -> int:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="60 frames, 400 points, 5 rounds")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    options = parser.parse_args()
    count = options.frames or (60 if options.real else 12)
    rounds = options.rounds or (5 if options.real else 1)
    points = 400 if options.real else 60
    ring = ring_of(4, SHAPE)
    small = ring_of(8, (256, 256))
    bench = Bench(options.directory)
    print(f"{count} frames of 2048 x 2048 uint16 in {options.directory}, medians of {rounds}")
    goals: list[Goal] = []
    try:
        for codec in CODECS:
            goals += streaming(bench, ring, count, rounds, codec)
        for codec in CODECS:
            goals += company(bench, ring, points, rounds, codec)
        seconds = 1.5 if options.real else 0.5
        for codec in CODECS:
            for number in (2, 3):
                same = {f"cam{n}": ring for n in range(number)}
                goals.append(together(bench, same, seconds, codec))
            goals.append(together(bench, {"large": ring, "small": small}, seconds, codec))
    finally:
        shutil.rmtree(bench.directory)
    print("", *goals, sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
