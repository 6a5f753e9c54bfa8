"""An announced frame is readable: at once, whole, by another process that knows nothing of us."""

from __future__ import annotations

import itertools
import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter, publish

KEY = "primary/cam"
SHAPE = (31, 37)
POSITIONS = 300
# The write with number n goes to position n * STEP, so that positions come in no order of the
# store and are written again on every round.
STEP = 77
WRITES_PER_READ = 20

WHOLE = Layout((1, *SHAPE), (40, *SHAPE))
TILES = Layout((1, 8, 16), (40, 32, 48))


def picture(number: int) -> np.ndarray:
    """The frame of a write, different in every pixel from that of any other for a long time."""
    return ((np.arange(31 * 37) * 7 + number) % 65521).astype("uint16").reshape(SHAPE)


def write_frames(path: Path, codec: str, layout: Layout, inline: bool, pipe: Connection) -> None:
    """Write until the other side hangs up; say after each frame which positions became readable."""
    writer = ZarrWriter(path, codec=codec, layout=layout)
    sink = writer.prepare(SourceInfo("cam", "uint16", SHAPE), key=KEY)
    # Small frames take the way of large ones too.
    sink._inline = inline
    credit = 0
    for number in itertools.count():
        # At full rate, but not for gigabytes.
        while credit <= 0 or pipe.poll():
            message = pipe.recv()
            if message is None:
                writer.complete()
                pipe.send(None)
                return
            credit += message
        credit -= 1
        sink.write(picture(number), number * STEP % POSITIONS)
        written = sink.written
        for start, stop in sink.collect():
            pipe.send([(flat, int(written[flat])) for flat in range(start, stop)])


def read(path: Path, flat: int, other: bool) -> np.ndarray:
    if other:
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(path / KEY)}}
        return np.asarray(tensorstore.open(spec, open=True).result()[flat].read().result())
    array = zarr.open_array(str(path), path=KEY, mode="r", zarr_format=3)
    return np.asarray(array[flat])


def check(found: np.ndarray, flat: int, count: int, layout: Layout) -> None:
    """With `count` frames announced, the frame found is at least the `count`-th, or a newer one."""
    first = flat * pow(STEP, -1, POSITIONS) % POSITIONS
    announced = first + POSITIONS * (count - 1)
    # Readers may see the tiles of a newer frame one by one, but each of them whole.
    _, height, width = layout.inner
    for y, x in itertools.product(range(0, SHAPE[0], height), range(0, SHAPE[1], width)):
        cut = np.s_[y : y + height, x : x + width]
        number = announced
        while not np.array_equal(found[cut], picture(number)[cut]):
            number += POSITIONS
            assert number < announced + 100 * POSITIONS, f"position {flat}: {found[cut]}"


def read_while_frames_come(
    path: Path, codec: str, layout: Layout, reads: int, *, inline: bool
) -> None:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    args = (path, codec, layout, inline, there)
    process = context.Process(target=write_frames, args=args, daemon=True)
    process.start()
    there.close()
    announced: dict[int, int] = {}
    latest = 0
    for k in range(reads):
        here.send(WRITES_PER_READ)
        # Each read is of the frame announced last, while the writer goes on with the next ones.

        while not announced or here.poll():
            for latest, count in here.recv():
                announced[latest] = count
        check(read(path, latest, other=k % 4 == 3), latest, announced[latest], layout)
    here.send(None)
    while (message := here.recv()) is not None:
        announced.update(message)
    process.join(60)
    assert process.exitcode == 0
    for _ in range(2):
        for flat, count in announced.items():
            if flat % 10 == 0:
                check(read(path, flat, other=False), flat, count, layout)
        publish(path)


CASES = [
    pytest.param("none", WHOLE, True, id="whole-uncompressed-inline"),
    pytest.param("blosc-zstd-1", WHOLE, False, id="whole-compressed"),
    pytest.param("blosc-lz4-5", TILES, False, id="tiles-compressed"),
]


@pytest.mark.parametrize(("codec", "layout", "inline"), CASES)
def test_every_announced_frame_is_readable_at_once(
    tmp_path: Path, codec: str, layout: Layout, inline: bool
) -> None:
    read_while_frames_come(tmp_path / "scan.zarr", codec, layout, 200, inline=inline)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("codec", "layout", "inline"), CASES)
def test_ten_thousand_announced_frames_are_readable_at_once(
    tmp_path: Path, codec: str, layout: Layout, inline: bool
) -> None:
    read_while_frames_come(tmp_path / "scan.zarr", codec, layout, 10_000, inline=inline)
