"""databroker 2 reads the same runs."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.catalog import TiledServer
from tests.catalog.handmade import HandmadeRun

databroker = pytest.importorskip("databroker", reason="the databroker extra is not installed")


def test_databroker_reads_what_tiled_reads(
    server: TiledServer, store: Path, tmp_path: Path
) -> None:
    run = HandmadeRun(server.writer(), store, (3, 5), ("y", "x"))
    run.points(range(15))
    run.stop()
    with server.profile("handmade", tmp_path / "profiles") as path:
        catalog = databroker.from_profile("handmade")
        assert path == tmp_path / "profiles" / "handmade.yml"
        assert "handmade" in databroker.list_profiles()
        found = catalog[run.uid]
        assert found.metadata["start"]["plan_name"] == "handmade"
        data = found["primary"].read()
        np.testing.assert_array_equal(data["cam"].values, run.expected)
        assert found["primary"]["cam"].dims == ("scan_y", "scan_x", "cam_y", "cam_x")
        assert data["x"].dims == ("time",)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert not path.exists()
    assert "handmade" not in databroker.list_profiles()


def test_the_newest_run_is_the_last(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(), store, (2,), ("event",), growing=True)
    run.points(range(2))
    run.stop()
    with server.profile("newest"):
        assert databroker.from_profile("newest")[-1].metadata["start"]["uid"] == run.uid


def test_a_profile_is_never_replaced(server: TiledServer, tmp_path: Path) -> None:
    (tmp_path / "mine.yml").write_text("mine: {uri: 'http://127.0.0.1:8000'}")
    with pytest.raises(FileExistsError), server.profile("mine", tmp_path):
        pass
    assert "8000" in (tmp_path / "mine.yml").read_text()


@pytest.mark.parametrize("name", ["", "../mine", ".hidden"])
def test_a_name_that_is_no_file_name_is_refused(server: TiledServer, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a profile's name"), server.profile(name):
        pass
