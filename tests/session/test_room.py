"""What is left of earlier runs, and the room for the next one, is looked at before it begins."""

from __future__ import annotations

import logging
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import bluesky.plans as bp
import pytest
from bluesky.run_engine import RunEngine
from scanspec.specs import Linspace

from bluesky_zarr import Storage
from bluesky_zarr.plans import nested_scan
from tests.store.crashed import made


def left(monkeypatch: pytest.MonkeyPatch, size: int, **other: int) -> None:
    found = shutil.disk_usage("/")._replace(free=size, **other)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: found)


async def where(lab: SimpleNamespace) -> float:
    return await lab.a.user_readback.get_value()


@pytest.mark.parametrize("plan", ["nested", "grid", "count"])
def test_a_scan_that_the_disk_has_no_room_for_is_refused_before_anything_moves(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, plan: str
) -> None:
    left(monkeypatch, 2)
    moved: list[str] = []
    lab.RE.msg_hook = lambda msg: moved.append(msg.command) if msg.obj is lab.a else None
    plans = {
        "nested": lambda: nested_scan([lab.cam], Linspace(lab.a, 1, 3, 50)),
        "grid": lambda: bp.grid_scan([lab.cam], lab.a, 1, 3, 5, lab.b, 0, 1, 10),
        "count": lambda: bp.count([lab.cam], 50),
    }
    with pytest.raises(OSError, match=r"take 2.4 kB, and 2 B are left on the disk; nothing has"):
        lab.RE(plans[plan]())
    assert "set" not in moved
    assert lab.RE.state == "idle"
    assert not list(lab.storage.base.glob("*.zarr"))
    monkeypatch.undo()
    lab.RE(plans[plan]())
    assert lab.storage.last_path.exists()


def test_a_scan_that_fits_only_if_it_compresses_is_warned_of(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    left(monkeypatch, 1000)
    with caplog.at_level(logging.WARNING):
        lab.RE(bp.count([lab.cam], 50))
    assert "The frames of this scan take 2.4 kB uncompressed, and 1.0 kB are left" in caplog.text


@pytest.mark.parametrize("size", [5, 1000])
def test_a_scan_of_frames_that_hold_nearly_nothing_is_not_refused(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    left(monkeypatch, size)
    lab.RE(bp.count([lab.cam], 50))
    assert lab.storage.last_path.exists()


def test_a_file_system_that_does_not_say_how_large_it_is_refuses_nothing(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(monkeypatch, 0, total=0, used=0)
    lab.RE(bp.count([lab.cam], 50))
    assert lab.storage.last_path.exists()


def test_the_room_for_a_run_in_a_directory_of_its_own_is_looked_at_too(
    lab: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(monkeypatch, 1000)
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda path: (os.stat(path), usage(path))[1])
    storage = Storage(f"file://{tmp_path}/plain", codec="none", naming="{plan_name}/{uid}")
    storage.attach(lab.RE)
    storage.inject(lab.cam)
    with pytest.raises(OSError, match=r"and 1\.0 kB are left on the disk"):
        lab.RE(bp.count([lab.cam], 50))


def test_without_compression_nothing_is_hoped_for(
    lab: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(monkeypatch, 1000)
    storage = Storage(f"file://{tmp_path}/plain", codec="none")
    storage.attach(lab.RE)
    storage.inject(lab.cam)
    with pytest.raises(OSError, match="give the storage another base_uri"):
        lab.RE(bp.count([lab.cam], 50))


def test_attach_says_what_an_earlier_crash_left_and_how_to_recover_it(
    RE: RunEngine, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    made(storage.base / "crashed.zarr", process_start="1")
    made(storage.base / "running.zarr")
    made(storage.base / "done.zarr", publish=True)
    with caplog.at_level(logging.WARNING):
        storage.attach(RE)
    (record,) = caplog.records
    assert record.getMessage().startswith("An earlier run crashed. crashed.zarr: process ")
    assert f"bluesky-zarr recover {storage.base}/crashed.zarr" in record.getMessage()
