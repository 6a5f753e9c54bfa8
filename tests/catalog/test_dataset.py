"""A stream from Tiled with its labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.catalog import TiledServer, dataset
from tests.catalog.handmade import COORDINATES, HandmadeRun


def make(server: TiledServer, store: Path, **kwargs: Any) -> HandmadeRun:
    kwargs = {"coordinates": COORDINATES} | kwargs
    return HandmadeRun(server.writer(), store, (3, 5), ("y", "x"), **kwargs)


@pytest.mark.parametrize("client", ["numpy", "dask"])
def test_events_and_frames_are_joined(server: TiledServer, store: Path, client: str) -> None:
    run = make(server, store)
    run.points([0, 1, 2, 3, 4, 9, 8, 7, 6, 5, 10, 11, 12, 13, 14])
    run.stop()
    data = dataset(server.client(client)[run.uid]["primary"])
    assert data["cam"].dims == ("y", "x", "cam_y", "cam_x")
    np.testing.assert_array_equal(data["cam"].values, run.expected)
    np.testing.assert_array_equal(data["cam-sum"].values, np.arange(15.0).reshape(3, 5))
    np.testing.assert_allclose(data["x_readback"].values, np.tile(data["x"].values, (3, 1)))
    assert data["x"].attrs["units"] == "mm"
    np.testing.assert_array_equal(
        data["cam"].sel(x=0.31, y=0.1, method="nearest").values, run.expected[1, 3]
    )


def test_while_a_run_goes_on_what_is_missing_is_marked(server: TiledServer, store: Path) -> None:
    run = make(server, store)
    run.points([0, 1])
    data = dataset(server.client()[run.uid]["primary"])
    assert int(data["cam-sum"].notnull().sum()) == 2
    assert data["seq_num"].values[0].tolist() == [1, 2, 0, 0, 0]
    assert data["time"].values[0, 1] == np.datetime64("2001-09-09T01:46:42")
    assert int(data["time"].isnull().sum()) == 13
    run.stop()


def test_the_last_of_two_rows_counts(server: TiledServer, store: Path) -> None:
    run = make(server, store)
    for value in (1.0, 2.0):
        run.frame(7)
        run.row(**{"scan_index": 7.0, "cam-sum": value})
    run.stop()
    data = dataset(server.client()[run.uid]["primary"])
    assert data["cam-sum"].values[1, 2] == 2.0


def test_only_what_is_wanted_is_read(server: TiledServer, store: Path) -> None:
    run = make(server, store)
    run.points(range(15))
    run.stop()
    data = dataset(server.client()[run.uid]["primary"], variables=["cam-sum"])
    assert set(data.data_vars) == {"cam-sum", "time"}


def test_without_positions_it_says_who_writes_them(server: TiledServer, store: Path) -> None:
    run = make(server, store, columns=("x", "y"))
    run.frame(0)
    run.row(x=1.0)
    run.stop()
    with pytest.raises(ValueError, match=r"'scan_index'.*without Storage\.attach"):
        dataset(server.client()[run.uid]["primary"])
