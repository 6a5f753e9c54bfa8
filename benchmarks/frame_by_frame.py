"""What it costs to write frames one at a time into shards: ms a frame, and bytes written for each.

    python benchmarks/frame_by_frame.py [--frames N] [--rounds N] [--directory DIRECTORY]

Frames of 2048 x 2048 uint16 go into one shard that has room for 60 of them (503 MB), uncompressed
with crc32c, each written before the next one is there, as a camera gives them. What every
contender wrote is read back. Needs tensorstore: pip install -e '.[bench]'.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorstore
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec

from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter

FRAME = (2048, 2048)
ROOM = 60

Writer = Callable[[Path, Sequence[np.ndarray]], None]


def ours(path: Path, frames: Sequence[np.ndarray]) -> None:
    """ZarrWriter, until each frame is readable."""
    writer = ZarrWriter(path, codec="none", layout=Layout((1, *FRAME), (ROOM, *FRAME)))
    sink = writer.prepare(SourceInfo("cam", "uint16", FRAME), key="a", capacity=ROOM)
    for frame in frames:
        sink.write(frame, copy=False)
        sink.drain()
    writer.complete()


def _sharded(path: Path) -> zarr.Array:
    return zarr.create_array(
        path,
        name="a",
        shape=(ROOM, *FRAME),
        shards=(ROOM, *FRAME),
        chunks=(1, *FRAME),
        dtype="uint16",
        serializer=BytesCodec(),
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )


def zarr_python(path: Path, frames: Sequence[np.ndarray]) -> None:
    """zarr-python, array[n] = frame."""
    array = _sharded(path)
    for number, frame in enumerate(frames):
        array[number] = frame


def tensorstore_(path: Path, frames: Sequence[np.ndarray]) -> None:
    """tensorstore, array[n].write(frame).result(), without its own fsync."""
    _sharded(path)
    array = tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": f"{path}/a", "file_io_sync": False},
        }
    ).result()
    for number, frame in enumerate(frames):
        array[number].write(frame).result()


def bytes_written() -> int:
    """By this process so far, to any file."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return int(dict(line.split(": ") for line in lines)["wchar"])


def main() -> None:
    parser = argparse.ArgumentParser(description="Frames one at a time into shards.")
    parser.add_argument("--frames", type=int, default=6, help=f"of at most {ROOM}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=Path(tempfile.gettempdir()))
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    frames = [rng.poisson(200, FRAME).astype("uint16") for _ in range(min(options.frames, ROOM))]
    contenders: dict[str, Writer] = {
        "ours": ours,
        "zarr-python": zarr_python,
        "tensorstore": tensorstore_,
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    amount = dict.fromkeys(contenders, 0.0)
    for _ in range(options.rounds):
        for name, write in contenders.items():
            folder = Path(tempfile.mkdtemp(dir=options.directory))
            try:
                before, started = bytes_written(), time.perf_counter()
                write(folder / "s.zarr", frames)
                taken[name].append((time.perf_counter() - started) / len(frames))
                amount[name] = (bytes_written() - before) / len(frames) / frames[0].nbytes
                array = zarr.open_array(folder / "s.zarr", path="a", mode="r")
                for number, frame in enumerate(frames):
                    if not np.array_equal(np.asarray(array[number]), frame):
                        raise SystemExit(f"{name}: frame {number} is not what was written")
            finally:
                shutil.rmtree(folder)
    print(f"{len(frames)} frames of 8.4 MB, one at a time, medians of {options.rounds}")
    print(f"{'':12} {'ms a frame':>10} {'of ours':>8} {'bytes written, of a frame':>26}")
    first = statistics.median(taken["ours"])
    for name, seconds in taken.items():
        each = statistics.median(seconds)
        print(f"{name:12} {each * 1e3:10.2f} {each / first:8.1f} {amount[name]:26.2f}")


if __name__ == "__main__":
    main()
