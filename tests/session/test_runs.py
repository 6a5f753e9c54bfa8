"""Runs in unusual company: nested, two in a stage, baselines, second streams, no run at all."""

from __future__ import annotations

import asyncio
import pickle
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg
from ophyd_async.core import TriggerInfo, init_devices
from ophyd_async.sim import SimBlobDetector
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr import Storage
from bluesky_zarr.devices import FunctionCamera
from bluesky_zarr.plans import nested_scan, place
from bluesky_zarr.store import publish
from tests.fakes import PositionCamera, code_of, frame_of, instant_motor


def stores(storage: Storage) -> list[Any]:
    return [bz.open(path) for path in sorted(storage.base.glob("*.zarr"))]


def test_nested_runs_have_a_store_each(lab: SimpleNamespace) -> None:
    @bpp.set_run_key_decorator("inner")
    @bpp.run_decorator(md={"plan_name": "inner"})
    def inner() -> Any:
        for position in (5, 6):
            yield from bps.checkpoint()
            yield from bps.mv(lab.b, position)
            yield from bps.trigger_and_read([lab.cam, lab.b])

    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator(md={"plan_name": "outer"})
    def outer() -> Any:
        for position in (1, 2, 3):
            yield from bps.checkpoint()
            yield from bps.mv(lab.a, position, lab.b, 0)
            yield from bps.trigger_and_read([lab.cam, lab.a])
            if position == 2:
                yield from inner()

    lab.RE(outer())
    first, second = stores(lab.storage)
    assert [t.attrs["plan_name"] for t in (first, second)] == ["outer", "inner"]
    assert [t.attrs["status"] for t in (first, second)] == ["complete", "complete"]
    for k, position in enumerate((1, 2, 3)):
        np.testing.assert_array_equal(
            first["primary"]["cam"].values[k], frame_of(code_of((position, 0)), (3, 4))
        )
    for k, position in enumerate((5, 6)):
        np.testing.assert_array_equal(
            second["primary"]["cam"].values[k], frame_of(code_of((2, position)), (3, 4))
        )


