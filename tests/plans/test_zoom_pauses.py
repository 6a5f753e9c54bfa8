"""A pause in any pass of an adaptive scan changes nothing; an abort keeps what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import Msg, RunEngineInterrupted
from ophyd_async.core import init_devices

import bluesky_zarr as bz
from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import Answer, Approval, Found, Measure, Outcome, zoom_scan
from bluesky_zarr.store import validate
from tests.fakes import Diode, PositionCamera, code_of, frame_of, instant_motor
from tests.pausing import pausing, run_through

PASSES = {"primary": [0, 4, 8], "zoom_1": [3, 5], "zoom_2": [2, 6]}


class Told:
    """Three passes of whole numbers, around one peak."""

    def search(self, field: Any) -> Any:
        peak = Peak(4.0, 2.0, 10.0, prominence=10.0)
        for n, points in enumerate(PASSES.values()):
            measured = yield Measure(np.array(points, float)[:, None])
            assert measured.values.tolist() == [
                10.0 - abs(x - 4) for x in measured.points[:, 0].tolist()
            ]
            if not n:
                assert (yield Found((peak,))) == (peak,)
        return Outcome((peak,))


class Yes(Approval):
    """Says yes after a moment."""

    async def wait(self, question: str) -> Answer:
        return Answer(True, "the user")


@pytest.fixture
def lab(RE: Any, storage: bz.Storage) -> SimpleNamespace:
    with init_devices():
        x = instant_motor("x")
        diode = Diode([x], lambda x: 10 - abs(x - 4))
        cam = PositionCamera([x], name="cam")
    storage.attach(RE)
    storage.inject(cam)
    return SimpleNamespace(RE=RE, storage=storage, x=x, cam=cam, diode=diode)


def scan(lab: SimpleNamespace) -> Any:
    return zoom_scan(
        [lab.diode, lab.cam],
        "diode",
        lab.x,
        0,
        8,
        narrowest=1,
        when="diode > 9 and peak(prominence=5)",
        strategy=Told(),
        approve=Yes(),
        action=["refine", "acquire", "move"],
    )


def check(lab: SimpleNamespace) -> None:
    tree = bz.open(lab.storage.last_path)
    assert tree.attrs["status"] == "complete"
    for stream, points in (PASSES | {"at_peaks": [4]}).items():
        group = tree[stream].to_dataset()
        assert group["x"].values.tolist() == points
        assert group["x_readback"].values.tolist() == points
        assert group["diode"].values.tolist() == [10 - abs(x - 4) for x in points]
        frames = [frame_of(code_of([x]), (3, 4)) for x in points]
        np.testing.assert_array_equal(group["cam"].values, frames)
        assert (group["cam_written"].values >= 1).all()
        assert group["seq_num"].values.tolist() == list(range(1, len(points) + 1))
    assert tree["merged"]["x"].values.tolist() == [0, 2, 3, 4, 5, 6, 8]
    assert tree["decisions"]["fired"].values.tolist() == [
        "diode = 10 > 9 and a peak at 4 (prominence 10, width 2)"
    ]
    assert tree["decisions"]["approved_by"].values.tolist() == ["the user"]
    assert tree["peaks"]["center"].values.tolist() == [4]


def blocks(lab: SimpleNamespace) -> Iterator[tuple[str, range]]:
    """The messages from one checkpoint to the next, with the stream that they write into."""
    messages: list[Msg] = []

    def note(msg: Msg) -> Msg:
        messages.append(msg)
        return msg

    lab.RE(bpp.msg_mutator(scan(lab), note))
    starts = [n for n, msg in enumerate(messages) if msg.command == "checkpoint"]
    for first, last in zip(starts, [*starts[1:], len(messages)], strict=True):
        names = [m.kwargs.get("name") for m in messages[first:last] if m.command == "create"]
        yield (names or ["none"])[0], range(first, last)


# Every message of one pass, and some of all that the others are made of.
@pytest.mark.parametrize(
    ("stream", "every"),
    [
        ("primary", 4),
        ("zoom_1", 1),
        ("zoom_2", 5),
        ("decisions", 2),
        ("peaks", 3),
        ("at_peaks", 3),
        ("none", 1),
    ],
)
def test_a_pause_before_a_message_of_a_pass_changes_nothing(
    lab: SimpleNamespace, stream: str, every: int
) -> None:
    found = [block for name, block in blocks(lab) if name == stream]
    check(lab)
    for n in found[-1][::every]:  # the last point of the pass, and what leads to the next one
        assert run_through(lab.RE, pausing(scan(lab), {n}, [0])) == 1
        check(lab)


@pytest.mark.parametrize("stream", ["primary", "zoom_1", "zoom_2"])
@pytest.mark.parametrize("end", ["abort", "stop", "halt"])
def test_an_end_inside_of_a_pass_keeps_what_was_measured(
    lab: SimpleNamespace, stream: str, end: str
) -> None:
    found = [block for name, block in blocks(lab) if name == stream]
    with pytest.raises(RunEngineInterrupted):
        lab.RE(pausing(scan(lab), {found[1].start}, [0]))  # before the second point
    getattr(lab.RE, end)()
    tree = bz.open(lab.storage.last_path)
    assert tree.attrs["status"] == {"abort": "aborted", "stop": "stopped", "halt": "aborted"}[end]
    measured = [x for name, points in PASSES.items() if name <= stream for x in points]
    measured = measured[: len(measured) - len(PASSES[stream]) + 1]
    assert sorted(tree["merged"]["x"].values.tolist()) == sorted(measured)
    assert tree[stream]["cam_written"].values.tolist() == [1] + [0] * (len(PASSES[stream]) - 1)
    first = PASSES[stream][0]
    np.testing.assert_array_equal(tree[stream]["cam"].values[0], frame_of(code_of([first]), (3, 4)))
    assert validate(lab.storage.last_path, deep=True)
