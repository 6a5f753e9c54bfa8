"""How a cube is cut: shards of at most 512 MB, each written whole by one task."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.ingest.cubes import CubesConfig, cube_layout, ingest_cube
from bluesky_zarr.ingest.cubes import _layout as layouts
from bluesky_zarr.ingest.cubes._layout import blocks
from bluesky_zarr.store import validate
from tests.ingest.cubes.images import content, night, truth

SHAPES = [
    (1, 1, 1, 64, 64),
    (10, 12, 1, 1024, 1024),
    (10_000, 12, 1, 1024, 1024),
    (119_000, 12, 1, 4096, 4096),
    (50, 12, 4, 4096, 4096),
    (3, 5, 1, 16_384, 16_384),
    (40, 7, 2, 1000, 3000),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("chunk", [0, 512, 1024])
def test_shards_are_at_most_512_mb_and_whole_in_one_task(shape, chunk: int) -> None:
    layout = cube_layout(shape, chunk)
    assert layout.inner[:3] == (1, 1, 1)
    one_chunk = math.prod(layout.inner) * 4
    assert math.prod(layout.shard) * 4 <= max(512e6, one_chunk)
    found = list(itertools.islice(blocks(shape, layout), 1000))
    for block in found:
        assert block.times[0] % layout.shard[0] == 0
        assert block.frequencies[0] % layout.shard[1] == 0
    if len(found) < 1000:
        places = [place for block in found for place in block.places()]
        assert sorted(places) == list(np.ndindex(*shape[:2]))


def test_large_data_sets_have_at_most_3_files_per_gb() -> None:
    for shape in [SHAPES[2], SHAPES[3]]:
        gigabytes = math.prod(shape) * 4 / 1e9
        assert cube_layout(shape, 1024).files(shape) / gigabytes <= 3


def test_a_short_night_has_a_shard_for_each_time_step() -> None:
    assert cube_layout((10, 12, 1, 1024, 1024), 1024).shard == (1, 12, 1, 1024, 1024)


def test_several_time_steps_in_a_shard_are_done_together(tmp_path: Path) -> None:
    times = [f"20240524_05{n // 60:02}{n % 60:02}" for n in range(70)]
    night(tmp_path / "in", times, (41, 46), (8, 8), leave_out=[(3, 1), (68, 0)])
    config = CubesConfig(input_dir=tmp_path / "in", output_dir=tmp_path / "out")
    assert cube_layout((70, 2, 1, 8, 8), 1024).shard[0] == 2
    made = ingest_cube(config)
    check(made.path, 70, 2, (8, 8), {(3, 1), (68, 0)})


def test_an_image_beyond_a_shard_is_spread_over_several(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(layouts, "MAX_SHARD_BYTES", 2 * 16 * 16 * 4)
    shape = (56, 40)
    images = night(tmp_path / "in", ["20240524_050000"], (41, 46), shape)
    config = CubesConfig(input_dir=images, output_dir=tmp_path / "out", chunk_lm=16)
    made = ingest_cube(config)
    shards = [name for name in content(made.path) if name.startswith("SKY/c/")]
    assert len(shards) > 4
    check(made.path, 1, 2, shape, set())


def check(cube: Path, times: int, frequencies: int, shape, missing) -> None:
    import zarr

    sky = np.asarray(zarr.open_array(str(cube), path="SKY", mode="r")[...])
    for t in range(times):
        for f in range(frequencies):
            right = np.full(shape, np.nan) if (t, f) in missing else truth(t, f, shape)
            np.testing.assert_array_equal(sky[t, f, 0].T, right)
    assert validate(cube, deep=True)