def test_two_runs_in_one_stage_have_a_store_each(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    @bpp.stage_decorator([lab.cam])
    def twice() -> Any:
        for a in (1, 2):

            @bpp.run_decorator()
            def one_run(a: int = a) -> Any:
                for b in (0, 1):
                    yield from bps.checkpoint()
                    yield from bps.mv(lab.a, a, lab.b, b)
                    yield from bps.trigger_and_read([lab.cam])

            yield from one_run()

    lab.RE(twice())
    for tree, a in zip(stores(lab.storage), (1, 2), strict=True):
        for b in (0, 1):
            np.testing.assert_array_equal(
                tree["primary"]["cam"].values[b], frame_of(code_of((a, b)), (3, 4))
            )
    resources = [doc["uid"] for name, doc in docs if name == "stream_resource"]
    assert len(set(resources)) == len(resources) == 2


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_baseline_is_a_stream_of_its_own(
    lab: SimpleNamespace, other_RE: RunEngine, order: str
) -> None:
    storage = Storage(f"file://{lab.storage.base}/baseline")
    baseline = bpp.SupplementalData(baseline=[lab.d, lab.e])
    if order == "before":
        other_RE.preprocessors.append(baseline)
    storage.attach(other_RE)
    if order == "after":
        other_RE.preprocessors.append(baseline)
    storage.inject(lab.cam)
    other_RE(nested_scan([lab.cam], Linspace(lab.a, 0, 2, 3)))
    tree = bz.open(storage.last_path)
    assert tree["baseline"].to_dataset()["d"].dims == ("event",)
    assert tree["baseline"].to_dataset()["d"].shape == (2,)
    for k in range(3):
        np.testing.assert_array_equal(
            tree["primary"]["cam"].values[k], frame_of(code_of((k, 0)), (3, 4))
        )


def test_a_trigger_that_the_session_does_not_see_is_refused(lab: SimpleNamespace) -> None:
    def unseen(plan: Any) -> Any:
        def insert(msg: Msg) -> tuple[Any, Any]:
            if msg.command == "close_run":
                return bpp.pchain(bps.trigger(lab.cam, wait=True), bpp.single_gen(msg)), None
            return None, None

        return bpp.plan_mutator(plan, insert)

    lab.RE.preprocessors.append(unseen)
    with pytest.raises(Exception, match="Nobody said where") as raised:
        lab.RE(bp.count([lab.cam], 2))
    assert "place(stream, index)" in str(raised.value.__cause__ or raised.value)
    data = lab.primary()
    assert data["cam_written"].values.tolist() == [1, 1]


def second_stream(lab: SimpleNamespace, *, placed: bool) -> Any:
    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def plan() -> Any:
        for k in range(3):
            yield from bps.checkpoint()
            yield from bps.mv(lab.a, k)
            yield from bps.trigger_and_read([lab.cam])
            if placed:
                yield from place("dark", k)
            yield from bps.trigger_and_read([lab.cam], name="dark")

    return plan()


def test_a_second_stream_on_one_camera_is_refused_naming_the_stub(lab: SimpleNamespace) -> None:
    with pytest.raises(bz.PlacementError, match=r"place\('dark', index\)"):
        lab.RE(second_stream(lab, placed=False))
    data = lab.primary()
    assert data["cam_written"].values.tolist() == [1]
    assert lab.cam.taken == [code_of((0, 0))] * 2  # taken twice, stored once: nothing misplaced


def test_a_second_stream_that_is_placed_has_a_group_of_its_own(lab: SimpleNamespace) -> None:
    lab.RE(second_stream(lab, placed=True))
    tree = bz.open(lab.storage.last_path)
    for stream in ("primary", "dark"):
        assert tree[stream]["cam"].shape == (3, 3, 4)
        for k in range(3):
            np.testing.assert_array_equal(
                tree[stream]["cam"].values[k], frame_of(code_of((k, 0)), (3, 4))
            )


def test_a_monitored_signal_is_a_stream_of_its_own(lab: SimpleNamespace) -> None:
    @bpp.monitor_during_decorator([lab.d.user_readback])
    @bpp.run_decorator()
    def plan() -> Any:
        for position in (1.0, 2.0, 3.0):
            yield from bps.checkpoint()
            yield from bps.mv(lab.d, position)
            yield from bps.trigger_and_read([lab.a])

    lab.RE(plan())
    tree = bz.open(lab.storage.last_path)
    (stream,) = set(tree.children) - {"primary"}
    assert tree[stream].to_dataset()["d"].values[-1] == 3.0


def test_a_stock_hdf5_detector_beside_our_camera(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    with init_devices():
        blob = SimBlobDetector(lab.storage.ophyd_provider(), name="blob")
    lab.RE(nested_scan([blob, lab.cam], Linspace(lab.a, 0, 2, 3)))
    path = lab.storage.last_path
    files = list(path.parent.glob("*.h5"))
    assert [f.name for f in files] == [f"{path.stem}-blob.h5"]
    for k in range(3):
        np.testing.assert_array_equal(
            bz.open(path)["primary"]["cam"].values[k], frame_of(code_of((k, 0)), (3, 4))
        )
    uris = {doc["data_key"]: doc["uri"] for name, doc in docs if name == "stream_resource"}
    assert uris["blob"].endswith(".h5")
    assert uris["cam"].endswith(f"{path.name}/primary/cam")


def test_prepare_outside_of_a_run_says_so(lab: SimpleNamespace) -> None:
    def plan() -> Any:
        yield from bps.stage(lab.cam)
        yield from bps.prepare(lab.cam, TriggerInfo(), wait=True)

    with pytest.raises(Exception, match="no run is open") as raised:
        lab.RE(plan())
    assert "between open_run and close_run" in str(raised.value.__cause__ or raised.value)


def test_trigger_after_the_run_says_so(lab: SimpleNamespace) -> None:
    @bpp.stage_decorator([lab.cam])
    def plan() -> Any:
        yield from bpp.run_wrapper(bps.trigger_and_read([lab.cam]))
        yield from bps.trigger(lab.cam, wait=True)

    with pytest.raises(Exception, match="no run is open"):
        lab.RE(plan())
    assert bz.open(lab.storage.last_path)["primary"]["cam"].shape[0] == 1


def test_a_device_without_a_provider_says_how_to_inject_one(lab: SimpleNamespace) -> None:
    with init_devices():
        bare = PositionCamera([], name="bare")
    with pytest.raises(Exception, match=r"storage\.inject\(bare\)"):
        lab.RE(bp.count([bare]))


def test_wrap_does_for_one_plan_what_attach_does(RE: RunEngine, tmp_path: Any) -> None:
    storage = Storage(f"file://{tmp_path}")
    with init_devices():
        a, b = instant_motor("a"), instant_motor("b")
        cam = PositionCamera([a, b], name="cam")
    storage.inject(cam)
    RE(storage.wrap(nested_scan([cam], Linspace(a, 0, 1, 2) * ~Linspace(b, 0, 1, 2))))
    tree = bz.open(storage.last_path)
    assert tree.attrs["status"] == "complete"
    np.testing.assert_array_equal(
        tree["primary"]["cam"].values[1, 0], frame_of(code_of((1, 0)), (3, 4))
    )
    storage.attach(RE)  # both at once: still one store a run
    RE(storage.wrap(bp.count([cam], 2)))
    assert len(list(storage.base.glob("*.zarr"))) == 2


def test_a_wrong_frame_fails_its_point_at_once_and_is_not_stored(lab: SimpleNamespace) -> None:
    lab.cam.exposure = 0.01

    def per_step(detectors: Any, step: Any, pos_cache: Any) -> Any:
        if step[lab.a] == 2:
            lab.cam.wrong = np.zeros((9, 9), "uint32")
        yield from bps.one_nd_step(detectors, step, pos_cache)

    with pytest.raises(Exception, match=r"\(9, 9\)"):
        lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 4, 5), per_step=per_step))
    data = lab.primary()
    assert data["cam_written"].values.tolist() == [1, 1, 0, 0, 0]
    lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 4, 5)))  # and the next run works
    data = lab.primary()
    assert (data["cam_written"].values == 1).all()


