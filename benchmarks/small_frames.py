"""Small frames along a flown axis, and scalars: microseconds for each until the last is readable.

    python benchmarks/small_frames.py [--real] [--directory DIRECTORY] [--peers PYTHON]
                                      [--count N] [--rounds N]

Frames are 64 x 64 uint16; contenders take turns, each in a process of its own, and each is verified
by reading everything back. Without --real it is quick, which says little. Peers that this Python
lacks are taken from that of --peers, or left out. Goals in microseconds are for one machine; on
others, those that are multiples of the bare work say as much.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)
sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.writing_parts.measure import Figures, Goal, described, measure

PEERS = ("zarr_python_blocks", "acquire_zarr")
CASES = {
    "64 x 64": (
        (64, 64),
        "",
        0,
        ("raw_blocks", "bare_blocks", "ours_grouped", "ours_many", *PEERS),
    ),
    "64 x 64, lz4": ((64, 64), "lz4", 5, ("bare_codec_blocks", "ours_grouped", "acquire_zarr")),
    "scalars": ((), "", 0, ("list_append", "ours_grouped", "ours_many")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--real", action="store_true", help="60 000 frames, 5 rounds")
    parser.add_argument("--count", type=int, help="frames; ten times as many scalars")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--peers", default="", metavar="PYTHON")
    options = parser.parse_args()
    count = options.count or (60_000 if options.real else 6_000)
    rounds = options.rounds or (5 if options.real else 1)
    print(f"{count} frames in {options.directory}, medians of {rounds}")
    for case, (shape, cname, level, contenders) in CASES.items():
        many = count if shape else 10 * count
        order = {
            "shape": shape,
            "different": 64,
            "count": many,
            "directory": options.directory,
            "cname": cname,
            "level": level,
        }
        figures = measure(contenders, order, rounds, options.peers)
        print(*("", *described(contenders)), sep="\n")
        print(f"\n{case:20} {'us each':>8} {'MiB':>6}")
        for name, figure in figures.items():
            print(f"{name:20} {figure['s'] / many * 1e6:8.3f} {figure['MiB']:6.0f}")
        print(*goals(case, figures, many), sep="\n")


def goals(case: str, figures: dict[str, Figures], count: int) -> list[Goal]:
    """What has to be reached; a peer that was left out has no goal."""
    each = {name: figure["s"] / count * 1e6 for name, figure in figures.items()}
    if case == "scalars":
        return [
            Goal("a call for each, us", each["ours_grouped"], most=1),
            Goal("write_many, us each", each["ours_many"], most=0.05),
        ]
    us, bare, times = 2.5, "bare_blocks", 1.28
    if "lz4" in case:
        us, bare, times = 4.5, "bare_codec_blocks", 1.25
    found = [
        Goal("us for each frame", each["ours_grouped"], most=us),
        Goal(f"times {bare}", each["ours_grouped"] / each[bare], most=times),
    ]
    if "acquire_zarr" in each and "lz4" not in case:
        ratio = each["acquire_zarr"] / each["ours_grouped"]
        found.append(Goal("times as fast as acquire_zarr", ratio, least=5))
    return found


if __name__ == "__main__":
    main()
