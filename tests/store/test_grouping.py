"""Small frames of a flown row are stored together, and nothing else is different about them."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    FrameError,
    FrameSink,
    Layout,
    SourceInfo,
    ZarrWriter,
    choose_layout,
    inspect,
    publish,
    recover,
    validate,
)
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._metadata import read_document
from bluesky_zarr.store._slots import Slots
from tests.store.crashed import died
from tests.store.reading import READERS, zarr_python
from tests.store.sinks import full_disk, read, store_of

KEY = "primary/cam"
GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * ~Linspace("x", 0, 1, 10))
# Groups of 4: the last one of a row has 2 positions.
FOURS = Layout((1, 4, 2, 3), (3, 12, 2, 3))
TILES = Layout((1, 4, 2, 2), (3, 12, 2, 2))
TILES_OF_ONE = Layout((1, 1, 2, 2), (3, 10, 2, 2))
SHAPE = (2, 3)
FRAMES = np.random.default_rng(0).integers(1, 60_000, (100, *SHAPE)).astype("uint16")


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., FrameSink]:
    numbers = itertools.count()

    def make(geometry: ScanGeometry | None = GRID, capacity: int = 0, **options: Any) -> FrameSink:
        options = {"layout": FOURS if geometry else Layout((4, 2, 3), (8, 2, 3))} | options
        # Nothing is stored because of the time, unless a test wants it.
        writer = ZarrWriter(
            tmp_path / f"s{next(numbers)}.zarr", **{"group_seconds": 1000.0, **options}
        )
        source = SourceInfo("cam", "uint16", SHAPE, geometry=geometry, flown=True)
        return writer.prepare(source, key=KEY, capacity=capacity)

    return make


def snaked(frames: np.ndarray) -> np.ndarray:
    rows = frames[:30].reshape(3, 10, *SHAPE).copy()
    rows[1] = rows[1, ::-1]
    return rows


# ------------------------------------------------------------------ what is stored


@pytest.mark.parametrize("layout", [FOURS, TILES], ids=["whole", "tiles"])
@pytest.mark.parametrize("codec", ["none", "blosc-lz4-5", "zstd-1"])
def test_a_flown_scan_is_read_back_where_it_belongs(
    make: Callable[..., FrameSink], codec: str, layout: Layout
) -> None:
    sink = make(codec=codec, layout=layout)
    for frame in FRAMES[:30]:
        sink.write(frame)
    sink.close()
    publish(store_of(sink))
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), KEY), snaked(FRAMES))
    assert validate(store_of(sink), deep=True)
    assert sink.dead_bytes == 0


@pytest.mark.parametrize("sizes", [(30,), (7, 1, 2, 20), (3, 3, 3, 3, 3, 3, 3, 3, 3, 3)])
def test_blocks_of_any_size_are_as_good_as_single_frames(
    make: Callable[..., FrameSink], sizes: tuple[int, ...]
) -> None:
    sink = make()
    done = 0
    for size in sizes:
        assert sink.write_many(FRAMES[done : done + size]) == done + size
        done += size
    sink.drain()
    np.testing.assert_array_equal(read(sink), snaked(FRAMES))
    np.testing.assert_array_equal(sink.written, np.ones((3, 10)))


def test_frames_of_any_memory_layout_one_by_one_and_in_blocks_follow_one_another(
    make: Callable[..., FrameSink],
) -> None:
    sink = make()
    assert sink.write(np.asfortranarray(FRAMES[0])) == 1
    assert sink.write(FRAMES[1], 1) == 2
    assert sink.write_many(FRAMES[2:13]) == 13
    for number in range(13, 30):
        # Of every other one the bytes do not lie one after the other; a wait in between stores it.
        frame = FRAMES[number] if number % 2 else np.repeat(FRAMES[number], 2, axis=1)[:, ::2]
        assert sink.write(frame) == number + 1
        if number % 5 == 0:
            sink.flush()
    sink.close()
    np.testing.assert_array_equal(read(sink), snaked(FRAMES))


def test_a_growing_row_is_grouped_too_and_trimmed_to_its_last_frame(
    make: Callable[..., FrameSink],
) -> None:
    sink = make(None)
    sink.write_many(FRAMES[:40])
    for frame in FRAMES[40:45]:
        sink.write(frame)
    sink.close()
    publish(store_of(sink))
    np.testing.assert_array_equal(read(sink), FRAMES[:45])
    assert validate(store_of(sink), deep=True)


def test_the_capacity_holds_for_blocks(make: Callable[..., FrameSink]) -> None:
    sink = make(None, capacity=6)
    with pytest.raises(FrameError, match="past the capacity of 6 frames"):
        sink.write_many(FRAMES[:7])
    sink.close()
    np.testing.assert_array_equal(read(sink), FRAMES[:6])


def test_frames_come_in_any_order(make: Callable[..., FrameSink]) -> None:
    sink = make()
    order = list(range(30))
    random.Random(0).shuffle(order)
    for k in order:
        sink.write(FRAMES[k], divmod(k, 10))
    sink.close()
    np.testing.assert_array_equal(read(sink), FRAMES[:30].reshape(3, 10, *SHAPE))
    assert sink.readable == 30
    assert inspect(store_of(sink)).dead_bytes == sink.dead_bytes > 0


@pytest.mark.parametrize("flown", [True, False])
def test_chunks_begin_at_multiples_of_64_bytes(tmp_path: Path, flown: bool) -> None:
    layout = FOURS if flown else TILES_OF_ONE
    writer = ZarrWriter(tmp_path / "s.zarr", layout=layout)
    sink = writer.prepare(SourceInfo("cam", "uint16", SHAPE, geometry=GRID, flown=flown), key=KEY)
    sink.write_many(FRAMES[:30])
    writer.complete()
    writer.publish()
    array = FrameArray(store_of(sink), KEY, read_document(store_of(sink) / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members) as group:
        extents = [tiles.values() for tiles in group.indexed().values()]
    assert {offset % 64 for tiles in extents for offset, _ in tiles} == {0}


def test_large_frames_and_frames_of_a_step_scan_are_not_grouped() -> None:
    dims = ("y", "x", "cam_y", "cam_x")
    small = (20, 1000, 64, 64)
    assert choose_layout(small, dims, "u2", frame_ndim=2).inner == (1, 1, 64, 64)
    layout = choose_layout(small, dims, "u2", frame_ndim=2, flown=True)
    assert layout.inner == (1, 125, 64, 64)
    assert layout.shard[1] % 125 == 0
    large = (20, 1000, 2048, 2048)
    assert choose_layout(large, dims, "u2", frame_ndim=2, flown=True).inner[:2] == (1, 1)


def test_a_layout_that_groups_is_for_flown_sources(tmp_path: Path) -> None:
    source = SourceInfo("cam", "uint16", SHAPE, geometry=GRID)
    with pytest.raises(ValueError, match="say that the source is flown"):
        ZarrWriter(tmp_path / "s.zarr", layout=FOURS).prepare(source)


# ------------------------------------------------------------------ when it is readable


def test_what_is_readable_is_what_a_reader_finds(make: Callable[..., FrameSink]) -> None:
    sink = make()
    for k, frame in enumerate(FRAMES[:9]):
        sink.write(frame, k)
    sink._queue.wait()
    # Two groups of four are full; the ninth frame waits.
    assert sink.readable == 8
    assert sink.collect() == [(0, 8)]
    np.testing.assert_array_equal(read(sink).reshape(30, *SHAPE)[:8], FRAMES[:8])
    sink.drain()
    assert sink.collect() == [(8, 9)]
    np.testing.assert_array_equal(read(sink).reshape(30, *SHAPE)[:9], FRAMES[:9])
    assert not read(sink).reshape(30, *SHAPE)[9:].any()


def test_a_frame_waits_for_others_only_so_long(make: Callable[..., FrameSink]) -> None:
    sink = make(group_seconds=0.05)
    sink.write(FRAMES[0])
    deadline = time.monotonic() + 10
    while not sink.readable and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sink.collect() == [(0, 1)]
    np.testing.assert_array_equal(read(sink)[0, 0], FRAMES[0])


def test_a_group_stored_again_leaves_dead_bytes_that_are_counted(
    make: Callable[..., FrameSink],
) -> None:
    sink = make(codec="none")
    for frame in FRAMES[:2]:
        sink.write(frame)
        sink.drain()
    sink.write_many(FRAMES[2:10])
    sink.close()
    np.testing.assert_array_equal(read(sink)[0], FRAMES[:10])
    assert sink.dead_bytes > 0
    assert inspect(store_of(sink)).dead_bytes == sink.dead_bytes
    assert sink.written[0].tolist() == [1] * 10


# ------------------------------------------------------------------ again, and back


def test_the_last_frame_at_a_position_wins_and_both_are_counted(
    make: Callable[..., FrameSink],
) -> None:
    sink = make()
    sink.write_many(FRAMES[:10])
    sink.write(FRAMES[50], (0, 2))
    sink.write(FRAMES[51], (0, 2))
    sink.close()
    np.testing.assert_array_equal(read(sink)[0, 2], FRAMES[51])
    np.testing.assert_array_equal(read(sink)[0, 3], FRAMES[3])
    assert sink.written[0].tolist() == [1, 1, 3, 1, 1, 1, 1, 1, 1, 1]


def test_a_frame_taken_back_gives_way_to_the_one_before_or_to_nothing(
    make: Callable[..., FrameSink],
) -> None:
    sink = make()
    sink.write_many(FRAMES[:6])
    sink.write(FRAMES[50], (0, 2))
    for again, expected in ((FRAMES[2], 1), (0, 0)):
        sink.retract((0, 2))
        assert np.all(read(sink)[0, 2] == again)
        assert sink.written[0, 2] == expected
    with pytest.raises(FrameError, match="there is no frame to take back"):
        sink.retract((0, 2))
    assert sink.readable == 5
    sink.close()
    publish(store_of(sink))
    assert validate(store_of(sink), deep=True)


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (FRAMES[:2, :1], r"shape \(1, 3\), expected \(2, 3\)"),
        (FRAMES[:2].astype("int32"), "uint16 expected, got int32"),
        (FRAMES[0], r"shape \(3,\), expected"),
    ],
)
def test_a_block_that_does_not_fit_is_refused_and_the_sink_goes_on(
    make: Callable[..., FrameSink], frames: np.ndarray, words: str
) -> None:
    sink = make()
    with pytest.raises(FrameError, match=words):
        sink.write_many(frames)
    sink.write_many(FRAMES[:30])
    sink.close()
    np.testing.assert_array_equal(read(sink), snaked(FRAMES))


def test_a_closed_sink_takes_no_more(make: Callable[..., FrameSink]) -> None:
    sink = make()
    sink.write(FRAMES[0])
    sink.close()
    for write in (lambda: sink.write(FRAMES[1]), lambda: sink.write_many(FRAMES[1:3])):
        with pytest.raises(RuntimeError, match="takes no more"):
            write()
    assert sink.readable == 1


def test_an_error_of_the_disk_comes_out(
    make: Callable[..., FrameSink], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make()

    monkeypatch.setattr(os, "pwritev", full_disk)
    sink.write_many(FRAMES[:5])
    with pytest.raises(OSError, match="No space left"):
        sink.drain()
    with pytest.raises(OSError, match="No space left"):
        sink.write(FRAMES[0], 0)
    with pytest.raises(OSError, match="No space left"):
        sink.close()


# ------------------------------------------------------------------ after a crash


@pytest.mark.parametrize("codec", ["none", "blosc-lz4-5"])
def test_recovery_finds_every_frame_that_was_readable(
    make: Callable[..., FrameSink], codec: str
) -> None:
    sink = make(codec=codec)
    for k, frame in enumerate(FRAMES[:6]):
        sink.write(frame, k, time=1000.0 + k)
    sink.write(FRAMES[50], 1, time=2000.0)
    sink.drain()
    sink.write(FRAMES[60], 7)  # waits in memory when the process dies
    store = store_of(sink)
    died(store)
    assert recover(store)
    frames = zarr_python(store, KEY).reshape(30, *SHAPE)
    np.testing.assert_array_equal(frames[[0, 1, 2, 3, 4, 5]], FRAMES[[0, 50, 2, 3, 4, 5]])
    assert not frames[6:].any()
    assert zarr_python(store, f"{KEY}_written")[0].tolist() == [1, 2, 1, 1, 1, 1, 0, 0, 0, 0]
    times = zarr_python(store, "primary/time")[0]
    assert times[:6].tolist() == [1000.0, 2000.0, 1002.0, 1003.0, 1004.0, 1005.0]
    assert validate(store, deep=True)


def test_a_damaged_table_is_named_and_the_frames_are_kept(make: Callable[..., FrameSink]) -> None:
    sink = make(codec="none")
    sink.write_many(FRAMES[:3])
    sink.close()
    store = store_of(sink)
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members) as group:
        ((tiles),) = group.indexed().values()
        ((offset, _),) = tiles.values()
    ((_, path),) = members
    data = bytearray(path.read_bytes())
    data[offset - 64 - array.lead] ^= 1
    path.write_bytes(data)
    assert "which of them have a frame is damaged" in str(validate(store))
    died(store)
    assert "which of them have a frame is damaged" in str(recover(store))
    np.testing.assert_array_equal(zarr_python(store, KEY)[0, :3], FRAMES[:3])


def test_a_table_that_is_not_what_was_written_is_none() -> None:
    slots = Slots.empty(3)
    table = slots.pack()
    assert Slots.unpack(table, 3) is not None
    assert Slots.unpack(table, 4) is None
    assert Slots.unpack(table[:-1] + bytes([table[-1] ^ 1]), 3) is None


@pytest.mark.faults
def test_after_sigkill_nothing_announced_is_lost(tmp_path: Path) -> None:
    script = textwrap.dedent(
        """
        import sys, time
        import numpy as np
        from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter
        writer = ZarrWriter(sys.argv[1], layout=Layout((8, 4, 4), (64, 4, 4)), group_seconds=0.01)
        sink = writer.prepare(SourceInfo("cam", "uint16", (4, 4), flown=True), key="primary/cam")
        for k in range(100_000):
            sink.write(np.full((4, 4), k % 60_000 + 1, "uint16"))
            if k % 97 == 0:
                time.sleep(0.002)
            for start, stop in sink.collect():
                print(start, stop, flush=True)
        """
    )
    for turn in range(5):
        store = tmp_path / f"s{turn}.zarr"
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        announced = [process.stdout.readline()]
        time.sleep(random.Random(turn).uniform(0.01, 0.3))
        process.send_signal(signal.SIGKILL)
        announced += process.stdout.read().splitlines(keepends=True)
        process.wait()
        assert recover(store)
        frames = zarr_python(store, KEY)
        counts = zarr_python(store, f"{KEY}_written")
        for line in announced:
            if line.endswith("\n"):
                start, stop = map(int, line.split())
                expected = np.arange(start, stop) % 60_000 + 1
                assert (frames[start:stop, 0, 0] == expected).all()
                assert (counts[start:stop] == 1).all()
        assert validate(store, deep=True)
