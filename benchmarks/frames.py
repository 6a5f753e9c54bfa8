"""Large frames: MB/s of raw frames until the last one can be read, and peak memory.

    python benchmarks/frames.py [--real] [--directory DIRECTORY] [--peers PYTHON]
                                [--count N] [--rounds N] [--codecs NAME ...]
                                [--tmpfs DIRECTORY]

Frames are 2048 x 2048 uint16, 12-bit counts with Poisson noise; contenders take turns, each in a
process of its own, and each is verified by reading everything back. "durable" is the speed with an
fsync of every file and directory after it. Without --real it is quick (1 round of 12 frames), which
says little. Where there is a tmpfs with room, the same is measured there, without a disk. Peers
that this Python lacks are taken from that of --peers, or left out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.writing_parts.measure import Figures, Goal, described, measure

SHAPE = (2048, 2048)
FRAME_MB = 2048 * 2048 * 2 / 1e6
PEERS = ("tensorstore", "zarr_python", "zarrs", "acquire_zarr")
CODECS = {
    "none": ("", 0, ("raw", "bare", "ours", "ours_copy", *PEERS, "h5py")),
    "blosc-zstd-5": ("zstd", 5, ("codec_alone", "ours", "ours_copy", *PEERS)),
    "blosc-zstd-1": ("zstd", 1, ("codec_alone", "ours", "ours_copy")),
    "blosc-lz4-5": ("lz4", 5, ("codec_alone", "ours", "ours_copy", *PEERS)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="60 frames, 5 rounds")
    parser.add_argument("--count", type=int, help="frames")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--peers", default="", metavar="PYTHON")
    parser.add_argument("--codecs", nargs="+", choices=list(CODECS), default=list(CODECS))
    parser.add_argument("--tmpfs", default="/dev/shm", help="'' to leave it out")
    options = parser.parse_args()
    count = options.count or (60 if options.real else 12)
    rounds = options.rounds or (5 if options.real else 1)
    for codec in options.codecs:
        print(*("", *described(CODECS[codec][2])), sep="\n")
        table(codec, options.directory, count, rounds, options.peers)
        # A frame is there twice while it is measured: the files of before are not gone at once.
        if _room(options.tmpfs) > 4 * count * FRAME_MB * 1e6:
            table(codec, options.tmpfs, count, rounds, options.peers)


def _room(directory: str) -> int:
    return shutil.disk_usage(directory).free if Path(directory or "/no").is_dir() else 0


def table(codec: str, directory: str, count: int, rounds: int, peers: str) -> None:
    """One codec in one directory: every contender, then the goals."""
    cname, level, contenders = CODECS[codec]
    order = {
        "shape": SHAPE,
        "different": 4,
        "count": count,
        "directory": directory,
        "cname": cname,
        "level": level,
    }
    figures = measure(contenders, order, rounds, peers)
    print(f"\n{codec}: {count} frames of 2048 x 2048 uint16 in {directory}, medians of {rounds}")
    print(f"{'':20} {'MB/s':>7} {'of first':>8} {'durable':>8} {'MiB':>6}")
    for name, figure in figures.items():
        speed = count * FRAME_MB / figure["s"]
        durable = figure["s"] / figure["durable"]
        ratio = figures[contenders[0]]["s"] / figure["s"]
        print(f"{name:20} {speed:7.0f} {ratio:8.2f} {durable:8.2f} {figure['MiB']:6.0f}")
    print(*goals(codec, figures), sep="\n")


def goals(codec: str, figures: dict[str, Figures]) -> list[Goal]:
    """What has to be reached; a peer that was left out has no goal."""

    def faster(than: str, least: float, what: str = "ours") -> list[Goal]:
        if than not in figures:
            return []
        ratio = figures[than]["s"] / figures[what]["s"]
        return [Goal(f"{what}, times as fast as {than}", ratio, least=least)]

    if codec == "none":
        raw = figures["raw"]
        durable = raw["durable"] / figures["ours"]["durable"]
        found = [
            *faster("raw", 0.9),
            *faster("bare", 0.9),
            *faster("raw", 0.6, "ours_copy"),
            Goal("ours, durable, times as fast as raw, durable", durable, least=0.85),
            *faster("acquire_zarr", 4.5),
            *faster("tensorstore", 1.5),
            *faster("zarr_python", 2),
        ]
    elif codec == "blosc-zstd-5":
        found = [
            *faster("codec_alone", 0.9),
            *faster("acquire_zarr", 1.3),
            *faster("tensorstore", 0.9),
        ]
    elif codec == "blosc-lz4-5":
        found = [*faster("acquire_zarr", 2.2), *faster("tensorstore", 1)]
    else:
        found = faster("codec_alone", 0.9)
    most = max(figures[name]["MiB"] for name in ("ours", "ours_copy"))
    return [*found, Goal("peak memory of ours, MiB", most, most=96)]


if __name__ == "__main__":
    main()
