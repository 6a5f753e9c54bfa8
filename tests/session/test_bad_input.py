"""What cannot work is refused before anything moves, in words that say what to do."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import FailedStatus
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan, place
from tests.fakes import PositionCamera, instant_motor


def reason(error: BaseException) -> str:
    """What a user reads: the RunEngine's FailedStatus, and what is behind it."""
    return f"{error} {error.__cause__ or ''}"


def test_eleven_dims_are_refused(lab: SimpleNamespace) -> None:
    spec: Any = Linspace("m0", 0, 1, 1)
    for i in range(1, 11):
        spec = spec * Linspace(f"m{i}", 0, 1, 1)
    with pytest.raises(ValueError, match="11 nested dims; at most 10"):
        next(nested_scan([lab.cam], spec))


def test_past_three_dims_the_points_are_warned_of(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.a, 0, 1, 2) * Linspace(lab.b, 0, 1, 2)
    spec = spec * Linspace(lab.c, 0, 1, 2) * Linspace(lab.d, 0, 1, 2)
    with pytest.warns(UserWarning, match="4 nested dims"):
        next(nested_scan([lab.cam], spec))


def test_a_motor_twice_is_refused(lab: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="'a'"):
        next(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2) * Linspace(lab.a, 0, 1, 2)))


def test_an_axis_without_a_motor_is_refused(lab: SimpleNamespace) -> None:
    spec = Linspace("elsewhere", 0, 1, 2).serialize()
    with pytest.raises(ValueError, match=r"'elsewhere'.*motors=\[\.\.\.\]"):
        next(nested_scan([lab.cam], spec, motors=[lab.a]))


def test_settling_of_what_does_not_move_is_refused(lab: SimpleNamespace) -> None:
    with pytest.raises(ValueError, match="does not move"):
        next(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2), settle={"b": 1.0}))
    with pytest.raises(ValueError, match="not negative"):
        next(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2), settle={"a": -1.0}))


def test_a_place_without_a_stream_is_refused() -> None:
    with pytest.raises(ValueError, match="name of a stream"):
        next(place("", 0))
    with pytest.raises(ValueError, match="from 0"):
        next(place("dark", -1))


def test_a_detector_that_is_not_connected_is_named(lab: SimpleNamespace) -> None:
    stray = PositionCamera([], name="stray")
    lab.storage.inject(stray)
    with pytest.raises(Exception, match="stray") as raised:
        lab.RE(bp.count([stray]))
    assert "init_devices" in reason(raised.value)


@pytest.mark.parametrize("name", ["../evil", "/abs", "a\\b", "..", "zarr.json"])
def test_a_device_name_that_leaves_the_store_is_refused(lab: SimpleNamespace, name: str) -> None:
    with init_devices():
        camera = PositionCamera([], name="camera")
    camera.set_name(name)
    lab.storage.inject(camera)
    with pytest.raises((ValueError, FailedStatus)) as raised:
        lab.RE(bp.count([camera]))
    assert name.split("/")[-1] in reason(raised.value)
    outside = {p for p in lab.storage.base.parent.rglob("*") if "evil" in p.name}
    assert not outside


@pytest.mark.parametrize("name", ["det.cam", "det/cam"])
def test_a_device_name_that_documents_refuse_is_refused_before_the_first_frame(
    lab: SimpleNamespace, name: str
) -> None:
    lab.cam.set_name(name)
    with pytest.raises((ValueError, FailedStatus)) as raised:
        lab.RE(bp.count([lab.cam]))
    assert "device.set_name('det_cam')" in reason(raised.value)
    assert lab.cam.taken == []


def test_a_wrong_dtype_is_not_wrapped(lab: SimpleNamespace) -> None:
    lab.cam.wrong = np.full((3, 4), 70000.5)
    with pytest.raises(Exception, match="uint32 expected, got float64"):
        lab.RE(bp.count([lab.cam]))


def test_a_store_path_that_exists_is_refused(RE: RunEngine, tmp_path: Path) -> None:
    with init_devices():
        cam = PositionCamera([], name="cam")
    cam.path_provider = bz.StaticPathProvider(f"file://{tmp_path}/one.zarr")
    RE(bp.count([cam], 2))
    with pytest.raises(Exception, match="exists") as raised:
        RE(bp.count([cam], 2))
    assert "cam" in reason(raised.value)


def test_more_frames_than_the_capacity_are_refused(RE: RunEngine, tmp_path: Path) -> None:
    with init_devices():
        cam = PositionCamera([], name="cam")
    cam.path_provider = bz.StaticPathProvider(f"file://{tmp_path}/one.zarr", capacity=2)
    with pytest.raises(Exception, match="capacity of 2"):
        RE(bp.count([cam], 3))


def test_readings_with_names_of_the_store_are_refused(lab: SimpleNamespace) -> None:
    with init_devices():
        time = instant_motor("time")
    with pytest.raises(ValueError, match="rename the device"):
        lab.RE(bp.count([lab.cam, time]))


def test_settle_waits_after_a_motor_moved(lab: SimpleNamespace) -> None:
    slept: list[float] = []
    lab.RE.msg_hook = lambda msg: slept.extend(msg.args) if msg.command == "sleep" else None
    spec = Linspace(lab.a, 0, 1, 2) * Linspace(lab.b, 0, 1, 2)
    lab.RE(nested_scan([lab.cam], spec, settle={"a": 0.01, "b": 0.001}))
    assert slept == [0.01, 0.001, 0.01, 0.001]


def test_a_serialized_spec_is_the_same_scan(lab: SimpleNamespace) -> None:
    spec = (Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 2, 3)).serialize()
    lab.RE(nested_scan([lab.cam], spec, motors=[lab.a, lab.b]))
    assert bz.open(lab.storage.last_path)["primary"]["cam"].shape == (2, 3, 3, 4)
