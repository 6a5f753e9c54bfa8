"""Rows that a plan of one's own flies: where frames go, when they can be read, and who says so."""

from __future__ import annotations

import asyncio
import functools
import threading
from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.preprocessors as bpp
import numpy as np
import pytest
import zarr
from bluesky.run_engine import RunEngine
from ophyd_async.core import (
    DetectorAcquireLogic,
    DetectorTrigger,
    DetectorTriggerLogic,
    TriggerInfo,
    init_devices,
)
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.devices import FrameFormat, FrameSource, WritableDevice, _binding
from bluesky_zarr.plans import declare_geometry, nested_scan
from bluesky_zarr.store import ZarrWriter, validate
from tests.fakes import instant_motor

SMALL, LARGE = (3, 4), (512, 512)


class Frames(FrameSource):
    """Frame n is full of n, from 1; `many` at a time, one every `period` seconds."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = self.given = shape
        self.count = self.extra = 0
        self.many = 1
        self.period = 0.0
        self.refused: list[Exception] = []

    async def frame_format(self) -> FrameFormat:
        return FrameFormat(self.shape, "uint16")

    def give(self, number: int) -> None:
        frames = np.empty((number, *self.given), "uint16")
        for frame in frames:
            self.count += 1
            frame[...] = self.count
        try:
            if number > 1:
                self.deliver_many(frames)
            else:
                self.deliver(frames[0])
        except (RuntimeError, ValueError) as error:
            self.refused.append(error)


class Trigger(DetectorTriggerLogic):
    number = 1

    async def prepare_internal(self, num: int, livetime: float, deadtime: float) -> None:
        self.number = num

    async def prepare_edge(self, num: int, livetime: float) -> None:
        self.number = 0  # the pulses are the test's


class Acquire(DetectorAcquireLogic):
    def __init__(self, frames: Frames, trigger: Trigger) -> None:
        self.frames, self.trigger = frames, trigger
        self.stopped = threading.Event()
        self.thread: threading.Thread | None = None

    async def start_acquiring(self) -> None:
        self.stopped.clear()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self) -> None:
        number = self.trigger.number and self.trigger.number + self.frames.extra
        while number > 0 and not self.stopped.wait(self.frames.period):
            part = min(self.frames.many, number)
            self.frames.give(part)
            number -= part

    async def wait_for_idle(self) -> None:
        await asyncio.to_thread(self._join)

    async def ensure_stopped(self) -> None:
        self.stopped.set()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        if self.thread is not None:
            self.thread.join()


class Camera(WritableDevice):
    """A camera with a thread of its own, as a driver has."""

    def __init__(self, shape: tuple[int, ...], name: str = "") -> None:
        self.frames, trigger = Frames(shape), Trigger()
        self.add_detector_logics(trigger, Acquire(self.frames, trigger))
        self.add_frame_source(self.frames, scalars=())
        super().__init__(name=name)


@pytest.fixture
def lab(RE: RunEngine, storage: bz.Storage) -> SimpleNamespace:
    with init_devices():
        small, large = Camera(SMALL, name="small"), Camera(LARGE, name="large")
        y, x = instant_motor("y"), instant_motor("x")
    storage.attach(RE)
    storage.inject(small, large)
    return SimpleNamespace(RE=RE, storage=storage, small=small, large=large, y=y, x=x)


def fly(cameras: list[Camera], rows: list[int], md: dict[str, Any] | None = None) -> Any:
    """Rows of so many frames each, all cameras together, into stream primary."""

    @bpp.stage_decorator(cameras)
    @bpp.run_decorator(md=md or {})
    def plan() -> Any:
        for row, number in enumerate(rows):
            yield from bps.checkpoint()
            for camera in cameras:
                yield from bps.prepare(camera, TriggerInfo(number_of_events=number), wait=True)
            if row == 0:
                yield from bps.declare_stream(*cameras, name="primary", collect=True)
            yield from bps.kickoff_all(*cameras, wait=True)
            yield from bps.collect_while_completing(cameras, cameras, flush_period=0.1)

    return plan()


def primary(lab: SimpleNamespace) -> Any:
    return bz.open(lab.storage.last_path)["primary"].to_dataset()


def array_of(lab: SimpleNamespace, camera: Camera) -> Any:
    return zarr.open_array(lab.storage.last_path, path=f"primary/{camera.name}", mode="r")


def announced(docs: list[tuple[str, Any]], camera: Camera) -> list[range]:
    """The positions that documents announced, document by document."""
    uids = {
        doc["uid"]
        for name, doc in docs
        if name == "stream_resource" and doc["data_key"] == camera.name
    }
    return [
        range(doc["indices"]["start"], doc["indices"]["stop"])
        for name, doc in docs
        if name == "stream_datum" and doc["stream_resource"] in uids
    ]


def test_a_frame_can_be_read_when_its_document_comes(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    # The small frames take more than a second, after which a group is stored as far as it goes.
    lab.small.frames.period = lab.large.frames.period = 0.05
    cameras = {"small": lab.small, "large": lab.large}
    resources: dict[str, Any] = {}
    seen = []

    def read(name: str, doc: Any) -> None:
        if name == "stream_resource":
            resources[doc["uid"]] = doc
        elif name == "stream_datum":
            resource = resources[doc["stream_resource"]]
            array = zarr.open_array(resource["uri"].removeprefix("file://localhost"), mode="r")
            for k in range(doc["indices"]["start"], doc["indices"]["stop"]):
                seen.append((resource["data_key"], k, int(array[k].min()), int(array[k].max())))

    lab.RE.subscribe(read)
    lab.RE(fly(list(cameras.values()), [40]))
    assert sorted(seen) == sorted((c, k, k + 1, k + 1) for c in cameras for k in range(40))
    for camera in cameras.values():
        assert len(announced(docs, camera)) > 1, "nothing came before the line's end"


def test_documents_of_large_frames_come_while_a_line_runs(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    lab.large.frames.period = 0.02
    lab.RE(fly([lab.large], [40]))
    ranges = announced(docs, lab.large)
    assert len(ranges) > 3
    assert [k for part in ranges for k in part] == list(range(40))


def test_cameras_that_fly_together_are_announced_in_step(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    lab.large.frames.period = 0.01
    lab.RE(fly([lab.small, lab.large], [15, 15]))
    assert announced(docs, lab.small) == announced(docs, lab.large)
    data = primary(lab)
    for camera in ("small", "large"):
        assert data[f"{camera}_written"].values.tolist() == [1] * 30
        assert data[camera].values[:, 0, 0].tolist() == list(range(1, 31))


@pytest.mark.parametrize("many", [1, 2, 5, 100])
def test_a_whole_scan_flown_in_one_go_is_cut_into_its_rows(
    lab: SimpleNamespace, docs: list[tuple[str, Any]], many: int
) -> None:
    lab.small.frames.many = many
    spec = Linspace(lab.y, 0, 2, 3) * ~Linspace(lab.x, 0, 3, 4)
    lab.RE(fly([lab.small, lab.large], [12], {"scanspec": spec.serialize()}))
    data = primary(lab)
    order = [[1, 2, 3, 4], [8, 7, 6, 5], [9, 10, 11, 12]]
    for camera in ("small", "large"):
        assert data[camera].values[:, :, 0, 0].tolist() == order
        assert data[f"{camera}_written"].values.tolist() == [[1] * 4] * 3
    assert data["seq_num"].values.tolist() == order
    cells = [cell for part in announced(docs, lab.small) for cell in part]
    assert sorted(cells) == list(range(12))
    assert validate(lab.storage.last_path, deep=True)


def test_three_dims_of_which_two_turn_round(lab: SimpleNamespace) -> None:
    spec = Linspace("z", 0, 1, 2) * ~Linspace(lab.y, 0, 1, 2) * ~Linspace(lab.x, 0, 2, 3)
    lab.small.frames.many = 6
    lab.RE(fly([lab.small], [6, 6], {"scanspec": spec.serialize()}))
    assert primary(lab)["small"].values[..., 0, 0].tolist() == [
        [[1, 2, 3], [6, 5, 4]],
        [[12, 11, 10], [7, 8, 9]],  # the second time y begins where it ended
    ]


def test_a_declared_stream_is_flown_while_the_primary_one_goes_on(lab: SimpleNamespace) -> None:
    from bluesky_zarr.geometry import ScanGeometry
    from bluesky_zarr.plans import place

    geometry = ScanGeometry.from_spec(Linspace("x", 0, 1, 4))

    @bpp.stage_decorator([lab.small, lab.large])
    @bpp.run_decorator()
    def plan() -> Any:
        yield from declare_geometry("map", geometry)
        yield from place("map", 0)
        yield from bps.prepare(lab.small, TriggerInfo(number_of_events=4), wait=True)
        yield from bps.declare_stream(lab.small, name="map", collect=True)
        yield from bps.kickoff(lab.small, wait=True)
        for _ in range(6):  # further than the map has points
            yield from bps.trigger_and_read([lab.large])
        yield from bps.complete(lab.small, wait=True)
        yield from bps.collect(lab.small, name="map")

    lab.RE(plan())
    stored = bz.open(lab.storage.last_path)["map"].to_dataset()
    assert stored["small"].values[:, 0, 0].tolist() == [1, 2, 3, 4]
    assert stored["seq_num"].values.tolist() == [1, 2, 3, 4]


def test_frames_of_a_row_share_a_chunk_and_those_of_a_step_scan_do_not(
    lab: SimpleNamespace,
) -> None:
    lab.RE(fly([lab.small, lab.large], [20], {"scanspec": Linspace("x", 0, 1, 20).serialize()}))
    assert array_of(lab, lab.small).chunks == (20, *SMALL)
    assert array_of(lab, lab.large).chunks == (1, *LARGE)
    lab.RE(nested_scan([lab.small], Linspace(lab.x, 0, 1, 20)))
    assert array_of(lab, lab.small).chunks == (1, *SMALL)


def test_short_rows_of_a_long_stream_do_not_store_their_group_again_and_again(
    lab: SimpleNamespace,
) -> None:
    lab.RE(fly([lab.small], [2] * 5))
    assert array_of(lab, lab.small).chunks == (1, *SMALL)
    assert primary(lab)["small_written"].values.tolist() == [1] * 10


@pytest.mark.parametrize("many", [1, 7])
def test_the_end_of_a_row_waits_for_no_further_frames(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, many: int
) -> None:
    never = functools.partial(ZarrWriter, group_seconds=3600)
    monkeypatch.setattr(_binding, "ZarrWriter", never)
    lab.small.frames.many = many
    lab.small.frames.period = 0.001
    lab.RE(fly([lab.small], [300, 450]))  # no whole number of groups
    assert primary(lab)["small"].values[:, 0, 0].tolist() == list(range(1, 751))


def test_parts_of_a_row_that_pulses_trigger_can_be_read_one_after_the_other(
    lab: SimpleNamespace, docs: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    never = functools.partial(ZarrWriter, group_seconds=3600)
    monkeypatch.setattr(_binding, "ZarrWriter", never)
    cam = lab.small

    @bpp.stage_decorator([cam])
    @bpp.run_decorator(md={"scanspec": Linspace("x", 0, 1, 6).serialize()})
    def plan() -> Any:
        info = TriggerInfo(number_of_events=6, trigger=DetectorTrigger.EXTERNAL_EDGE)
        yield from bps.prepare(cam, info, wait=True)
        yield from bps.declare_stream(cam, name="primary", collect=True)
        for first in (True, False):
            yield from bps.abs_set(cam.events_to_kickoff, 3, wait=True)
            yield from bps.kickoff(cam, wait=True)
            if first:
                yield from bps.complete(cam, group="part")
                cam.frames.give(3)
            else:
                for _ in range(3):
                    cam.frames.give(1)
                yield from bps.complete(cam, group="part")
            yield from bps.wait("part")
            yield from bps.collect(cam, name="primary")

    lab.RE(plan())
    assert announced(docs, cam) == [range(3), range(3, 6)]
    assert primary(lab)["small"].values[:, 0, 0].tolist() == [1, 2, 3, 4, 5, 6]


def test_more_frames_than_a_row_was_prepared_for_are_refused(lab: SimpleNamespace) -> None:
    lab.small.frames.extra = 2
    spec = Linspace(lab.y, 0, 1, 2) * Linspace(lab.x, 0, 3, 4)
    lab.RE(fly([lab.small], [4, 4], {"scanspec": spec.serialize()}))
    data = primary(lab)
    assert data["small"].values[:, :, 0, 0].tolist() == [[1, 2, 3, 4], [7, 8, 9, 10]]
    assert data["small_written"].values.tolist() == [[1] * 4] * 2
    assert [str(error)[:40] for error in lab.small.frames.refused] == [
        "'small' delivered a frame that nobody as"
    ] * 4


def test_frames_delivered_together_are_refused_together(lab: SimpleNamespace) -> None:
    lab.small.frames.extra, lab.small.frames.many = 2, 4
    lab.RE(fly([lab.small], [8], {"scanspec": Linspace("x", 0, 1, 8).serialize()}))
    assert "delivered 2 frames that nobody asked for" in str(lab.small.frames.refused[0])
    assert primary(lab)["small_written"].values.tolist() == [1] * 8


def test_frames_delivered_together_have_to_be_what_was_promised(lab: SimpleNamespace) -> None:
    lab.small.frames.many, lab.small.frames.given = 4, (9, 9)
    with pytest.raises(Exception, match=r"has shape \(9, 9\), expected \(3, 4\)"):
        lab.RE(fly([lab.small], [4]))
    assert primary(lab)["small"].shape[0] == 0
