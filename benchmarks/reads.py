"""The same frames in each layout: how long a frame, a pixel's series and everything take to read.

    python benchmarks/reads.py [--frames N] [--edge PIXELS] [--rounds N] [--directory DIR]

"live" is written frame by frame with `ZarrWriter(layout=...)`, "relaid" is made of that by
`relayout`. Each is read by zarr-python and by tensorstore, in turn, warm (from the page cache) and
cold (after the system was asked to forget the files). Every read is compared with what was written.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.reading_parts.readers import READERS, forget
from bluesky_zarr.store import SourceInfo, ZarrWriter, inspect, relayout

ACCESS = ("frames", "balanced", "series")
STORES = [(kind, access) for kind in ("live", "relaid") for access in ACCESS]
RING = 7


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--edge", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", default=None)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        run(folder, options.frames, options.edge, options.rounds)
    finally:
        shutil.rmtree(folder)


def run(folder: Path, frames: int, edge: int, rounds: int) -> None:
    ring = np.random.default_rng(0).poisson(100, (RING, edge, edge)).astype("uint16") * 13 % 4096
    raw = frames * edge**2 * 2
    print(f"{frames} frames of {edge} x {edge} uint16 (12 bits of noise), {raw / 1e9:.2f} GB raw")
    make(folder, ring, frames)
    # Everything is decoded for longer than it is read, so that the cache hardly counts.
    some = itertools.product(READERS, ("cold", "warm"), ("frame", "series"))
    reads = [*some, *((reader, "cold", "everything") for reader in READERS)]
    figures: dict[Any, list[float]] = {}
    for number in range(rounds):
        for reader, state, what in reads:
            for store in STORES:
                seconds = read(folder, store, reader, state, what, number, ring, frames)
                figures.setdefault((reader, state, what, store), []).append(seconds)
    report(reads, {key: statistics.median(runs) for key, runs in figures.items()})


def make(folder: Path, ring: np.ndarray, frames: int) -> None:
    print(f"{'store':17} {'chunk':>14} {'MB on disk':>10} {'files':>6} {'made in s':>9}")
    for kind, access in STORES:
        path = folder / f"{kind}-{access}.zarr"
        start = time.perf_counter()
        if kind == "live":
            writer = ZarrWriter(path, layout=access)
            sink = writer.prepare(SourceInfo("cam", "uint16", ring.shape[1:]), capacity=frames)
            for k in range(frames):
                sink.write(ring[k % RING])
            writer.publish()
        else:
            relayout(folder / "live-frames.zarr", path, access=access)
        seconds = time.perf_counter() - start
        (array,) = (a for a in inspect(path).arrays if a.key == "cam")
        chunk = "x".join(map(str, array.chunks))
        print(
            f"{kind:6} {access:10} {chunk:>14} {array.bytes_on_disk / 1e6:10.0f} "
            f"{array.files - 1:6} {seconds:9.1f}"
        )


def read(
    folder: Path,
    store: tuple[str, str],
    reader: str,
    state: str,
    what: str,
    number: int,
    ring: np.ndarray,
    frames: int,
) -> float:
    path = folder / f"{'-'.join(store)}.zarr"
    # Another one in each round, but the same for all stores.
    k, y = 17 * number % frames, (911 * number + 5) % ring.shape[1]
    x = (577 * number + 3) % ring.shape[2]
    order = np.arange(frames) % RING
    selection, expected = {
        "frame": (np.s_[k], lambda: ring[k % RING]),
        "series": (np.s_[:, y, x], lambda: ring[order, y, x]),
        "everything": (np.s_[...], None),
    }[what]
    array = READERS[reader](path / "cam")
    if state == "cold":
        forget(path)
    else:
        array(selection)
    start = time.perf_counter()
    found = array(selection)
    seconds = time.perf_counter() - start
    if expected is not None:
        right = np.array_equal(found, expected())
    else:
        right = all(np.array_equal(found[k], ring[k % RING]) for k in range(frames))
    if not right:
        raise SystemExit(f"{reader}: {what} of {path.name} is not what was written")
    return seconds


def report(reads: list[tuple[str, str, str]], medians: dict[Any, float]) -> None:
    heads = [f"{kind} {access}" for kind, access in STORES]
    print("\nms, and in how many times the time of the best of its kind (live, relaid)")
    print(f"{'':30}" + "".join(f"{head:>18}" for head in heads))
    for what in ("frame", "series", "everything"):
        for reader, state, _ in (row for row in reads if row[2] == what):
            cells = []
            for kind, access in STORES:
                here = medians[reader, state, what, (kind, access)]
                best = min(medians[reader, state, what, (kind, other)] for other in ACCESS)
                cells.append(f"{here * 1e3:10.1f} ({here / best:4.1f})")
            print(f"{what:11}{reader:13}{state:6}" + "".join(f"{cell:>18}" for cell in cells))
    print()
    for goal, met in goals(reads, medians):
        print(f"{'pass' if met else 'FAIL'}  {goal}")


def goals(
    reads: list[tuple[str, str, str]], medians: dict[Any, float]
) -> Iterator[tuple[str, bool]]:
    """Does each layout win at what it is for?"""
    for reader, state, what in reads:
        if what == "everything":
            continue
        for kind in ("live", "relaid"):
            ms = {a: 1e3 * medians[reader, state, what, (kind, a)] for a in ACCESS}
            meant, other = ("frames", "series") if what == "frame" else ("series", "frames")
            text = f"{what}, {reader}, {state}, {kind}"
            # A tenth for the noise of a read of a few milliseconds.
            best = min(ms.values())
            yield f"{text}: {meant!r} {ms[meant]:.1f} ms, best {best:.1f}", ms[meant] <= 1.1 * best
            yield (
                f"{text}: 'balanced' {ms['balanced']:.1f} ms, {other!r} {ms[other]:.1f}",
                ms["balanced"] <= 1.1 * ms[other],
            )


if __name__ == "__main__":
    main()
