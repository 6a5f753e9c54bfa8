"""Every frame is at its position, by value, whatever the plan and however it is snaked."""

from __future__ import annotations

import itertools
import threading
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import numpy as np
import pytest
import zarr
from bluesky.utils import RunEngineInterrupted
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from tests.fakes import PositionCamera, code_of, frame_of, spec_of

SIZES = (3, 2, 2, 3, 2)


def expected_cells(
    shape: tuple[int, ...], camera: PositionCamera, starts: Any = None
) -> np.ndarray:
    starts = starts or [0] * len(shape)
    array = np.zeros(shape + camera.shape, "uint32")
    for cell in np.ndindex(shape):
        positions = [s + i for s, i in zip(starts, cell, strict=True)]
        array[cell] = frame_of(code_of(positions), camera.shape, camera.offset)
    return array


CASES = [
    pytest.param(depth, snaked, id=f"{depth}-" + "".join("~"[: int(s)] or "." for s in snaked))
    for depth in (2, 3, 4, 5)
    for snaked in itertools.product((False, True), repeat=depth)
]


@pytest.mark.parametrize(("depth", "snaked"), CASES)
def test_nested_scan_puts_each_frame_at_its_position(
    lab: SimpleNamespace, depth: int, snaked: tuple[bool, ...]
) -> None:
    motors = lab.motors[:depth]
    with init_devices():
        cam = PositionCamera(motors, (3, 4), name="one")
        second = PositionCamera(motors, (5,), offset=7, name="two")
    lab.storage.inject(cam, second)
    lab.RE(nested_scan([cam, second], spec_of(motors, SIZES, snaked)))

    path = lab.storage.last_path
    for camera in (cam, second):
        raw = zarr.open_array(path / "primary" / camera.name, mode="r")
        np.testing.assert_array_equal(raw[:], expected_cells(SIZES[:depth], camera))
        written = zarr.open_array(path / "primary" / f"{camera.name}_written", mode="r")
        assert (written[:] == 1).all()
    primary = bz.open(path)["primary"]
    assert primary["one"].dims == (*(m.name for m in motors), "one_y", "one_x")
    np.testing.assert_array_equal(primary["one"].values, expected_cells(SIZES[:depth], cam))
    assert primary["two"].dims == (*(m.name for m in motors), "two_x")
    for motor, size in zip(motors, SIZES, strict=False):
        np.testing.assert_array_equal(primary[motor.name].values, np.arange(size))
    corner = {m.name: size - 1 for m, size in zip(motors, SIZES, strict=False)}
    chosen = primary.to_dataset()["one"].sel(corner).values
    np.testing.assert_array_equal(
        chosen, frame_of(code_of([s - 1 for s in SIZES[:depth]]), cam.shape)
    )


STOCK = {
    "count": (lambda p: bp.count([p.cam], 4), (4,), ("event",)),
    "scan": (lambda p: bp.scan([p.cam], p.a, 0, 4, 5), (5,), ("a",)),
    "scan of two": (lambda p: bp.scan([p.cam], p.a, 0, 4, p.b, 0, 4, 5), (5,), ("a_b",)),
    "list_scan": (lambda p: bp.list_scan([p.cam], p.a, [0, 1, 2]), (3,), ("a",)),
    "grid_scan": (
        lambda p: bp.grid_scan([p.cam], p.a, 0, 2, 3, p.b, 0, 3, 4),
        (3, 4),
        ("a", "b"),
    ),
    "grid_scan snaked": (
        lambda p: bp.grid_scan([p.cam], p.a, 0, 2, 3, p.b, 0, 3, 4, snake_axes=True),
        (3, 4),
        ("a", "b"),
    ),
    "list_grid_scan": (
        lambda p: bp.list_grid_scan([p.cam], p.a, [0, 1, 2], p.b, [0, 1]),
        (3, 2),
        ("a", "b"),
    ),
    "list_grid_scan snaked": (
        lambda p: bp.list_grid_scan([p.cam], p.a, [0, 1, 2], p.b, [0, 1], snake_axes=True),
        (3, 2),
        ("a", "b"),
    ),
    "list_grid_scan snaked by name": (
        lambda p: bp.list_grid_scan([p.cam], p.a, [0, 1, 2], p.b, [0, 1], snake_axes=[p.b]),
        (3, 2),
        ("a", "b"),
    ),
}


@pytest.mark.parametrize("name", STOCK)
def test_stock_plans_give_the_same_stores(lab: SimpleNamespace, name: str) -> None:
    plan, shape, dims = STOCK[name]
    lab.RE(plan(lab))
    data = lab.primary()
    assert data["cam"].dims == (*dims, "cam_y", "cam_x")
    assert data["cam"].shape == (*shape, 3, 4)
    for cell in np.ndindex(*shape):
        if dims == ("a", "b"):
            places = cell
        elif dims == ("event",):
            places = (0, 0)
        else:
            places = (cell[0], cell[0] if "b" in data else 0)
        np.testing.assert_array_equal(
            data["cam"].values[cell], frame_of(code_of(places), (3, 4)), err_msg=f"{cell}"
        )
    assert (data["cam_written"].values == 1).all()
    np.testing.assert_array_equal(
        np.sort(data["seq_num"].values.ravel()), np.arange(1, np.prod(shape) + 1)
    )


