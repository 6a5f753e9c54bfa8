"""Several cameras, unseen triggers, overlapping exposures, dropped events: nothing is misplaced."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import FailedStatus, Msg
from ophyd_async.core import TriggerInfo, init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan, place
from tests.fakes import PositionCamera, code_of, frame_of
from tests.pausing import run_through


@pytest.fixture
def pair(lab: SimpleNamespace) -> SimpleNamespace:
    """The lab with a second, slower camera `slow` that sees the same motors."""
    with init_devices():
        slow = PositionCamera([lab.a, lab.b], (5, 6), exposure=0.05, name="slow")
    lab.slow = slow
    lab.storage.inject(lab.slow)
    return lab


def test_the_run_after_a_failed_write_is_whole(
    pair: SimpleNamespace, docs: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.pwritev, 0

    def full(*args: Any) -> int:
        nonlocal calls
        calls += 1
        if calls > 6:
            raise OSError(28, "No space left on device")
        return real(*args)

    monkeypatch.setattr(os, "pwritev", full)
    with pytest.raises(Exception, match="No space left"):
        pair.RE(nested_scan([pair.cam, pair.slow], Linspace(pair.a, 0, 7, 8)))
    monkeypatch.undo()
    failed = bz.open(pair.storage.last_path)
    assert failed.attrs["status"] == "failed"
    assert failed["primary"].to_dataset()["cam_written"].values.sum() >= 2
    for _ in range(2):
        docs.clear()
        pair.RE(nested_scan([pair.cam, pair.slow], Linspace(pair.a, 0, 2, 3)))
        names = [name for name, _ in docs]
        assert names.count("stream_resource") == 2
        assert names.count("stream_datum") == 6
        assert (pair.primary()["slow_written"].values == 1).all()


def test_a_camera_that_is_not_in_the_scan_is_refused_when_triggered_unseen(
    pair: SimpleNamespace,
) -> None:
    def unseen(plan: Any) -> Any:
        def insert(msg: Msg) -> tuple[Any, Any]:
            if msg.command == "close_run":
                return bpp.pchain(bps.trigger(pair.slow, wait=True), bpp.single_gen(msg)), None
            return None, None

        return bpp.plan_mutator(plan, insert)

    pair.RE.preprocessors.append(unseen)
    with pytest.raises(Exception, match="Nobody said where"):
        pair.RE(bp.count([pair.cam], 2))
    assert "slow" not in pair.primary()


def test_an_exposure_belongs_to_the_point_of_its_trigger(
    pair: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    @bpp.stage_decorator([pair.slow])
    @bpp.run_decorator()
    def plan() -> Any:
        for k in range(3):
            yield from bps.checkpoint()
            yield from bps.mv(pair.a, k)
            yield from bps.trigger(pair.slow, group="x")
            for _ in range(2):
                yield from bps.trigger_and_read([pair.c], name="fast")
            yield from bps.wait("x")
            yield from bps.create("primary")
            yield from bps.read(pair.slow)
            yield from bps.save()

    pair.RE(plan())
    tree = bz.open(pair.storage.last_path)
    for k in range(3):
        np.testing.assert_array_equal(
            tree["primary"]["slow"].values[k], frame_of(code_of((k, 0)), (5, 6))
        )
    assert tree["fast"].to_dataset()["c"].shape == (6,)
    assert "slow" not in tree["fast"]
    starts = [d["indices"]["start"] for name, d in docs if name == "stream_datum"]
    assert starts == [0, 1, 2]


def test_a_refused_stream_takes_back_the_frames_of_all_cameras(pair: SimpleNamespace) -> None:
    @bpp.stage_decorator([pair.cam, pair.slow])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([pair.cam, pair.slow])
        yield from bps.trigger_and_read([pair.cam, pair.slow], name="dark")

    with pytest.raises(bz.PlacementError, match=r"place\('dark', index\)"):
        pair.RE(plan())
    data = pair.primary()
    assert data["cam_written"].values.tolist() == [1]
    assert data["slow_written"].values.tolist() == [1]


def test_a_stream_that_is_declared_first(pair: SimpleNamespace) -> None:
    @bpp.stage_decorator([pair.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.prepare(pair.cam, TriggerInfo(), wait=True)
        yield from bps.declare_stream(pair.a, pair.cam, name="primary")
        yield from bps.declare_stream(pair.c, name="other")
        for k in range(3):
            yield from bps.checkpoint()
            yield from bps.mv(pair.a, k)
            yield from bps.trigger_and_read([pair.a, pair.cam])
            yield from bps.trigger_and_read([pair.c], name="other")

    pair.RE(plan())
    for k in range(3):
        np.testing.assert_array_equal(
            pair.primary()["cam"].values[k], frame_of(code_of((k, 0)), (3, 4))
        )


def fly_blocks(lab: SimpleNamespace, blocks: list[tuple[Any, int]], streams: Any = None) -> Any:
    cameras = list({id(camera): camera for camera, _ in blocks}.values())

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator()
    def plan() -> Any:
        declared = set()
        yield from bps.checkpoint()
        for camera, number in blocks:
            stream = (streams or {}).get(camera.name, "primary")
            if stream != "primary" and camera not in declared:
                yield from place(stream, 0)
            yield from bps.prepare(camera, TriggerInfo(number_of_events=number), wait=True)
            if camera not in declared:
                yield from bps.declare_stream(camera, name=stream, collect=True)
                declared.add(camera)
            yield from bps.kickoff(camera, wait=True)
            yield from bps.complete(camera, wait=True)
            yield from bps.collect(camera, name=stream)

    return plan()


def test_flown_blocks_of_one_event_follow_each_other(pair: SimpleNamespace) -> None:
    pair.RE(fly_blocks(pair, [(pair.cam, 1)] * 3))
    assert pair.primary()["cam_written"].values.tolist() == [1, 1, 1]


def test_each_camera_flies_in_blocks_of_its_own(
    pair: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    blocks = [(pair.cam, 4), (pair.slow, 6), (pair.cam, 4)]
    pair.RE(fly_blocks(pair, blocks, {"slow": "other"}))
    tree = bz.open(pair.storage.last_path)
    assert tree["primary"].to_dataset()["cam_written"].values.tolist() == [1] * 8
    assert tree["other"].to_dataset()["slow_written"].values.tolist() == [1] * 6


def test_cameras_of_different_pasts_fly_together(pair: SimpleNamespace) -> None:
    cameras = [pair.cam, pair.slow]

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator()
    def plan() -> Any:
        for _ in range(3):
            yield from bps.checkpoint()
            yield from bps.trigger_and_read([pair.cam])
        for camera in cameras:
            yield from place("flown", 0)
            yield from bps.prepare(camera, TriggerInfo(number_of_events=4), wait=True)
        yield from bps.declare_stream(*cameras, name="flown", collect=True)
        yield from bps.kickoff_all(*cameras, wait=True)
        yield from bps.collect_while_completing(cameras, cameras, flush_period=0.05)

    pair.RE(plan())
    tree = bz.open(pair.storage.last_path)
    assert tree["primary"].to_dataset()["cam_written"].values.tolist() == [1, 1, 1]
    for camera in cameras:
        written = tree["flown"].to_dataset()[f"{camera.name}_written"]
        assert written.values.tolist() == [1, 1, 1, 1]


def test_a_camera_steps_while_another_flies(pair: SimpleNamespace) -> None:
    @bpp.stage_decorator([pair.cam, pair.slow])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.checkpoint()
        yield from place("flown", 0)
        yield from bps.prepare(pair.slow, TriggerInfo(number_of_events=6), wait=True)
        yield from bps.declare_stream(pair.slow, name="flown", collect=True)
        yield from bps.kickoff(pair.slow, wait=True)
        for k in range(3):
            yield from bps.checkpoint()
            yield from bps.mv(pair.a, k)
            yield from bps.trigger_and_read([pair.cam])
        yield from bps.complete(pair.slow, wait=True)
        yield from bps.collect(pair.slow, name="flown")

    pair.RE(plan())
    tree = bz.open(pair.storage.last_path)
    for k in range(3):
        np.testing.assert_array_equal(
            tree["primary"]["cam"].values[k], frame_of(code_of((k, 0)), (3, 4))
        )
    assert tree["flown"].to_dataset()["slow_written"].values.tolist() == [1] * 6


def test_a_pause_while_two_cameras_fly(pair: SimpleNamespace, docs: list[tuple[str, Any]]) -> None:
    pair.cam.exposure = 0.01
    cameras = [pair.cam, pair.slow]

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator()
    def plan() -> Any:
        for row in range(2):
            yield from bps.checkpoint()
            for camera in cameras:
                yield from bps.prepare(camera, TriggerInfo(number_of_events=5), wait=True)
            if row == 0:
                yield from bps.declare_stream(*cameras, name="primary", collect=True)
            yield from bps.kickoff_all(*cameras, wait=True)
            yield from bps.collect_while_completing(cameras, cameras, flush_period=0.05)

    def pause(msg: Msg) -> None:
        if msg.command == "complete" and not paused:
            paused.append(True)
            pair.RE.loop.call_later(
                0.12, lambda: pair.RE.loop.create_task(pair.RE._request_pause_coro(False))
            )

    paused: list[bool] = []
    pair.RE.msg_hook = pause
    assert run_through(pair.RE, plan()) == 1
    data = pair.primary()
    first = code_of((0, 0))
    for camera, shape in (("cam", (3, 4)), ("slow", (5, 6))):
        for k in range(10):
            np.testing.assert_array_equal(
                data[camera].values[k], frame_of(first + k % 5, shape), err_msg=f"{camera} {k}"
            )
    assert docs[-1][1]["exit_status"] == "success"


def test_frames_of_a_dropped_event_stay_until_their_point_is_taken_again(
    lab: SimpleNamespace,
) -> None:
    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        for attempt in range(3):
            yield from bps.checkpoint()
            yield from bps.mv(lab.a, attempt)
            yield from bps.trigger(lab.cam, wait=True)
            yield from bps.create("primary")
            yield from bps.read(lab.cam)
            yield from (bps.drop() if attempt == 1 else bps.save())

    lab.RE(plan())
    data = lab.primary()
    assert data["cam_written"].values.tolist() == [1, 2]
    np.testing.assert_array_equal(data["cam"].values[1], frame_of(code_of((2, 0)), (3, 4)))


def test_a_point_that_is_given_up_does_not_shift_the_others(lab: SimpleNamespace) -> None:
    def per_step(detectors: Any, step: Any, pos_cache: Any) -> Any:
        if step[lab.a] == 3:
            lab.cam.wrong = np.zeros((9, 9), "uint32")
        try:
            yield from bps.one_nd_step(detectors, step, pos_cache)
        except FailedStatus:
            yield from bps.null()

    with pytest.raises(bz.PlacementError, match="Point 3 of this scan should be at a = 3"):
        lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 4, 5), per_step=per_step))
    assert lab.primary()["cam_written"].values.tolist() == [1, 1, 1, 0, 0]


def test_a_refusal_takes_back_no_earlier_frame(lab: SimpleNamespace) -> None:
    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.checkpoint()
        yield from bps.trigger_and_read([lab.cam])
        yield from bps.trigger_and_read([lab.cam])
        lab.cam.exposure = 0.3
        yield from bps.trigger(lab.cam)
        yield from bps.create("dark")
        yield from bps.read(lab.cam)
        yield from bps.save()

    with pytest.raises(bz.PlacementError):
        lab.RE(plan())
    assert lab.primary()["cam_written"].values.tolist()[:2] == [1, 1]


def test_a_pause_in_a_row_whose_checkpoint_is_behind_its_prepare(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    lab.cam.exposure = 0.1

    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.prepare(lab.cam, TriggerInfo(number_of_events=3), wait=True)
        yield from bps.declare_stream(lab.cam, name="primary", collect=True)
        yield from bps.checkpoint()
        yield from bps.kickoff(lab.cam, wait=True)
        yield from bps.complete(lab.cam, wait=True)
        yield from bps.collect(lab.cam, name="primary")

    def pause(msg: Msg) -> None:
        if msg.command == "complete" and not paused:
            paused.append(True)
            lab.RE.loop.call_later(
                0.15, lambda: lab.RE.loop.create_task(lab.RE._request_pause_coro(False))
            )

    paused: list[bool] = []
    lab.RE.msg_hook = pause
    assert run_through(lab.RE, plan()) == 1
    data = lab.primary()
    assert data["cam_written"].values.tolist() == [2, 1, 1]
    first = code_of((0, 0))
    assert data["cam"].values[:, 0, 0].tolist() == [first, first + 1, first + 2]
    datums = [doc["indices"] for name, doc in docs if name == "stream_datum"]
    assert datums == [{"start": 0, "stop": 3}]
