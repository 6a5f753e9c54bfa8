"""Radio images into a cube: MB/s of FITS against `cp` and the codec alone, and peak memory.

    python benchmarks/ingest_cubes.py [--real] [--directory DIRECTORY]

Contenders take turns, each in a process of its own, and read the same files from the page cache.
"cp" copies the files and leaves them in memory; "cp, synced" also waits for the disk, as a
conversion does before its state says that a time step is done. The goal is judged by that one, as
both are then as safe from a power cut, and the ratio to the other one is told, too. "images" is the
conversion and publication of the images, "all" also the headers and the coordinates of the sky,
which cost the same for any number of images. Without --real it is quick, and says little.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

from benchmarks.writing_parts.measure import Goal
from tests.ingest.cubes.images import header, name_of, write

ONE = Path(__file__).parent / "ingest_parts" / "one_cube.py"
SUBBANDS = 12


def images(directory: Path, count: int, pixels: int) -> int:
    """Noise with point sources, 12 subbands; returns the bytes."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((pixels, pixels)).astype("float32")
    for n in range(count):
        step, subband = divmod(n, SUBBANDS)
        sky = np.roll(base, n, axis=1) * np.float32(1 + 0.01 * n)
        sky.flat[:: 997 + n] += 50
        mhz = 27 + 5 * subband
        when = f"20240524_{5 + step // 60:02}{step % 60:02}00"
        write(directory / name_of(when, mhz), sky, header(mhz, sky.shape))
    return sum(path.stat().st_size for path in directory.iterdir())


def run(what: str, directory: Path, codec: str = "") -> dict[str, float]:
    output = directory.parent / "out"
    shutil.rmtree(output, ignore_errors=True)
    if what.startswith("cp"):
        begin = time.perf_counter()
        subprocess.run(["cp", "-r", str(directory), str(output)], check=True)
        if what != "cp":
            subprocess.run(["sync", *map(str, output.iterdir())], check=True)
        return {"images": time.perf_counter() - begin, "MiB": 0.0}
    command = [sys.executable, str(ONE), what, str(directory), str(output), codec]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


CONTENDERS: dict[str, tuple[str, ...]] = {
    "cp": ("cp",),
    "cp, synced": ("cp, synced",),
    "ours, uncompressed": ("ours", "none"),
    "codec alone, 2 threads": ("codec_alone",),
    "ours, zstd-5-bitshuffle": ("ours", "blosc-zstd-5"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="24 images of 2048 x 2048, 3 rounds")
    parser.add_argument("--directory", default=tempfile.gettempdir())
    options = parser.parse_args()
    count, pixels, rounds = (24, 2048, 3) if options.real else (24, 512, 1)
    place = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        nbytes = images(place / "in", count, pixels)
        print(f"{count} images of {pixels} x {pixels}, {nbytes / 1e6:.0f} MB, medians of {rounds}")
        found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, (what, *codec) in CONTENDERS.items():
                found[name].append(run(what, place / "in", *codec))
        speed = show(found, nbytes)
        memory = peaks(
            place, (24, 240) if options.real else (12, 48), 1024 if options.real else 256
        )
        ratio = speed["ours, uncompressed"] / speed["cp"]
        print(f"\nuncompressed / cp that does not wait for the disk: {ratio:.2f}")
        for goal in goals(speed, memory):
            print(goal)
    finally:
        shutil.rmtree(place)


def show(found: dict[str, list[dict[str, float]]], nbytes: int) -> dict[str, float]:
    speed = {}
    print(f"\n{'':24} {'images':>12} {'all':>12} {'peak':>9}")
    for name, runs in found.items():
        median: dict[str, Any] = {key: statistics.median(r[key] for r in runs) for key in runs[0]}
        speed[name] = nbytes / 1e6 / median["images"]
        whole = f"{nbytes / 1e6 / median['all']:7.0f} MB/s" if "all" in median else ""
        peak = f"{median['MiB']:5.0f} MiB" if median["MiB"] else ""
        print(f"{name:24} {speed[name]:7.0f} MB/s {whole:>12} {peak:>9}")
    return speed


def peaks(place: Path, counts: tuple[int, int], pixels: int) -> tuple[float, float]:
    peak = []
    print()
    for count in counts:
        directory = place / f"memory{count}"
        images(directory, count, pixels)
        peak.append(run("ours", directory, "blosc-zstd-5")["MiB"])
        print(f"{count} images of {pixels} x {pixels}: peak memory {peak[-1]:.0f} MiB")
        shutil.rmtree(directory)
    return peak[0], peak[1]


def goals(speed: dict[str, float], memory: tuple[float, float]) -> list[Goal]:
    return [
        Goal(
            "uncompressed / cp, synced",
            speed["ours, uncompressed"] / speed["cp, synced"],
            least=0.5,
        ),
        Goal(
            "zstd-5-bitshuffle / codec alone",
            speed["ours, zstd-5-bitshuffle"] / speed["codec alone, 2 threads"],
            least=0.9,
        ),
        Goal("peak memory, 10 times as many files / few", memory[1] / memory[0], most=1.1),
    ]


if __name__ == "__main__":
    main()
