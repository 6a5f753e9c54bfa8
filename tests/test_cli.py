"""The command line says what a store holds and what is wrong with it, and exits accordingly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from bluesky_zarr._demo import load_profile
from bluesky_zarr.cli import app
from bluesky_zarr.store import SourceInfo, ZarrWriter
from tests.store.crashed import made

runner = CliRunner()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    writer = ZarrWriter(f"file://{tmp_path}/scan.zarr", attributes={"plan_name": "by_hand"})
    sink = writer.prepare(SourceInfo("cam", "uint16", (8, 8)), key="primary/cam")
    for k in range(3):
        sink.write(np.full((8, 8), k, "uint16"))
    writer.publish()
    return tmp_path / "scan.zarr"


def test_inspect_shows_arrays_status_and_frames(store: Path) -> None:
    result = runner.invoke(app, ["inspect", str(store)])
    assert result.exit_code == 0
    for word in ("complete", "by_hand", "primary/cam", "cam_y:8", "3/"):
        assert word in result.output


def test_validate_passes_a_good_store(store: Path) -> None:
    result = runner.invoke(app, ["validate", str(store), "--deep"])
    assert result.exit_code == 0
    assert "ok" in result.output


def test_validate_of_a_damaged_store_exits_with_1_and_names_the_place(store: Path) -> None:
    (shard,) = (p for p in (store / "primary/cam/c").rglob("0") if p.is_file())
    data = bytearray(shard.read_bytes())
    start = data.index(b"BZREC") + 64  # the first record's chunk begins behind its head
    data[start + 5] ^= 0xFF
    shard.write_bytes(data)
    result = runner.invoke(app, ["validate", str(store), "--deep"])
    assert result.exit_code == 1
    assert "primary/cam" in result.output


def test_recover_of_a_published_store_says_that_there_is_nothing_to_do(store: Path) -> None:
    result = runner.invoke(app, ["recover", str(store)])
    assert "published" in result.output


def test_relayout_makes_a_copy_and_says_how_it_is_cut(store: Path) -> None:
    target = store.with_name("series.zarr")
    command = ["relayout", str(store), str(target), "--access", "series", "--codec", "lz4"]
    result = runner.invoke(app, [*command, "--array", "primary/cam"])
    assert result.exit_code == 0
    assert "primary/cam: chunks 1x8x8 -> 3x8x8" in result.output
    assert runner.invoke(app, ["validate", str(target), "--deep"]).exit_code == 0
    again = runner.invoke(app, command)
    assert again.exit_code == 2
    assert "exists and is not overwritten" in again.output


@pytest.mark.parametrize("command", ["inspect", "validate", "recover"])
def test_what_is_not_there_is_an_error_with_its_name(tmp_path: Path, command: str) -> None:
    result = runner.invoke(app, [command, str(tmp_path / "nothing.zarr")])
    assert result.exit_code in {1, 2}
    assert "nothing.zarr" in result.output


def test_a_uri_is_a_path_as_well(store: Path) -> None:
    assert runner.invoke(app, ["validate", f"file://{store}"]).exit_code == 0


def test_a_demo_that_cannot_write_says_so_in_a_line() -> None:
    result = runner.invoke(app, ["demo", "--directory", "/proc/nowhere"])
    assert result.exit_code == 2
    assert "/proc/nowhere" in result.output


def test_help_names_the_commands() -> None:
    result = runner.invoke(app, ["--help"])
    for command in ("demo", "inspect", "validate", "recover", "relayout"):
        assert command in result.output


def test_the_profile_is_loaded_as_a_startup_script_is() -> None:
    assert load_profile("plans/mapping").map_energies
    assert load_profile("devices/beamline").make_beamline
    with pytest.raises(FileNotFoundError, match="reinstall"):
        load_profile("plans/nothing")


def test_status_lists_stores_and_exits_with_1_when_one_of_them_crashed(store: Path) -> None:
    result = runner.invoke(app, ["status", str(store.parent)])
    assert result.exit_code == 0
    assert "scan.zarr  published  complete," in result.output
    made(store.parent / "crashed.zarr", process_start="1")
    result = runner.invoke(app, ["status", str(store.parent)])
    assert result.exit_code == 1
    assert "crashed.zarr  crashed" in result.output


def test_recover_all_recovers_what_crashed_beneath_a_directory(store: Path) -> None:
    made(store.parent / "crashed.zarr", process_start="1")
    result = runner.invoke(app, ["recover", "--all", str(store.parent), "--dry-run"])
    assert result.exit_code == 0
    assert "dry run: nothing was changed" in result.output
    result = runner.invoke(app, ["recover", "--all", str(store.parent)])
    assert result.exit_code == 0
    assert "published as recovered" in result.output
    result = runner.invoke(app, ["recover", "--all", str(store.parent)])
    assert "no crashed store" in result.output


def test_recover_wants_a_path_or_a_directory(store: Path) -> None:
    for arguments in ([], [str(store), "--all", str(store.parent)]):
        result = runner.invoke(app, ["recover", *arguments])
        assert result.exit_code == 2
        assert "PATH or --all" in result.output