def test_an_exposure_that_fails_fails_its_point_at_once(lab: SimpleNamespace) -> None:
    def broken() -> np.ndarray:
        raise OSError("the shutter is stuck")

    with init_devices():
        camera = FunctionCamera(broken, (3, 4), "uint16", name="camera")
    lab.storage.inject(camera)
    with pytest.raises(Exception, match="the shutter is stuck"):
        lab.RE(bp.count([camera]))


def test_a_flown_stream_is_stored_in_order(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator()
    def fly() -> Any:
        yield from bps.prepare(lab.cam, TriggerInfo(number_of_events=5), wait=True)
        yield from bps.declare_stream(lab.cam, name="primary", collect=True)
        yield from bps.kickoff(lab.cam, wait=True)
        yield from bps.collect_while_completing([lab.cam], [lab.cam], flush_period=0.05)

    lab.RE(fly())
    data = lab.primary()
    assert data["cam"].shape == (5, 3, 4)
    for k in range(5):
        np.testing.assert_array_equal(data["cam"].values[k], frame_of(code_of((0, 0)) + k, (3, 4)))
    assert data["seq_num"].values.tolist() == [1, 2, 3, 4, 5]
    datums = [doc["indices"] for name, doc in docs if name == "stream_datum"]
    assert datums[0]["start"] == 0
    assert datums[-1]["stop"] == 5


def test_flown_rows_that_turn_round_are_where_they_belong(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 3, 4)

    @bpp.stage_decorator([lab.cam])
    @bpp.run_decorator(md={"scanspec": spec.serialize(), "num_points": 8, "motors": ["a", "b"]})
    def fly() -> Any:
        for row in (0, 1):
            yield from bps.checkpoint()
            yield from bps.mv(lab.a, row, lab.b, 3 * row)
            yield from bps.prepare(lab.cam, TriggerInfo(number_of_events=4), wait=True)
            if row == 0:
                yield from bps.declare_stream(lab.cam, name="primary", collect=True)
            yield from bps.kickoff(lab.cam, wait=True)
            yield from bps.complete(lab.cam, wait=True)
            yield from bps.collect(lab.cam, name="primary")

    lab.RE(fly())
    data = lab.primary()
    first, second = code_of((0, 0)), code_of((1, 3))
    codes = data["cam"].values[:, :, 0, 0]
    assert codes.tolist() == [
        [first, first + 1, first + 2, first + 3],
        [second + 3, second + 2, second + 1, second],
    ]
    assert data["seq_num"].values.tolist() == [[1, 2, 3, 4], [8, 7, 6, 5]]


def test_the_path_provider_of_a_run_crosses_a_process_border(lab: SimpleNamespace) -> None:
    seen: list[Any] = []

    def look(name: str, doc: Any) -> None:
        if name == "event" and not seen:
            seen.append(pickle.loads(pickle.dumps(lab.storage.path_provider))("cam"))

    lab.RE.subscribe(look)
    lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2)))
    (info,) = seen
    assert info.store_uri == f"file://{lab.storage.last_path}"
    assert info.array_key == "primary/cam"
    assert info.geometry.shape == (2,)


def test_a_path_that_exists_is_never_handed_out(lab: SimpleNamespace, other_RE: RunEngine) -> None:
    storage = Storage(f"file://{lab.storage.base}/same", naming="always")
    storage.attach(other_RE)
    storage.inject(lab.cam)
    for _ in range(3):
        other_RE(bp.count([lab.cam]))
    assert sorted(p.name for p in storage.base.glob("*.zarr")) == [
        "always.zarr",
        "always~2.zarr",
        "always~3.zarr",
    ]


def test_without_a_session_frames_follow_each_other(RE: RunEngine, tmp_path: Any) -> None:
    with init_devices():
        cam = PositionCamera([], name="cam")
    cam.path_provider = bz.StaticPathProvider(f"file://{tmp_path}/alone.zarr")
    RE(bp.count([cam], 4))
    publish(f"file://{tmp_path}/alone.zarr")
    assert bz.open(tmp_path / "alone.zarr")["cam"].shape == (4, 3, 4)


def test_null_messages_of_others_pass(lab: SimpleNamespace) -> None:
    def plan() -> Any:
        yield Msg("null")
        yield from bpp.run_wrapper(bps.trigger_and_read([lab.cam]))

    lab.RE(bpp.stage_wrapper(plan(), [lab.cam]))
    assert asyncio.iscoroutinefunction(lab.cam.pause)
