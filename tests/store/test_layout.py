"""Few files, none too large, and every frame readable as soon as it is written."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_zarr.store import Layout, choose_layout
from bluesky_zarr.store._batch_layout import batch_layout
from bluesky_zarr.store._layout import warn_about

FRAME = (2048, 2048)


def dims(shape: tuple[int, ...]) -> tuple[str, ...]:
    return tuple(f"d{axis}" for axis in range(len(shape)))


def chosen(scan: tuple[int, ...], access: str = "frames", growing: bool = False) -> Layout:
    shape = scan + FRAME
    return choose_layout(shape, dims(shape), "uint16", access, frame_ndim=2, growing=growing)


@pytest.mark.parametrize(
    ("scan", "shard"), [((600,), (60,)), ((5, 20, 6), (1, 10, 6)), ((1, 600), (1, 60))]
)
def test_600_large_frames_are_10_files(scan: tuple[int, ...], shard: tuple[int, ...]) -> None:
    layout = chosen(scan)
    assert layout.inner == (1,) * len(scan) + FRAME
    assert layout.shard == shard + FRAME
    assert layout.files(scan + FRAME) == 10
    assert math.prod(layout.shard) * 2 <= 512e6


def test_an_array_of_large_frames_grows_by_half_a_gigabyte() -> None:
    assert chosen((0,), growing=True).shard == (61, *FRAME)
    # What is expected is balanced, but more may come than that.
    assert chosen((600,), growing=True).shard == (60, *FRAME)
    assert chosen((3,), growing=True).shard == (61, *FRAME)


def test_an_array_of_small_frames_begins_small() -> None:
    assert choose_layout((0,), ("event",), "f8", frame_ndim=0, growing=True).shard == (4096,)
    assert choose_layout((3, 8), ("e", "x"), "f8", frame_ndim=1, growing=True).shard == (64, 8)


def test_where_whole_lines_leave_shards_half_empty_lines_are_cut() -> None:
    # One line of 35 frames is 294 MB, two are too much.
    layout = chosen((20, 35))
    assert layout.files((20, 35, *FRAME)) / (20 * 35 * 8388608 / 1e9) <= 3


@pytest.mark.parametrize(("access", "tile"), [("balanced", 512), ("series", 128)])
def test_tiles_cut_frames_but_not_scans(access: str, tile: int) -> None:
    layout = chosen((5, 20, 6), access)
    assert layout.inner == (1, 1, 1, tile, tile)
    assert layout.shard == (1, 10, 6, 2048, 2048)


def test_the_last_tiles_of_a_frame_are_whole() -> None:
    layout = choose_layout((4, 600, 100), dims((4, 600, 100)), "u2", "balanced", frame_ndim=2)
    assert layout == Layout(inner=(1, 512, 100), shard=(4, 1024, 100))


def test_a_frame_larger_than_a_shard_is_spread_over_several() -> None:
    shape = (3, 30000, 30000)
    layout = choose_layout(shape, dims(shape), "u2", "balanced", frame_ndim=2)
    assert math.prod(layout.shard) * 2 <= 512e6
    assert layout.files(shape) / (math.prod(shape) * 2 / 1e9) <= 3


@settings(max_examples=200, deadline=None)
@given(
    scan=st.lists(st.integers(1, 400), min_size=1, max_size=5),
    frame=st.lists(st.integers(1, 3000), max_size=3),
    access=st.sampled_from(["frames", "balanced", "series"]),
    growing=st.booleans(),
)
def test_any_layout_keeps_the_rules(
    scan: list[int], frame: list[int], access: str, growing: bool
) -> None:
    scan = scan[:1] if growing else scan
    shape = (*scan, *frame)
    layout = choose_layout(shape, dims(shape), "u2", access, frame_ndim=len(frame), growing=growing)
    frame_bytes = math.prod(layout.inner) * 2
    shard_bytes = math.prod(layout.shard) * 2
    total = math.prod(scan) * math.prod(layout.shard[len(scan) :]) * 2
    assert layout.inner[: len(scan)] == (1,) * len(scan)
    assert shard_bytes <= max(512e6, frame_bytes)
    assert math.prod(layout.grid) * 16 <= 2**20 or layout.shard[: len(scan)] == (1,) * len(scan)
    if access == "frames" and total > 2e9 and 1e5 < frame_bytes < 50e6:
        assert layout.files(shape) / (total / 1e9) <= 4


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout((1, 2048, 2048), (1, 2048, 2048)), "600 files for 5.03 GB, 119 files per GB"),
        (Layout((1, 2048, 2048), (600, 2048, 2048)), "shards of 5033 MB"),
        (Layout((60, 2048, 2048), (60, 2048, 2048)), "inner chunks of 503 MB"),
    ],
)
def test_a_worse_layout_of_ones_own_gives_a_warning_with_the_numbers(
    layout: Layout, words: str
) -> None:
    with pytest.warns(UserWarning, match=words):
        warn_about(layout, (600, *FRAME), "u2")


def test_a_good_layout_of_ones_own_gives_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_about(chosen((600,)), (600, *FRAME), "u2")
        warn_about(Layout((1, 4), (1, 4)), (3, 4), "u2")


def test_batch_chunks_are_of_1_to_100_mb_and_many_of_them_share_a_file() -> None:
    for shape, dtype in [
        ((100, 1000, 1000), "f4"),
        ((20000, 3000), "f8"),
        ((2000, 100, 3000), "f4"),
    ]:
        chunks, shards = batch_layout(shape, dtype)
        itemsize = np.dtype(dtype).itemsize
        assert 1e6 <= math.prod(chunks) * itemsize <= 100e6
        assert shards is not None
        assert math.prod(shards) * itemsize <= 512e6
        assert all(whole % part == 0 for whole, part in zip(shards, chunks, strict=True))
    assert batch_layout((10, 20), "f4") == ((10, 20), None)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Layout((1, 512), (1, 1000)), "not a whole number of inner chunks"),
        (lambda: Layout((1, 512), (1, 2, 512)), "have 2 dims, shards of .* have 3"),
        (lambda: chosen((3,), "pixels"), "'pixels' is none of 'frames', 'balanced', 'series'"),
        (lambda: choose_layout((3, 4), ("a",), "u2", frame_ndim=1), "name 1 dims, the shape"),
        (lambda: choose_layout((4,), ("a",), "u2", frame_ndim=1), "leaves no scan dim"),
    ],
)
def test_what_does_not_fit_is_said(call, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()
