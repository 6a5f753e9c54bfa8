"""What a catalog heard of, and a store lacks, is named."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace
from typer.testing import CliRunner

from bluesky_zarr import Storage
from bluesky_zarr.catalog import TiledServer, compare
from bluesky_zarr.cli import app
from bluesky_zarr.plans import nested_scan, place
from bluesky_zarr.store import recover, relayout, validate
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._metadata import read_document
from tests.fakes import PositionCamera, instant_motor
from tests.store.crashed import died, made


@pytest.fixture
def crashed(RE: RunEngine, server: TiledServer, stores: Path, tmp_path: Path) -> Path:
    """A scan of 3 x 4 points that a catalog knows, from which a power cut took two frames."""
    storage = Storage(f"file://{stores / tmp_path.name}", publication="manual")
    with init_devices():
        a, b = instant_motor("a"), instant_motor("b")
        cam = PositionCamera([a, b], name="cam")
    storage.attach(RE)
    storage.inject(cam)
    RE.subscribe(server.writer())
    RE(nested_scan([cam], Linspace(a, 0, 2, 3) * ~Linspace(b, 0, 3, 4)))
    path = storage.last_path
    array = FrameArray(path, "primary/cam", read_document(path / "primary/cam"))
    ((members),) = array.groups()
    with ShardGroup(array, members, writable=True) as group:
        for position in ((1, 2), (2, 0)):
            (version,) = group.versions()[position]
            (extent,) = version.extents.values()
            place, index = array.entry(position, (0, 0))
            group.files[place].mark_retracted([extent])
            group.files[place].set_entries(index, [(2**64 - 1, 2**64 - 1)])
    died(path)
    return path


def said(report: Any) -> list[str]:
    return [f"{p.where}: {p.what}" for p in report.problems]


def test_what_was_announced_and_is_not_in_the_store_is_named(
    crashed: Path, server: TiledServer
) -> None:
    report = recover(crashed)
    assert report
    compare(report, server.client())
    lost = "its frame was announced and is not in the store"
    assert said(report) == [
        f"primary/cam: index (1, 2): {lost}",
        f"primary/cam: index (2, 0): {lost}",
    ]
    assert "primary/cam: 12 frames were announced by the catalog" in report.notes


def test_a_store_that_was_laid_out_anew_lacks_no_more_than_its_source(
    crashed: Path, server: TiledServer
) -> None:
    recover(crashed)
    report = relayout(crashed, crashed.with_name("series.zarr"))
    compare(report, server.client())
    lost = "its frame was announced and is not in the store"
    assert said(report) == [
        f"primary/cam: index (1, 2): {lost}",
        f"primary/cam: index (2, 0): {lost}",
    ]


def test_points_that_a_plan_left_out_of_a_stream_in_order_of_events_are_not_missed(
    RE: RunEngine, server: TiledServer, stores: Path, tmp_path: Path
) -> None:
    storage = Storage(f"file://{stores / tmp_path.name}")
    with init_devices():
        cam = PositionCamera(name="cam")
    storage.attach(RE)
    storage.inject(cam)
    RE.subscribe(server.writer())

    @bpp.stage_decorator([cam])
    @bpp.run_decorator()
    def darks() -> Any:
        for index in (1, 4):
            yield from place("dark", index)
            yield from bps.trigger_and_read([cam], name="dark")

    RE(darks())
    report = validate(storage.last_path)
    compare(report, server.client())
    assert said(report) == []
    assert "dark/cam: 2 frames were announced by the catalog" in report.notes


def test_the_command_names_it_and_exits_with_1(
    crashed: Path, server: TiledServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in [n for n in os.environ if n.lower() in ("http_proxy", "all_proxy")]:
        monkeypatch.delenv(name)
    result = CliRunner().invoke(app, ["recover", str(crashed), "--catalog", server.uri])
    assert result.exit_code == 1, result.output
    assert "index (1, 2): its frame was announced" in result.output


def test_a_run_that_the_catalog_never_heard_of_is_said(tmp_path: Path, server: TiledServer) -> None:
    report = recover(made(tmp_path / "scan.zarr", process_start="1"))
    compare(report, server.client())
    assert report
    assert "the catalog has no run None: nothing to compare with" in report.notes


def test_a_catalog_that_is_not_there_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = made(tmp_path / "scan.zarr", process_start="1")
    result = CliRunner().invoke(app, ["recover", str(path), "--catalog", "http://127.0.0.1:9"])
    assert result.exit_code == 2
    assert "the catalog 'http://127.0.0.1:9' cannot be used" in result.output
    assert read_document(path)["attributes"]["status"] == "recovered"