RELATIVE = {
    "rel_scan": (lambda p: bp.rel_scan([p.cam], p.a, -2, 2, 5), (5,)),
    "rel_list_scan": (lambda p: bp.rel_list_scan([p.cam], p.a, [-1, 0, 3]), (3,)),
    "rel_grid_scan": (
        lambda p: bp.rel_grid_scan([p.cam], p.a, -1, 1, 3, p.b, -3, 0, 4, snake_axes=True),
        (3, 4),
    ),
    "rel_list_grid_scan": (
        lambda p: bp.rel_list_grid_scan([p.cam], p.a, [0, 1], p.b, [-1, 0, 1], snake_axes=True),
        (2, 3),
    ),
}


@pytest.mark.parametrize("name", RELATIVE)
def test_relative_plans_have_coordinates_of_what_was_commanded(
    lab: SimpleNamespace, name: str
) -> None:
    plan, shape = RELATIVE[name]
    lab.RE(bps.mv(lab.a, 10, lab.b, 20))
    lab.RE(plan(lab))
    data = lab.primary()
    assert data["cam"].shape == (*shape, 3, 4)
    for cell in np.ndindex(*shape):
        a = data["a"].values[cell[0]]
        b = data["b"].values[cell[1]] if len(shape) == 2 else 20
        assert 5 < a < 15
        np.testing.assert_array_equal(data["cam"].values[cell], frame_of(code_of((a, b)), (3, 4)))
        assert data["a_readback"].values[cell] == a


def test_two_events_a_point_are_stored_in_order_of_events(lab: SimpleNamespace) -> None:
    def twice(detectors: Any, step: Any, pos_cache: Any) -> Any:
        yield from bps.move_per_step(step, pos_cache)
        yield from bps.trigger_and_read([*detectors, *step])
        yield from bps.trigger_and_read([*detectors, *step])

    lab.RE(bp.grid_scan([lab.cam], lab.a, 0, 1, 2, lab.b, 0, 2, 3, per_step=twice))
    data = lab.primary()
    assert data["cam"].dims == ("event", "cam_y", "cam_x")
    places = [(a, b) for a in (0, 1) for b in (0, 1, 2) for _ in range(2)]
    assert len(data["event"]) == 12
    for k, place in enumerate(places):
        np.testing.assert_array_equal(data["cam"].values[k], frame_of(code_of(place), (3, 4)))
    np.testing.assert_array_equal(data["a"].values, [a for a, _ in places])
    np.testing.assert_array_equal(data["b_readback"].values, [b for _, b in places])


def test_scan_nd_is_stored_in_order_of_events(lab: SimpleNamespace) -> None:
    from cycler import cycler

    trajectory = cycler(lab.a, [3, 1, 2]) * cycler(lab.b, [0, 1])
    lab.RE(bp.scan_nd([lab.cam], trajectory))
    data = lab.primary()
    assert data["cam"].shape == (6, 3, 4)
    np.testing.assert_array_equal(data["a"].values, [3, 3, 1, 1, 2, 2])
    for k in range(6):
        place = data["a"].values[k], data["b"].values[k]
        np.testing.assert_array_equal(data["cam"].values[k], frame_of(code_of(place), (3, 4)))


def test_count_without_a_number_is_trimmed_to_what_was_taken(lab: SimpleNamespace) -> None:
    events = 0

    def stop(name: str, doc: Any) -> None:
        nonlocal events
        events += name == "event"
        if name == "event" and events == 7:
            threading.Thread(target=lab.RE.stop).start()

    lab.RE.subscribe(stop)
    with pytest.raises(RunEngineInterrupted):
        lab.RE(bp.count([lab.cam], None))
    data = lab.primary()
    assert len(data["event"]) >= 7
    assert (data["cam_written"].values == 1).all()
    assert bz.open(lab.storage.last_path).attrs["status"] == "stopped"


def test_a_per_step_of_ours_with_two_events_a_point_is_told_what_to_do(
    lab: SimpleNamespace,
) -> None:
    def twice(detectors: Any, step: Any, pos_cache: Any) -> Any:
        yield from bps.move_per_step(step, pos_cache)
        yield from bps.trigger_and_read([*detectors, *step])
        yield from bps.trigger_and_read([*detectors, *step])

    spec = Linspace(lab.a, 0, 1, 2) * Linspace(lab.b, 0, 2, 3)
    with pytest.raises(bz.PlacementError, match=r"should be at b = 1, but b was last sent to 0"):
        lab.RE(nested_scan([lab.cam], spec, per_step=twice))
    data = lab.primary()
    assert data["cam_written"].values.sum() == 1
    assert bz.open(lab.storage.last_path).attrs["status"] == "failed"
