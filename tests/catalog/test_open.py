"""Opening stores with xarray, while they are written and when they are published."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import zarr

from bluesky_zarr.catalog import open as open_store
from tests.catalog.handmade import make_array
from tests.machine import by_an_ordinary_user


@pytest.fixture
def made(tmp_path: Path) -> Path:
    path = tmp_path / "scan.zarr"
    root = zarr.open_group(path, mode="w", attributes={"status": "running"})
    root.create_group("primary")
    cam = make_array(path, "primary/cam", (2, 3, 4, 6), ("y", "x", "cam_y", "cam_x"), (1, 1, 4, 6))
    cam[1, 2] = 7
    for name, size in (("y", 2), ("x", 3)):
        axis = make_array(path, f"primary/{name}", (size,), (name,), (size,), dtype="float64")
        axis[:] = np.arange(size) / 10
    exposure = make_array(path, "primary/exposure", (2, 3), ("y", "x"), (2, 3), dtype="float64")
    exposure.attrs["units"] = "s"
    exposure[:] = 0.5
    time = make_array(path, "primary/time", (2, 3), ("y", "x"), (2, 3), dtype="float64")
    time.attrs["units"] = "s"
    time[:] = 1e9
    return path


@pytest.mark.parametrize("published", [False, True])
def test_a_store_opens_as_a_tree_without_a_warning(made: Path, published: bool) -> None:
    if published:
        with warnings.catch_warnings(action="ignore"):
            zarr.consolidate_metadata(made / "primary")
            zarr.consolidate_metadata(made)
    with warnings.catch_warnings(action="error"):
        tree = open_store(made)
        primary = tree["primary"].to_dataset()
        frame = primary["cam"].sel(x=0.2, y=0.1).values
    assert primary["cam"].dims == ("y", "x", "cam_y", "cam_x")
    assert primary["cam"].dtype == "uint16"
    assert (frame == 7).all()
    assert primary["exposure"].dtype == primary["time"].dtype == "float64"
    assert tree.attrs["status"] == "running"


def test_only_metadata_is_read(made: Path) -> None:
    cam = open_store(made)["primary/cam"]
    np.testing.assert_array_equal(cam.isel(y=0, x=0).values, 0)
    zarr.open_group(made)["primary/cam"][0, 0] = 3
    # Nothing is kept either: what was written after the store was opened is seen.
    np.testing.assert_array_equal(cam.isel(y=0, x=0).values, 3)


def test_a_uri_is_as_good_as_a_path(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.parent)
    for path in (f"file://{made}", f"file://localhost{made}", str(made), made.name):
        assert "primary" in open_store(path).children


def test_a_stream_can_be_opened_by_itself(made: Path) -> None:
    assert open_store(made / "primary")["cam"].sizes["x"] == 3


def test_what_is_not_a_store_is_said(made: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"There is no store at .*nothing\.zarr"):
        open_store(tmp_path / "nothing.zarr")
    with pytest.raises(ValueError, match=r"is not a store: it has no zarr\.json"):
        open_store(tmp_path)
    (tmp_path / "file.zarr").write_text("")
    with pytest.raises(ValueError, match="is not a store: it is a file"):
        open_store(tmp_path / "file.zarr")
    with pytest.raises(ValueError, match="it is one array; open the directory that it is in"):
        open_store(made / "primary" / "cam")
    (made / "zarr.json").write_text("{")
    with pytest.raises(ValueError, match=r"its zarr\.json is broken"):
        open_store(made)


def test_a_store_that_cannot_be_read_is_said(made: Path) -> None:
    program = "import sys; from bluesky_zarr.catalog import open; open(sys.argv[1])"
    assert by_an_ordinary_user(program, made).returncode == 0
    (made / "zarr.json").chmod(0)
    *_, said = by_an_ordinary_user(program, made).stderr.splitlines()
    assert said.startswith(f"PermissionError: {made} cannot be read by this user")
