"""Where adaptive scans went wrong once: the promise that each of them keeps now."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from bluesky.utils import Msg, RunEngineInterrupted
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import (
    Acquire,
    Answer,
    Approval,
    Found,
    Measure,
    MoveTo,
    Outcome,
    PeakFound,
    Resolve,
    zoom_scan,
)
from bluesky_zarr.plans import _watch as watch
from bluesky_zarr.plans._observer import Observer
from tests.fakes import Diode, instant_motor
from tests.plans.told import FIRST, SECOND, Told, hill, position


def test_a_peak_that_the_condition_refused_is_not_acted_on_for_its_neighbour(bench):
    narrow = Peak(4.0, 2.0, 50.0, prominence=50.0)
    wide = Peak(5.5, 3.0, 100.0, prominence=100.0)
    bench.scan(
        strategy=Told(wide, narrow),
        when="peak(max_width=2.5)",
        action=["refine", "move", "acquire"],
    )
    assert position(bench.RE, bench.x) == 4.0
    assert bench.store()["at_peaks"]["x"].values.tolist() == [4.0]


class _Second(Approval):
    """Accepts the first question only."""

    def __init__(self) -> None:
        super().__init__(timeout=5)
        self.asked = 0

    async def wait(self, question: str) -> Answer:
        self.asked += 1
        return Answer(self.asked == 1, "the user")


def test_a_later_rejection_keeps_what_was_approved_before_and_moves_nothing(bench):
    class Early:
        def search(self, field):
            yield Measure(np.arange(11.0), "coarse")
            yield Found((FIRST,))
            yield Measure([4.0])
            yield Found((SECOND,))
            return Outcome((Peak(4.0, 2.0, 100.0, 0.01, 0.02, resolved=True), SECOND))

    result = bench.scan(strategy=Early(), approve=_Second(), action=["refine", "move"])
    assert [(p.center, p.resolved, p.note) for p in result.peaks] == [
        (4.0, True, ""),
        (8.0, False, "not approved"),
    ]
    assert result.why == "The scan ended: 'refine, move' was rejected by the user."
    assert bench.store()["decisions"]["approved"].values.tolist() == [True, False, True]


def test_an_answer_that_was_given_is_not_asked_for_again_by_a_pause(bench):
    approval = _Second()

    def paused(plan):
        reply, armed = None, False
        while True:
            try:
                msg = plan.send(reply)
            except StopIteration as stop:
                return stop.value
            reply = yield msg
            if msg.command == "wait" and msg.kwargs.get("group") == "approval" and not armed:
                armed = True
                yield Msg("pause", None, defer=False)

    plan = zoom_scan(
        [bench.diode], "diode", bench.x, 0, 10, narrowest=1, strategy=Told(), approve=approval
    )
    with pytest.raises(RunEngineInterrupted):
        bench.RE(paused(plan))
    bench.RE.resume()
    assert approval.asked == 1
    assert bench.store()["decisions"]["approved"].values.tolist() == [True, True]


@pytest.mark.parametrize("outside", [[12.0], [-3.0], [5.0, 10.1]])
def test_a_strategy_never_takes_a_motor_out_of_the_range(bench, outside):
    class Out:
        def search(self, field):
            yield Measure(np.arange(11.0), "coarse")
            yield Measure(outside)
            return Outcome(())

    with pytest.raises(ValueError, match=r"asks for a point at x = .*outside of the range: x from"):
        bench.scan(strategy=Out())
    assert bench.store()["merged"]["x"].values.tolist() == list(range(11))


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (lambda: Measure(np.empty(0), "more"), r"asks for a pass 'more' without a point"),
        (lambda: Measure([[1.0, 2.0]]), r"asks for points of shape \(1, 2\).*give \(number of"),
        (lambda: Measure([np.nan]), r"asks for a point at x = nan, outside of the range"),
        (lambda: Found(FIRST), r"give a tuple of peaks"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(bench, request_, words):
    class Wrong:
        def search(self, field):
            yield Measure(np.arange(11.0), "coarse")
            yield request_()
            return Outcome(())

    with pytest.raises((ValueError, TypeError), match=words):
        bench.scan(strategy=Wrong())


def test_a_list_of_positions_is_a_pass_along_one_axis():
    assert Measure([1, 2, 3]).points.tolist() == [[1.0], [2.0], [3.0]]


def test_exposures_at_peaks_can_be_taken_twice(bench):
    result = bench.scan(action=["acquire 2", Acquire(3)])
    tree = bench.store()
    assert tree["at_peaks"]["diode"].shape == (2, 2)
    assert tree["at_peaks_1"]["diode"].shape == (2, 3)
    assert result.points == 11 + 10


def test_a_motor_may_be_called_exposure(bench):
    with init_devices():
        exposure = instant_motor("exposure")
        diode = Diode([exposure], hill)
    bench.scan(detectors=[diode], motor=exposure, action="acquire 2")
    assert bench.store()["at_peaks"]["diode"].dims == ("exposure", "exposure_")


def test_a_device_that_does_not_answer_fails_the_scan_with_its_own_words(bench, monkeypatch):
    async def silent(*_):
        raise TimeoutError("IOC:diode does not answer")

    monkeypatch.setattr(type(bench.diode), "describe", silent)
    with pytest.raises(TimeoutError, match="IOC:diode does not answer"):
        bench.scan()


def test_a_motor_that_does_not_say_where_it_is_fails_before_it_moves(bench, monkeypatch):
    async def silent(*_):
        raise TimeoutError("IOC:x does not answer")

    monkeypatch.setattr(type(bench.x), "locate", silent)
    with pytest.raises(TimeoutError, match="IOC:x does not answer"):
        bench.scan(action=["refine", "return"])
    assert bench.diode.exposures == 0


@pytest.mark.parametrize("name", ["pass", "parent", "event"])
def test_names_that_the_store_needs_are_refused_before_anything_moves(bench, name):
    with init_devices():
        diode = Diode([bench.x], hill, name=name)
    with pytest.raises(ValueError, match=f"is called '{name}': an adaptive scan keeps that name"):
        bench.scan(detectors=[diode, bench.diode], outer=Linspace(bench.y, 0, 1, 2))
    assert diode.exposures == bench.diode.exposures == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_points": "100"}, "max_points='100': give a whole number"),
        ({"max_points": 12.5}, "max_points=12.5: give a whole number"),
        ({"max_passes": None}, "max_passes=None: give a whole number"),
        ({"action": MoveTo}, "action=<class"),
        ({"when": PeakFound}, "a condition is a trigger or its text"),
        ({"strategy": Resolve}, "strategy=<class"),
        ({"ends": (0, "10")}, "stop='10': give numbers"),
        ({"narrowest": None}, "narrowest=None: give numbers"),
        ({"motor": "x"}, "'x' is no motor"),
        ({"settle": {"x": float("inf")}}, r"settle\['x'\] is inf s: give a time to wait"),
    ],
)
def test_values_of_a_wrong_kind_are_refused_in_words(bench, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        bench.scan(**options)
    assert bench.diode.exposures == 0


def test_whole_numbers_and_arrays_may_come_as_json_and_numpy_make_them(bench):
    result = bench.scan(max_points=12.0, ends=(np.array([0.0]), np.float64(10)))
    assert result.points == 12


def test_a_search_of_many_nested_dims_is_refused_before_anything_moves(bench):
    with init_devices():
        motors = [instant_motor(f"m{n}") for n in range(10)]
    spec = Linspace(motors[0], 0, 1, 1)
    for motor in motors[1:]:
        spec = spec * Linspace(motor, 0, 1, 1)
    with pytest.raises(ValueError, match="11 nested dims; at most 10"):
        bench.scan(outer=spec)
    assert bench.diode.exposures == 0


def test_a_peak_in_the_condition_is_looked_for_now_and_then_only(bench, monkeypatch):
    """Looking at all points after each one would cost more than the points themselves."""
    looks: list[int] = []
    find = watch.find_peaks

    def counting(x, y, **options):
        looks.append(len(x))
        return find(x, y, **options)

    monkeypatch.setattr(watch, "find_peaks", counting)

    class Long:
        def search(self, field):
            yield Measure(np.linspace(0, 10, 200), "coarse")
            return Outcome(())

    bench.scan(strategy=Long(), when="peak(prominence=5000)")
    assert len(looks) < 20
    assert all(b >= 1.5 * a for a, b in pairwise(looks))


def test_monitored_signals_are_not_kept(bench):
    observer = Observer()
    observer("start", {"uid": "run"})
    observer("descriptor", {"uid": "d", "run_start": "run", "name": "ring_monitor"})
    for n in range(1, 1001):
        observer("event", {"descriptor": "d", "seq_num": n, "data": {"ring": n}})
    assert len(observer._latest) == 1
    assert observer.take("ring_monitor", 999) == {"ring": 1000}
    assert observer.take("ring_monitor", 5) == {}
