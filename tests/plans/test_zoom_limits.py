"""Limits end a scan cleanly; bad input is refused before anything moves, and nothing is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from bluesky.utils import FailedStatus
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace

from bluesky_zarr.plans import (
    Measure,
    Threshold,
)
from tests.plans.told import Told, hill, position


def test_the_limit_of_points_ends_the_scan_cleanly(bench):
    result = bench.scan(max_points=12)
    tree = bench.store()
    assert tree["zoom_1"]["x"].values.tolist() == [3.5]
    assert result.points == 12
    assert result.why == "max_points=12 reached: the search ended there."
    assert tree["decisions"]["why"].values[-1] == result.why
    assert tree.attrs["status"] == "complete"


def test_the_limit_of_passes_ends_the_scan_cleanly(bench):
    result = bench.scan(max_passes=2)
    assert result.points == 13
    assert result.why == "max_passes=2 reached: the search ended there."


def test_an_unknown_signal_is_refused_before_anything_moves(bench):
    with pytest.raises(ValueError, match=r"reading 'dioed'.*Readings: diode, x\."):
        bench.scan(signal="dioed")
    with pytest.raises(
        ValueError, match=r"'cam'.*cam-centroid_x, cam-centroid_y, cam-max, cam-sum"
    ):
        bench.scan(detectors=[bench.cam], signal="cam")
    assert bench.diode.exposures == 0
    assert position(bench.RE, bench.x) == 1.5


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ("dioed > 3", "column 1: .*dioed.*diode"),
        ("diode >> 3", "column 8|column 7"),
        ("diode > (3", "column"),
        ("__import__('os').system('ls') > 3", "column"),
        ("exec(diode) > 3", "there is no function 'exec'"),
    ],
)
def test_a_bad_condition_names_the_column_before_anything_moves(bench, when, words):
    with pytest.raises(ValueError, match=words):
        bench.scan(when=when)
    assert bench.diode.exposures == 0


def test_a_trigger_on_a_reading_that_nobody_gives_is_refused(bench):
    with pytest.raises(ValueError, match=r"names the reading 'volts'.*Readings: diode, x\."):
        bench.scan(when=Threshold("volts", ">", 1))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ends": (3, 3)}, "start and stop of 'x' are both 3: there is no range"),
        ({"ends": (0, math.inf)}, "stop=inf: give finite numbers"),
        ({"narrowest": 0}, "narrowest=0 for 'x': give the FWHM"),
        ({"narrowest": -1}, "narrowest=-1 for 'x': give the FWHM"),
        ({"narrowest": 11}, "narrowest=11 for 'x' is wider than the range from 0 to 10"),
        ({"min_step": 0}, "min_step=0 for 'x': give a positive number"),
        ({"min_step": -1}, "min_step=-1 for 'x': give a positive number"),
        ({"min_step": 20}, "min_step=20 for 'x' is more than the range from 0 to 10"),
        ({"max_points": 0}, "max_points=0: a scan takes one point at least"),
        ({"max_points": 5}, "The coarse pass alone takes 11 points, and max_points=5"),
        ({"max_passes": 0}, "max_passes=0: a scan makes one pass at least"),
        ({"strategy": "zoom 0.5"}, "strategy='zoom 0.5': .*factor"),
        ({"strategy": "zoom 0"}, "strategy='zoom 0': .*factor"),
        ({"strategy": "guess"}, "strategy='guess': give 'resolve', 'zoom 2'"),
        ({"action": "explode"}, "action='explode': Give 'refine', 'mark', 'move'"),
        ({"action": "acquire 0"}, "take one exposure or more"),
        ({"action": []}, "action is empty"),
        ({"approve": "maybe"}, "approve='maybe': Give 'none', 'prompt'"),
        ({"settle": {"y": 1}}, "settle names 'y', which this scan does not move"),
        ({"motor": []}, "needs a motor"),
    ],
)
def test_limits_that_make_no_sense_are_refused_before_anything_moves(bench, options, words):
    with pytest.raises(ValueError, match=words):
        bench.scan(**options)
    assert bench.diode.exposures == 0


class Limited(SimMotor):
    """A motor with a soft limit."""

    async def check_value(self, value: float) -> None:
        if value > 9:
            raise RuntimeError("beyond the soft limit of 9 mm")


def test_a_position_that_a_motor_refuses_is_found_before_anything_moves(bench):
    with init_devices():
        z = Limited(instant=True)
    with pytest.raises(ValueError, match=r"'z' cannot go to 10 \(beyond the soft limit of 9 mm"):
        bench.scan(motor=z)
    assert bench.diode.exposures == 0


def test_an_axis_that_is_scanned_twice_is_refused(bench):
    with pytest.raises(ValueError, match="'x' is scanned, and an axis of outer as well"):
        bench.scan(outer=Linspace(bench.x, 0, 1, 2))


def test_a_signal_that_is_never_a_number_fails_and_keeps_the_data(bench):
    bench.diode.signal = lambda x: math.nan
    with pytest.raises(ValueError, match=r"'diode' was not a number at each of the 11 points"):
        bench.scan()
    assert bench.store().attrs["status"] == "failed"
    assert bench.store()["primary"]["seq_num"].values.tolist() == list(range(1, 12))


def test_single_readings_that_are_no_number_are_stored_and_not_decided_by(bench, caplog):
    bench.diode.signal = lambda x: math.nan if x == 5 else hill(x)
    strategy = Told()
    bench.scan(strategy=strategy)
    assert 5 not in strategy.seen[0].points
    assert len(strategy.seen[0].values) == 10
    assert "was not a number at 1 of 11 points" in caplog.text
    assert bench.store()["primary"]["seq_num"].values[5] == 6


@pytest.mark.parametrize("strategy", ["resolve", "zoom 2"])
def test_a_constant_signal_ends_cleanly_and_is_named(bench, strategy):
    bench.diode.signal = lambda x: 7.0
    result = bench.scan(strategy=strategy)
    assert result.peaks == ()
    assert "constant" in result.why
    assert bench.store().attrs["status"] == "complete"
    assert bench.store()["decisions"]["why"].values.tolist() == [result.why]


def test_a_detector_that_times_out_in_a_pass_says_where_and_nothing_is_lost(bench):
    bench.diode.fail_at = 12
    with pytest.raises(FailedStatus) as caught:
        bench.scan()
    assert "did not answer within 10 s" in str(caught.value.__cause__)
    assert caught.value.__notes__ == [
        "In pass 2 of the search (stream 'zoom_1', point 1), at x = 4.5. "
        "What was measured before is stored."
    ]
    tree = bench.store()
    assert tree.attrs["status"] == "failed"
    assert tree["zoom_1"]["diode"].values[0] == hill(3.5)
    assert np.isnan(tree["zoom_1"]["diode"].values[1])
    assert len(tree["merged"]["x"]) == 12


def test_a_strategy_that_asks_for_something_else_is_told_what_there_is(bench):
    class Wrong:
        def search(self, field):
            yield Measure([[1.0]])
            yield "more"

    with pytest.raises(TypeError, match="asks for 'more': yield Measure"):
        bench.scan(strategy=Wrong())
