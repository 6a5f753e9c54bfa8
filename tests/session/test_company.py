"""Several engines, sessions and scripts, and what others left: each run is whole and its own."""

from __future__ import annotations

import shutil
import threading
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import FailedStatus, Msg, RunEngineInterrupted
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr import Storage
from bluesky_zarr.plans import nested_scan
from bluesky_zarr.store import recover, validate
from tests.fakes import PositionCamera
from tests.pausing import run_through
from tests.store.sinks import full_disk


def test_a_pause_during_the_drain_of_a_run_that_closes(lab: SimpleNamespace) -> None:
    def pause(msg: Msg) -> None:
        if msg.command == "wait_for" and not paused:
            paused.append(True)
            lab.RE.loop.call_soon(
                lambda: lab.RE.loop.create_task(lab.RE._request_pause_coro(False))
            )

    paused: list[bool] = []
    lab.RE.msg_hook = pause
    run_through(lab.RE, nested_scan([lab.cam], Linspace(lab.a, 0, 2, 3)))
    assert paused
    assert bz.open(lab.storage.last_path).attrs["status"] == "complete"
    assert (lab.primary()["cam_written"].values >= 1).all()


@pytest.mark.parametrize("name", ["time", "seq_num", "a", "other_written", "scan_index"])
def test_a_camera_whose_name_is_taken_is_refused_and_the_run_published(
    lab: SimpleNamespace, name: str
) -> None:
    with init_devices():
        camera = PositionCamera([lab.a], name="camera")
    camera.set_name(name)
    lab.storage.inject(camera)
    with pytest.raises(Exception, match="set_name"):
        lab.RE(bp.scan([camera], lab.a, 0, 1, 2))
    lab.RE(bp.scan([lab.cam], lab.a, 0, 1, 2))
    assert bz.open(lab.storage.last_path).attrs["status"] == "complete"


def test_a_run_whose_stop_document_is_kept_from_us_is_finished_by_the_next(
    RE: RunEngine, tmp_path: Any
) -> None:
    def bad(name: str, doc: Any) -> None:
        if name == "stop" and not failed:
            failed.append(True)
            raise RuntimeError("a callback of somebody else's")

    failed: list[bool] = []
    RE.subscribe(bad)
    storage = Storage(f"file://{tmp_path}")
    storage.attach(RE)
    with init_devices():
        cam = PositionCamera([], name="cam")
    storage.inject(cam)
    with pytest.raises(RuntimeError, match="somebody else"):
        RE(bp.count([cam], 2))
    RE(bp.count([cam], 2))
    statuses = [bz.open(path).attrs["status"] for path in sorted(tmp_path.glob("*.zarr"))]
    assert sorted(statuses) == ["complete", "failed"]


def test_a_journal_without_its_store_is_not_mixed_into_another_run(
    lab: SimpleNamespace, other_RE: RunEngine
) -> None:
    storage = Storage(f"file://{lab.storage.base}/again", naming="same")
    storage.attach(other_RE)
    storage.inject(lab.cam)
    other_RE(bp.count([lab.cam], 3))
    shutil.rmtree(storage.last_path)
    other_RE(bp.count([lab.cam], 2))
    assert storage.last_path.name == "same~2.zarr"
    assert "nothing to do" in str(recover(storage.last_path))
    assert bz.open(storage.last_path)["primary"].to_dataset()["seq_num"].shape == (2,)


def test_a_startup_script_may_be_run_again(lab: SimpleNamespace) -> None:
    second = Storage(f"file://{lab.storage.base}/second")
    second.attach(lab.RE)
    second.inject(lab.cam)
    lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2)))
    assert second.last_path.parent == second.base
    with pytest.raises(RuntimeError, match="stored anything"):
        _ = lab.storage.last_path


def test_wrap_in_another_engine_than_the_attached_one(
    lab: SimpleNamespace, other_RE: RunEngine
) -> None:
    other_RE(lab.storage.wrap(bp.count([lab.cam], 2)))
    assert bz.open(lab.storage.last_path).attrs["status"] == "complete"


@pytest.mark.parametrize(
    "md", [{"motors": 3}, {"shape": "x"}, {"num_points": -1}, {"scanspec": 7}, {"plan_name": None}]
)
def test_metadata_that_says_nonsense_breaks_nothing(lab: SimpleNamespace, md: Any) -> None:
    lab.RE(bp.scan([lab.cam], lab.a, 0, 2, 3), **md)
    assert (lab.primary()["cam_written"].values == 1).all()


def test_a_publication_that_fails_is_made_up_for_by_the_next_plan(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_zarr.session._recorder.publish", full_disk)
    with pytest.raises(OSError, match="No space left"):
        lab.RE(bp.count([lab.cam], 2))
    path = lab.storage.last_path
    assert bz.open(path).attrs["status"] == "running"
    monkeypatch.undo()
    lab.RE(bp.count([lab.cam], 1))
    assert bz.open(path).attrs["status"] == "complete"


def test_two_engines_do_not_share_a_storage_at_once(
    lab: SimpleNamespace, other_RE: RunEngine
) -> None:
    lab.storage.attach(other_RE)

    def paused() -> Any:
        yield from bps.checkpoint()
        yield from bps.pause()

    with pytest.raises(RunEngineInterrupted):
        lab.RE(paused())
    with pytest.raises(RuntimeError, match="in another RunEngine"):
        other_RE(bp.count([lab.cam], 1))
    lab.RE.resume()


def test_numbers_beyond_reason_are_not_prepared_for(lab: SimpleNamespace) -> None:
    lab.RE(bp.scan([lab.cam], lab.a, 0, 2, 3), num_points=10**12)
    assert lab.primary()["cam"].shape == (3, 3, 4)


def test_two_sessions_that_choose_one_name_at_once_write_two_stores(
    lab: SimpleNamespace, other_RE: RunEngine, tmp_path: Any
) -> None:
    mine, other = (Storage(f"file://{tmp_path}/shared", naming="{plan_name}") for _ in range(2))
    mine.attach(lab.RE)
    mine.inject(lab.cam)
    other.attach(other_RE)

    def point() -> Any:
        yield Msg("open_run", plan_name="map")
        yield Msg("create", name="primary")
        yield Msg("save")
        yield Msg("close_run")

    @bpp.stage_decorator([lab.cam])
    def plan() -> Any:
        yield from bps.open_run({"plan_name": "map"})
        # The name is chosen, and nothing is there yet: now the other one begins, and ends.
        session = threading.Thread(target=other_RE, args=(point(),))
        session.start()
        session.join(20)
        yield from bps.trigger_and_read([lab.cam])
        yield from bps.close_run()

    lab.RE(plan())
    assert other.last_path.name == "map.zarr"
    assert mine.last_path.name == "map~2.zarr"
    for storage in (mine, other):
        assert validate(storage.last_path, deep=True)
        assert bz.open(storage.last_path).attrs["status"] == "complete"


def test_a_store_that_could_not_be_made_keeps_no_name(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_zarr.session._recorder.ZarrWriter", full_disk)
    with pytest.raises(FailedStatus):
        lab.RE(bp.count([lab.cam]))
    assert list(lab.storage.base.iterdir()) == []
