"""What is left of frames whose writer is killed, and what a reader makes of a flipped byte.

    python benchmarks/killed_peers.py [--kills N] [--flips N] [--only NAME ...]

Each contender writes 200 frames in a process of its own, and says after each one that it has been
taken. In the middle the process gets SIGKILL. Counted are the frames that were taken and cannot be
read as they were, by the contender's own reader; recovery is not tried, for nobody. Then a whole
file (or store) gets one byte flipped, in one place after the other, and is read: wrong values
without an error are counted. Each contender has its default codec, and noise as frames. Kills go
around the contenders in turn; printed are medians over the kills.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FRAMES, SHAPE, SHARD = 200, (128, 128), 50
KILL_AT = 117
"""In the middle of a shard."""


@functools.cache
def frame(number: int) -> np.ndarray:
    """Noise that only this frame has."""
    return np.random.default_rng(number).integers(1, 60_000, SHAPE, "uint16")


def every(put: Callable[[int, np.ndarray], Any]) -> None:
    """Hand over all frames, and say after each one that it was taken."""
    for number in range(FRAMES):
        put(number, frame(number))
        print(number, flush=True)


def ours(path: Path) -> None:
    from bluesky_zarr.store import SourceInfo, ZarrWriter

    writer = ZarrWriter(path)
    sink = writer.prepare(SourceInfo("cam", "uint16", SHAPE), capacity=FRAMES)
    every(lambda number, data: sink.write(data, number))
    writer.publish()


def zarr_chunks(path: Path, shards: tuple[int, ...] | None = None) -> None:
    import zarr

    array: Any = zarr.create_array(
        path / "cam", shape=(FRAMES, *SHAPE), chunks=(1, *SHAPE), shards=shards, dtype="uint16"
    )
    every(array.__setitem__)


def zarr_shards(path: Path) -> None:
    zarr_chunks(path, (SHARD, *SHAPE))


def tensorstore(path: Path) -> None:
    import tensorstore

    array = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / "cam")}},
        create=True,
        dtype="uint16",
        shape=(FRAMES, *SHAPE),
        chunk_layout=tensorstore.ChunkLayout(chunk_shape=(1, *SHAPE)),
    ).result()
    every(lambda number, data: array[number].write(data).result())


def acquire_zarr(path: Path) -> None:
    import acquire_zarr as aqz

    kinds = aqz.DimensionType
    sizes = (("t", kinds.TIME, 0, 1, SHARD), ("y", kinds.SPACE, *2 * SHAPE[:1], 1))
    sizes = (*sizes, ("x", kinds.SPACE, *2 * SHAPE[1:], 1))
    array = aqz.ArraySettings(
        output_key="cam",
        dimensions=[
            aqz.Dimension(
                name=name, kind=kind, array_size_px=size, chunk_size_px=chunk,
                shard_size_chunks=shard,
            )
            for name, kind, size, chunk, shard in sizes
        ],
        data_type=aqz.DataType.UINT16,
    )  # fmt: skip
    stream = aqz.ZarrStream(aqz.StreamSettings(store_path=str(path), arrays=[array]))
    every(lambda number, data: stream.append(data, key="cam"))
    stream.close()


def hdf5(path: Path, *, swmr: bool = False) -> None:
    import h5py

    path.mkdir()
    with h5py.File(path / "cam.h5", "w", libver="latest") as file:
        array = file.create_dataset("cam", (FRAMES, *SHAPE), "uint16", chunks=(1, *SHAPE))
        if swmr:
            file.swmr_mode = True

        def put(number: int, data: np.ndarray) -> None:
            array[number] = data
            if swmr:
                array.flush()

        every(put)


def hdf5_swmr(path: Path) -> None:
    hdf5(path, swmr=True)


def read_zarr(path: Path) -> Callable[[int], np.ndarray]:
    import zarr

    array: Any = zarr.open_array(path / "cam", mode="r")
    return lambda number: array[number]


def read_hdf5(path: Path) -> Callable[[int], np.ndarray]:
    import h5py

    array: Any = h5py.File(path / "cam.h5", "r", swmr=True)["cam"]
    return lambda number: array[number]


CONTENDERS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "bluesky-zarr": ("bluesky_zarr", ours),
    "zarr-python, chunks": ("zarr", zarr_chunks),
    "zarr-python, shards": ("zarr", zarr_shards),
    "tensorstore, chunks": ("tensorstore", tensorstore),
    "acquire-zarr, shards": ("acquire_zarr", acquire_zarr),
    "h5py": ("h5py", hdf5),
    "h5py, SWMR, flushed": ("h5py", hdf5_swmr),
}


def write(name: str, path: Path, kill_at: int) -> int:
    """Let a process write; how many frames it said were taken before it was killed."""
    command = [sys.executable, __file__, "--write", name, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        taken = 0
        for _ in process.stdout:
            taken += 1
            if taken == kill_at:
                process.send_signal(signal.SIGKILL)
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(f"{name} could not write: it ended with {process.returncode}")
    return taken


def judge(name: str, path: Path, count: int) -> tuple[int, int]:
    """How many of the first frames are read wrong without an error, and how many not at all."""
    wrong = refused = 0
    try:
        read = (read_hdf5 if name.startswith("h5py") else read_zarr)(path)
    except Exception:
        return 0, count
    for number in range(count):
        try:
            wrong += not np.array_equal(read(number), frame(number))
        except Exception:
            refused += 1
    return wrong, refused


def flipped(name: str, path: Path, flips: int) -> int:
    """After how many of these flips of one byte something is read wrong without an error."""
    chance = random.Random(name)
    files = [p for p in sorted(path.rglob("*")) if p.is_file() and p.suffix != ".json"]
    sizes = [p.stat().st_size for p in files]
    silent = 0
    for _ in range(flips):
        (file,) = chance.choices(files, sizes)
        place, bit = chance.randrange(file.stat().st_size), 1 << chance.randrange(8)
        content = file.read_bytes()
        file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        silent += judge(name, path, FRAMES)[0] > 0
        file.write_bytes(content)
    return silent


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--kills", type=int, default=3, metavar="N")
    parser.add_argument("--flips", type=int, default=20, metavar="N")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--write", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write:
        CONTENDERS[given.write[0]][1](Path(given.write[1]))
        return
    found = [name for name in given.only if importlib.util.find_spec(CONTENDERS[name][0])]
    for name in set(given.only) - set(found):
        print(f"{name}: {CONTENDERS[name][0]} is not installed")
    kills: dict[str, list[tuple[int, int, int]]] = {name: [] for name in found}
    silent: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as directory:
        for _ in range(given.kills):
            for name in found:
                path = Path(directory, "killed.zarr")
                taken = write(name, path, KILL_AT)
                kills[name].append((taken, *judge(name, path, taken)))
                shutil.rmtree(path, ignore_errors=True)
        for name in found:
            path = Path(directory, "whole.zarr")
            write(name, path, FRAMES + 1)
            silent[name] = flipped(name, path, given.flips)
            shutil.rmtree(path)
    print(f"{FRAMES} frames of {SHAPE[0]} x {SHAPE[1]}; killed near frame {KILL_AT}")
    print(f"{'':22}{'taken':>7}{'lost':>7}{'share':>8}   silently wrong after a flip")
    for name in found:
        taken, *lost = (statistics.median(column) for column in zip(*kills[name], strict=True))
        gone = sum(lost)
        share = gone / taken
        print(f"{name:22}{taken:7.0f}{gone:7.0f}{share:8.0%}   {silent[name]:3} of {given.flips}")


if __name__ == "__main__":
    main()
