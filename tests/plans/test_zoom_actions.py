"""What fires, what is done then, and who has said yes to it."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from ophyd_async.core import init_devices, soft_signal_rw

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import (
    Acquire,
    Answer,
    Approval,
    MoveTo,
    Return,
    SignalApproval,
    Threshold,
)
from tests.plans.told import FIRST, SECOND, Told, hill, position


@pytest.mark.parametrize(
    "when",
    [
        "diode > 60",
        Threshold("diode", ">", 60),
        "diode > 60 and peak(prominence=50)",
        "peak(prominence=50)",
        "peak(prominence=50) or diode > 1000",
        "derivative(diode) > 40",
        "within(diode, 60, 200)",
    ],
)
def test_only_peaks_where_the_condition_fires_are_acted_on(bench, when):
    strategy = Told()
    result = bench.scan(when=when, strategy=strategy)
    assert strategy.seen[1] == (FIRST,)
    assert result.points == 13


def test_a_condition_is_evaluated_after_each_acquisition(bench):
    class Counting:
        names = ("diode",)

        def __init__(self):
            self.seen = []

        def evaluate(self, readings):
            self.seen.append((readings.position, readings.values["diode"]))
            return False

    counting = Counting()
    bench.scan(when=counting)
    assert counting.seen[:11] == [((float(x),), hill(x)) for x in range(11)]


def test_marked_peaks_are_noted_and_left(bench):
    strategy = Told()
    result = bench.scan(action="mark", strategy=strategy)
    assert strategy.seen[1] == ()
    assert result.points == 11
    assert bench.store()["decisions"]["action"].values.tolist() == ["mark", "mark"]


def test_the_motor_can_be_left_at_the_most_prominent_peak(bench):
    bench.scan(action=["refine", "move"])
    assert position(bench.RE, bench.x) == 4.0
    bench.scan(action=MoveTo(), strategy=Told(SECOND, FIRST))
    assert position(bench.RE, bench.x) == 8.0


def test_a_motor_never_leaves_the_range_that_was_asked_for(bench):
    beyond = Peak(10.4, 2.0, 40.0, prominence=40.0)
    bench.scan(action=["move", "acquire"], strategy=Told(beyond))
    assert position(bench.RE, bench.x) == 10.0
    assert bench.store()["at_peaks"]["x"].values.tolist() == [10.0]


def test_further_exposures_are_taken_at_each_peak(bench):
    result = bench.scan(detectors=[bench.diode, bench.cam], action=["refine", Acquire(3)])
    at_peaks = bench.store()["at_peaks"]
    assert at_peaks["cam"].dims[:2] == ("x", "exposure")
    assert at_peaks["cam"].shape == (2, 3, 3, 4)
    assert at_peaks["x"].values.tolist() == [4.0, 8.0]
    assert np.array_equal(at_peaks["cam"].values[1, 2], bench.cam.picture(9))
    assert result.points == 15 + 6


def test_the_motor_can_come_back_to_where_it_was(bench):
    bench.scan(action=["refine", Return()])
    assert position(bench.RE, bench.x) == 1.5


def test_an_action_of_ones_own_is_three_lines(bench):
    class Beside:
        text, refines = "beside", False

        def finish(self, hand, peaks):
            yield from hand.move([peaks[0].center + 1])

    bench.scan(action=Beside())
    assert position(bench.RE, bench.x) == 5.0
    assert bench.store()["decisions"]["action"].values[0] == "beside"


class Says(Approval):
    def __init__(self, accepted: bool) -> None:
        super().__init__(timeout=5)
        self.accepted = accepted
        self.questions: list[str] = []

    async def wait(self, question: str) -> Answer:
        self.questions.append(question)
        return Answer(self.accepted, "the user")


def test_what_is_approved_is_done_and_says_by_whom(bench):
    approval = Says(True)
    result = bench.scan(approve=approval)
    assert approval.questions == ["Found 2 peaks at x = 4; x = 8: refine?"]
    assert result.points == 15
    assert bench.store()["decisions"]["approved_by"].values.tolist() == ["the user"] * 2


def test_what_is_rejected_ends_the_scan_cleanly_with_all_data(bench):
    result = bench.scan(approve=Says(False), action=["refine", "move"])
    tree = bench.store()
    assert tree.attrs["status"] == "complete"
    assert tree["primary"]["diode"].values.tolist() == [hill(x) for x in range(11)]
    assert tree["decisions"]["approved"].values.tolist() == [False, False, True]
    assert tree["decisions"]["approved_by"].values[0] == "the user"
    assert result.why == "The scan ended: 'refine, move' was rejected by the user."
    assert tree["decisions"]["why"].values[-1] == result.why
    assert [peak.note for peak in result.peaks] == ["not approved"] * 2
    assert position(bench.RE, bench.x) == 10.0  # it went nowhere


@pytest.mark.parametrize(("otherwise", "points"), [("accept", 15), ("reject", 11)])
def test_a_time_that_is_over_answers(bench, otherwise, points):
    result = bench.scan(approve=f"countdown 0.05 {otherwise}")
    assert result.points == points
    by = bench.store()["decisions"]["approved_by"].values[0]
    assert by == "timeout of 0.05 s"


@pytest.mark.parametrize(("word", "points"), [("accept", 15), ("reject", 11)])
def test_another_client_answers_by_a_signal(bench, word, points):
    with init_devices():
        signal = soft_signal_rw(str, name="ok")

    async def answer() -> None:
        while not (await signal.get_value()).startswith("Found 2 peaks"):
            await asyncio.sleep(0.01)
        await signal.set(word)

    asyncio.run_coroutine_threadsafe(answer(), bench.RE.loop)
    result = bench.scan(approve=SignalApproval(signal, timeout=20))
    assert result.points == points
    assert bench.store()["decisions"]["approved_by"].values[0] == "signal ok"
