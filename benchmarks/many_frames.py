"""Many frames: does one cost the same at the end as at the beginning, in time and in memory?

    python benchmarks/many_frames.py [--real] [--directory DIRECTORY]

A million small frames (--real; otherwise 100 000), grouped along a flown axis, and 20 000 (2 000)
frames of a step scan, each a chunk of its own in as many shards as large frames would need: into an
array that knows its size, and into one that grows. The store is read back at the end.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import zarr

from benchmarks.writing_parts.measure import Goal
from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter

LARGE_PER_SHARD = 60
"""A shard of 512 MB holds as many frames of 2048 x 2048 uint16."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="ten times as many")
    parser.add_argument("--directory", default=tempfile.gettempdir())
    options = parser.parse_args()
    factor = 10 if options.real else 1
    shards = Layout((1, 64, 64), (LARGE_PER_SHARD, 64, 64))
    # Such shards are for large frames; here it is their number that counts.
    warnings.filterwarnings("ignore", "the layout")
    cases = (
        ("flown, size known", 100_000 * factor, (8, 8), True, False, "frames"),
        ("flown, growing", 100_000 * factor, (8, 8), True, True, "frames"),
        ("step, size known", 2_000 * factor, (64, 64), False, False, shards),
        ("step, growing", 2_000 * factor, (64, 64), False, True, shards),
    )
    for name, count, shape, flown, growing, layout in cases:
        flatness(name, count, shape, options.directory, flown, growing, layout)


def flatness(
    name: str,
    count: int,
    shape: tuple[int, int],
    directory: str,
    flown: bool,
    growing: bool,
    layout: str | Layout,
) -> None:
    """Time and memory of the last tenth beside those of the first."""
    geometry = None
    if not growing:
        places = Coordinate("x", np.arange(float(count)))
        geometry = ScanGeometry((Dim("x", count, False, (places,)),))
    frame = np.ones(shape, "uint16")
    with tempfile.TemporaryDirectory(dir=directory) as folder:
        writer = ZarrWriter(f"{folder}/many.zarr", codec="none", layout=layout)
        source = SourceInfo("cam", "uint16", shape, geometry=geometry, flown=flown)
        sink = writer.prepare(source)
        tenths, memory = [], []
        for _ in range(10):
            started = time.perf_counter()
            for _ in range(count // 10):
                sink.write(frame)
            sink.drain()
            tenths.append((time.perf_counter() - started) / count * 1e7)
            memory.append(_resident())
        writer.complete()
        read = zarr.open_array(f"{folder}/many.zarr", path="cam", mode="r")
        if read.shape[0] != count or np.asarray(read[count - 100 :]).min() != 1:
            raise SystemExit(f"{name}: what is read is not what was written")
    print(f"\n{name}: {count} frames of {shape[0]} x {shape[1]}")
    print(f"{tenths[0]:.2f} us each at first, {tenths[-1]:.2f} at last; ", end="")
    print(f"{memory[0]:.1f} and {memory[-1]:.1f} MiB")
    print(Goal("last tenth, times the first", tenths[-1] / tenths[0], most=1.1))
    print(Goal("memory, times that after the first tenth", memory[-1] / memory[0], most=1.1))


def _resident() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


if __name__ == "__main__":
    main()
