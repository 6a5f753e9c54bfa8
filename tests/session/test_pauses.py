"""A pause before any message of a scan leaves the store that an undisturbed scan leaves."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import Msg
from event_model import DocumentNames, schema_validators
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from tests.fakes import code_of, frame_of
from tests.pausing import messages_of, pausing, run_through


def grid(lab: SimpleNamespace) -> Any:
    return bp.grid_scan([lab.cam], lab.a, 0, 1, 2, lab.b, 0, 2, 3, snake_axes=True)


def nested(lab: SimpleNamespace) -> Any:
    spec = Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 2, 3)
    return nested_scan([lab.cam], spec)


def checkpoint_per_line(plan: Any) -> Any:
    """Only the checkpoints at the start of a line of three points stay."""
    seen = -1

    def drop(msg: Msg) -> Msg | None:
        nonlocal seen
        if msg.command == "checkpoint":
            seen += 1
            if seen % 3:
                return Msg("null")
        return msg

    return bpp.msg_mutator(plan, drop)


def check(lab: SimpleNamespace, docs: list[tuple[str, Any]]) -> None:
    data = lab.primary()
    assert bz.open(lab.storage.last_path).attrs["status"] == "complete"
    for cell in np.ndindex(2, 3):
        np.testing.assert_array_equal(data["cam"].values[cell], frame_of(code_of(cell), (3, 4)))
        assert data["a_readback"].values[cell] == cell[0]
        assert data["b_readback"].values[cell] == cell[1]
    assert sorted(data["seq_num"].values.ravel()) == [1, 2, 3, 4, 5, 6]
    written = data["cam_written"].values
    assert (written >= 1).all()
    assert written.sum() == len(lab.cam.taken)
    resources = [doc for name, doc in docs if name == "stream_resource"]
    assert len(resources) == 1
    datums = [doc for name, doc in docs if name == "stream_datum"]
    assert {d["stream_resource"] for d in datums} == {resources[0]["uid"]}
    assert {d["indices"]["start"] for d in datums} == set(range(6))
    assert len(datums) == sum(name == "event" for name, _ in docs)
    for name, doc in docs:
        schema_validators[DocumentNames[name]].validate(doc)
    assert [name for name, _ in docs].count("start") == 1
    assert docs[-1][0] == "stop"


PLANS: dict[str, Callable[[SimpleNamespace], Any]] = {
    "nested_scan": nested,
    "grid_scan": grid,
    "nested_scan by lines": lambda lab: checkpoint_per_line(nested(lab)),
    "grid_scan by lines": lambda lab: checkpoint_per_line(grid(lab)),
}


@pytest.mark.parametrize("name", PLANS)
def test_pause_before_every_message(
    lab: SimpleNamespace, docs: list[tuple[str, Any]], name: str
) -> None:
    # Pauses are inserted outside of the session's preprocessor: before its messages as well.
    total, opened = messages_of(lab, PLANS[name](lab))
    check(lab, docs)
    target: list[set[int]] = [set()]
    lab.RE.preprocessors.append(lambda plan: pausing(plan, target[0], [0]))
    for n in range(opened + 1, total):
        docs.clear()
        lab.cam.taken.clear()
        target[0] = {n}
        assert run_through(lab.RE, PLANS[name](lab)) == 1, n
        check(lab, docs)


@pytest.mark.parametrize("name", PLANS)
def test_a_plan_paused_again_and_again_stores_what_it_would_have(
    lab: SimpleNamespace, docs: list[tuple[str, Any]], name: str
) -> None:
    total, opened = messages_of(lab, PLANS[name](lab))
    docs.clear()
    lab.cam.taken.clear()
    every = set(range(opened + 1, total, 3))
    lab.RE.preprocessors.append(lambda plan: pausing(plan, every, [0]))
    assert run_through(lab.RE, PLANS[name](lab)) == len(every)
    check(lab, docs)


def test_a_line_that_is_repeated_counts_its_frames_twice(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    commands: list[str] = []

    def before_third_save(plan: Any) -> Any:
        def insert(msg: Msg) -> tuple[Any, Any]:
            commands.append(msg.command)
            if msg.command == "save" and commands.count("save") == 3:

                def paused() -> Any:
                    yield Msg("pause", None, defer=False)
                    return (yield msg)

                return paused(), None
            return None, None

        return bpp.plan_mutator(plan, insert)

    lab.RE.preprocessors.append(before_third_save)
    assert run_through(lab.RE, checkpoint_per_line(nested(lab))) == 1
    check(lab, docs)
    data = lab.primary()
    np.testing.assert_array_equal(data["cam_written"].values, [[2, 2, 2], [1, 1, 1]])


def test_a_pause_during_an_exposure_repeats_the_exposure(
    lab: SimpleNamespace, docs: list[tuple[str, Any]]
) -> None:
    lab.cam.exposure = 0.2
    asked = 0

    def pause(msg: Msg) -> None:
        nonlocal asked
        if msg.command == "trigger":
            asked += 1
            if asked == 3:
                lab.RE.loop.call_later(
                    0.05, lambda: lab.RE.loop.create_task(lab.RE._request_pause_coro(False))
                )

    lab.RE.msg_hook = pause
    assert run_through(lab.RE, nested(lab)) == 1
    lab.RE.msg_hook = None
    check(lab, docs)
    written = lab.primary()["cam_written"].values
    assert (written == 1).all()  # the exposure that the pause stopped gave no frame
