"""nested_scan(fly=True): each line is one flight, and every frame is at its position."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import zarr
from bluesky.run_engine import RunEngine
from bluesky.utils import Msg, RunEngineInterrupted
from event_model import DocumentNames, schema_validators
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import Concat, Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from bluesky_zarr.store import validate
from tests.fakes import Diode, PositionCamera, code_of, frame_of, instant_motor
from tests.pausing import messages_of, pausing, run_through

SHAPE = (3, 4)


class Flyer(SimMotor):
    """A motor that notes how it was flown, and takes no time for it."""

    def __init__(self, **kwargs: Any) -> None:
        self.flights: list[tuple[float, float, float]] = []
        super().__init__(**kwargs)

    def prepare(self, value: Any) -> Any:
        self.flights.append((value.start_position, value.end_position, value.time_for_move))
        return self.set(value.start_position)

    def kickoff(self) -> Any:
        return self.set(self.flights[-1][1])

    def complete(self) -> Any:
        return self.set(self.flights[-1][1])


@pytest.fixture
def lab(RE: RunEngine, storage: bz.Storage) -> SimpleNamespace:
    with init_devices():
        y, x = instant_motor("y"), Flyer(instant=True)
        cam = PositionCamera([y], SHAPE, name="cam")
        other = PositionCamera([y], SHAPE, offset=1000, name="other")
        diode = Diode([y], lambda y: y)
    storage.attach(RE)
    storage.inject(cam, other)
    return SimpleNamespace(
        RE=RE, storage=storage, y=y, x=x, cam=cam, other=other, diode=diode, cams=[cam, other]
    )


def stored_frames(camera: PositionCamera) -> list[np.ndarray]:
    """The frames of a camera that were not refused; more as they come."""
    frames: list[np.ndarray] = []
    deliver = camera.source.deliver

    def noted(frame: np.ndarray) -> None:
        deliver(frame)
        frames.append(frame)

    camera.source.deliver = noted
    return frames


def snaked(lab: SimpleNamespace, **options: Any) -> Any:
    spec = Linspace(lab.y, 0, 2, 3) * ~Linspace(lab.x, 10, 14, 5)
    return nested_scan(lab.cams, spec, fly=True, exposure=0.01, **options)


def check(lab: SimpleNamespace) -> None:
    data = bz.open(lab.storage.last_path)["primary"].to_dataset()
    assert bz.open(lab.storage.last_path).attrs["status"] == "complete"
    assert data["x"].values.tolist() == [10, 11, 12, 13, 14]
    for row in range(3):
        for column in range(5):
            number = 4 - column if row == 1 else column  # the second line goes back
            for name, offset in ("cam", 0), ("other", 1000):
                expected = frame_of(code_of([row]) + number, SHAPE, offset)
                np.testing.assert_array_equal(data[name].values[row, column], expected)
    assert (data["cam_written"].values >= 1).all()
    assert data["seq_num"].values[1].tolist() == [10, 9, 8, 7, 6]


def test_frames_of_flown_lines_are_where_they_belong(lab: SimpleNamespace) -> None:
    docs: list[tuple[str, Any]] = []
    lab.RE(snaked(lab), lambda name, doc: docs.append((name, doc)))
    check(lab)
    assert validate(lab.storage.last_path, deep=True)
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(doc)
    datums = [doc for name, doc in docs if name == "stream_datum"]
    assert sum(d["indices"]["stop"] - d["indices"]["start"] for d in datums) == 2 * 15


def test_each_exposure_is_centred_on_its_position(lab: SimpleNamespace) -> None:
    lab.RE(snaked(lab))
    forth, back = (9.5, 14.5, 0.05), (14.5, 9.5, 0.05)
    assert lab.x.flights == [forth, back, forth]


def test_a_line_is_one_prepare_and_one_kickoff(lab: SimpleNamespace) -> None:
    commands: list[tuple[str, str]] = []
    lab.RE.msg_hook = lambda msg: commands.append((msg.command, getattr(msg.obj, "name", "")))
    lab.RE(snaked(lab))
    for command in ("prepare", "kickoff", "complete"):
        assert [name for c, name in commands if c == command].count("cam") == 3
    assert [c for c, _ in commands].count("trigger") == 0


def test_a_flown_line_alone_is_a_scan(lab: SimpleNamespace) -> None:
    lab.RE(nested_scan([lab.cam], Linspace(lab.x, 0, 1, 4), fly=True, exposure=0.01))
    data = bz.open(lab.storage.last_path)["primary"].to_dataset()
    assert data["cam_written"].values.tolist() == [1, 1, 1, 1]


# The number of the message that is in the second line: one for each device, or one for all.
@pytest.mark.parametrize(
    ("command", "number"), [("prepare", 5), ("kickoff", 5), ("complete", 5), ("collect", 2)]
)
def test_a_pause_in_a_flown_line_repeats_it(
    lab: SimpleNamespace, command: str, number: int
) -> None:
    seen: list[str] = []

    def pausing(plan: Any) -> Any:
        reply = None
        while True:
            try:
                msg = plan.send(reply)
            except StopIteration:
                return
            seen.append(msg.command)
            if msg.command == command and seen.count(command) == number:
                yield Msg("pause", None, defer=False)
            reply = yield msg

    with pytest.raises(RunEngineInterrupted):
        lab.RE(pausing(snaked(lab)))
    lab.RE.resume()
    check(lab)


def test_a_pause_before_any_message_of_a_flown_scan(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    def plan() -> Any:
        spec = Linspace(lab.y, 0, 1, 2) * ~Linspace(lab.x, 10, 14, 5)
        return nested_scan(lab.cams, spec, fly=True, exposure=0.01)

    stored = {cam.name: stored_frames(cam) for cam in lab.cams}
    total, opened = messages_of(lab, plan())
    target: list[set[int]] = [set()]
    lab.RE.preprocessors.append(lambda plan: pausing(plan, target[0], [0]))
    for n in range(opened + 1, total):
        docs.clear()
        target[0] = {n}
        for frames in stored.values():
            frames.clear()
        assert run_through(lab.RE, plan()) == 1, n
        path = lab.storage.last_path
        data = bz.open(path)["primary"].to_dataset()
        assert bz.open(path).attrs["status"] == "complete"
        assert zarr.open_array(path, path="primary/cam").chunks == (1, 5, *SHAPE)
        for cam, offset in ((lab.cam, 0), (lab.other, 1000)):
            for row, numbers in enumerate(([0, 1, 2, 3, 4], [4, 3, 2, 1, 0])):
                expected = [code_of([row]) + number + offset for number in numbers]
                assert data[cam.name].values[row, :, 0, 0].tolist() == expected, n
            written = data[f"{cam.name}_written"].values
            assert (written >= 1).all()
            assert written.sum() == len(stored[cam.name]), n
        resources = {d["uid"] for name, d in docs if name == "stream_resource"}
        assert len(resources) == 2
        cells = {
            (d["stream_resource"], k)
            for name, d in docs
            if name == "stream_datum"
            for k in range(d["indices"]["start"], d["indices"]["stop"])
        }
        assert cells == {(uid, k) for uid in resources for k in range(10)}


@pytest.mark.parametrize("end", ["resume", "abort", "stop", "halt"])
def test_a_line_that_is_interrupted_keeps_exactly_what_was_measured(
    lab: SimpleNamespace, end: str
) -> None:
    stored = {cam.name: stored_frames(cam) for cam in lab.cams}
    for cam in lab.cams:
        cam.exposure = 0.005
    asked: list[bool] = []

    def pause(msg: Msg) -> None:
        if msg.command == "complete" and not asked:
            asked.append(True)
            lab.RE.loop.call_later(
                0.1, lambda: lab.RE.loop.create_task(lab.RE._request_pause_coro(False))
            )

    lab.RE.msg_hook = pause
    plan = nested_scan(lab.cams, Linspace(lab.x, 0, 59, 60), fly=True, exposure=0.005)
    with pytest.raises(RunEngineInterrupted):
        lab.RE(plan)
    assert 0 < len(stored["cam"]) < 60
    getattr(lab.RE, end)()
    lab.RE.msg_hook = None
    assert validate(lab.storage.last_path, deep=True)
    data = bz.open(lab.storage.last_path)["primary"].to_dataset()
    for cam, offset in ((lab.cam, 0), (lab.other, 1000)):
        written = data[f"{cam.name}_written"].values
        taken = sum(written > 0)
        assert written.sum() == len(stored[cam.name])
        assert written.tolist() == sorted(written, reverse=True)
        assert taken == 60 if end == "resume" else taken < 60
        codes = data[cam.name].values[:, 0, 0].tolist()
        assert codes == [1 + offset + k if k < taken else 0 for k in range(60)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"exposure": None}, r"exposure=None: a flown line needs the seconds for each point"),
        ({"exposure": 0}, r"exposure=0: a flown line needs"),
        ({"detectors": []}, r"needs a detector that takes frames by itself"),
        ({"detectors": "diode"}, r"The detector 'diode' cannot be flown.*fly=False"),
        ({"spec": "list"}, r"The positions of 'x' are not evenly spaced.*fly=False"),
        ({"spec": "one"}, r"The innermost dim 'x' has 1 points.*fly=False"),
        ({"per_step": print}, r"per_step is the plan of one point"),
        ({"fly": False}, r"exposure=0.1 is that of flown lines: give fly=True"),
    ],
)
def test_what_cannot_be_flown_is_said_before_anything_moves(
    lab: SimpleNamespace, change: dict[str, Any], words: str
) -> None:
    specs = {
        "line": Linspace(lab.x, 0, 1, 4),
        "list": Concat(Linspace(lab.x, 0, 1, 3), Linspace(lab.x, 5, 6, 3)),
        "one": Linspace(lab.x, 0, 0, 1),
    }
    options = {"fly": True, "exposure": 0.1, "spec": "line", "detectors": [lab.cam]} | change
    detectors, spec = options.pop("detectors"), specs[options.pop("spec")]
    detectors = [lab.diode] if detectors == "diode" else detectors
    with pytest.raises(ValueError, match=words):
        lab.RE(nested_scan(detectors, spec, **options))
    assert lab.x.flights == []


def test_a_motor_that_cannot_fly_is_named(lab: SimpleNamespace) -> None:
    class Stepper:
        name, parent = "stepper", None

        def set(self, value: float) -> None: ...

        def read(self) -> dict[str, Any]:
            return {}

        def describe(self) -> dict[str, Any]:
            return {}

    with pytest.raises(ValueError, match=r"The motor 'stepper' cannot be flown.*fly=False"):
        lab.RE(
            nested_scan(
                [lab.cam], Linspace("stepper", 0, 1, 3), motors=[Stepper()], fly=True, exposure=1
            )
        )
