"""An adaptive scan: each pass, each decision and each peak ends up in the store, and nothing else.

What is measured where is the strategies' business (see their tests); here they are told.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky.utils import FailedStatus
from ophyd_async.core import init_devices, soft_signal_rw
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import (
    Acquire,
    Answer,
    Approval,
    Found,
    Measure,
    MoveTo,
    Outcome,
    Return,
    SignalApproval,
    Threshold,
    zoom_scan,
)
from bluesky_zarr.store import validate
from tests.fakes import Diode, PositionCamera, instant_motor


def hill(x: float) -> float:
    """A peak of FWHM 2 at 4, and a smaller one at 8."""
    return 5 + 100 * 2 ** (-((x - 4) ** 2)) + 40 * 2 ** (-((x - 8) ** 2))


FIRST = Peak(4.0, 2.0, 100.0, prominence=100.0, background=5.0)
SECOND = Peak(8.0, 2.0, 40.0, prominence=40.0, background=5.0)


class Told:
    """Measures 0..10, then around each peak that it may go on with."""

    def __init__(self, *peaks: Peak, around: tuple[float, ...] = (-0.5, 0.5)) -> None:
        self.peaks = peaks or (FIRST, SECOND)
        self.around = around
        self.seen: list[object] = []

    def search(self, field):
        axis = field.axes[0]
        line = np.linspace(axis.start, axis.stop, 11)
        self.seen.append((yield Measure(line[:, None], "coarse")))
        wanted = yield Found(self.peaks)
        self.seen.append(wanted)
        for peak in wanted:
            points = np.array([[peak.centers[0] + d] for d in self.around])
            self.seen.append((yield Measure(points, "zoom", peaks=(peak,))))
        peaks = tuple(
            Peak(p.center, p.fwhm, p.height, 0.01, 0.02, 0.5, resolved=p in wanted)
            for p in self.peaks
        )
        return Outcome(peaks)


@pytest.fixture
def bench(RE: RunEngine, storage: bz.Storage) -> SimpleNamespace:
    with init_devices():
        x, y = instant_motor("x", 1.5), instant_motor("y")
        diode = Diode([x], hill)
        cam = PositionCamera([x], name="cam")
    storage.attach(RE)
    storage.inject(cam)

    def scan(**options):
        options = {"narrowest": 1.0, "strategy": Told()} | options
        detectors = options.pop("detectors", [diode])
        signal = options.pop("signal", "diode")
        ends = options.pop("ends", (0, 10))
        motor = options.pop("motor", x)
        return RE(zoom_scan(detectors, signal, motor, *ends, **options)).plan_result

    def store():
        return bz.open(storage.last_path)

    return SimpleNamespace(
        RE=RE, storage=storage, x=x, y=y, diode=diode, cam=cam, scan=scan, store=store
    )


def position(RE: RunEngine, motor) -> float:
    import bluesky.plan_stubs as bps

    return RE(bps.rd(motor)).plan_result


# -- what is stored ----------------------------------------------------------------------------


def test_each_pass_is_a_stream_with_its_final_shape_and_setpoints(bench):
    bench.scan()
    tree = bench.store()
    assert tree["primary"]["x"].values.tolist() == list(range(11))
    assert tree["zoom_1"]["x"].values.tolist() == [3.5, 4.5]
    assert tree["zoom_2"]["x"].values.tolist() == [7.5, 8.5]
    for stream in ("primary", "zoom_1", "zoom_2"):
        group = tree[stream]
        assert group["diode"].values.tolist() == [hill(x) for x in group["x"].values]
        assert group["diode"].dims == ("x",)
        assert group["x_readback"].values.tolist() == group["x"].values.tolist()


def test_frames_of_a_camera_are_stored_pass_by_pass(bench):
    bench.scan(detectors=[bench.diode, bench.cam], strategy=Told(FIRST, around=(-1, 1)))
    tree = bench.store()
    assert tree["primary"]["cam"].shape == (11, 3, 4)
    for stream in ("primary", "zoom_1"):
        frames = tree[stream]["cam"].values
        expected = [bench.cam.picture(int(x) + 1) for x in tree[stream]["x"].values]
        assert np.array_equal(frames, expected)
    assert (tree["zoom_1"]["cam_written"].values == 1).all()
    assert validate(bench.storage.last_path, deep=True)


def test_a_live_scalar_of_a_camera_is_as_good_a_signal(bench):
    strategy = Told(FIRST, around=(-1, 1))
    bench.scan(detectors=[bench.cam], signal="cam-max", strategy=strategy)
    coarse, _, zoomed = strategy.seen
    assert coarse.values.tolist() == [float(bench.cam.picture(x + 1).max()) for x in range(11)]
    assert zoomed.points[-2:, 0].tolist() == [3.0, 5.0]
    assert zoomed.passes.tolist() == [0] * 11 + [1, 1]


def test_the_readings_of_all_passes_lie_sorted_in_one_table(bench):
    bench.scan(detectors=[bench.diode, bench.cam], strategy=Told(around=(-1, 1)))
    merged = bench.store()["merged"]
    x = merged["x"].values
    assert x.tolist() == sorted([*range(11), 3, 5, 7, 9])
    assert merged["diode"].values.tolist() == [hill(at) for at in x]
    assert merged["pass"].values[x == 3].tolist() == [0, 1]
    assert float(merged["diode"].sel(x=6)) == hill(6)
    assert "cam" not in merged
    assert "cam-sum" in merged


def test_the_peaks_are_a_table_with_units(bench):
    result = bench.scan()
    table = bench.store()["peaks"]
    assert table["center"].values.tolist() == [4.0, 8.0]
    assert table["fwhm_error"].values.tolist() == [0.02, 0.02]
    assert table["resolved"].values.tolist() == [True, True]
    units = bench.store()["primary"]["x"].attrs.get("units")
    assert table["center"].attrs.get("units") == table["fwhm"].attrs.get("units") == units
    assert [peak.center for peak in result.peaks] == [4.0, 8.0]


def test_decisions_say_what_fired_and_what_was_done(bench):
    bench.scan(when="diode > 60")
    table = bench.store()["decisions"].load()
    assert table["signal"].values.tolist() == ["diode", "diode"]
    assert table["center"].values.tolist() == [4.0, 8.0]
    assert table["fired"].values[0] == "diode = 105.001 > 60"
    assert table["approved"].values.tolist() == [True, False]
    assert table["approved_by"].values.tolist() == ["nobody asked", "condition"]
    assert table["action"].values.tolist() == ["refine", "none"]
    assert table["why"].values[1] == "the condition did not fire there: diode > 60"
    assert table["passes"].values.tolist() == [1, 1]


def test_the_result_prints_as_a_table_and_is_printed_after_the_run(bench, capsys):
    result = bench.scan()
    assert str(result).splitlines() == [
        "x               FWHM            height          resolved",
        "--------------  --------------  --------------  --------",
        "4.000 +- 0.010  2.000 +- 0.020  100.00 +- 0.50  yes",
        "8.000 +- 0.010  2.000 +- 0.020  40.00 +- 0.50   yes",
        "15 exposures in 3 passes",
    ]
    assert str(result) in capsys.readouterr().out
    assert (result.points, result.passes) == (15, 3)
    assert result.run_uid == bench.store().attrs["run_uid"]


def test_a_scan_can_go_downwards(bench):
    strategy = Told()
    bench.scan(ends=(10, 0), strategy=strategy)
    assert bench.store()["primary"]["x"].values.tolist() == list(range(10, -1, -1))
    assert strategy.seen[0].points[:, 0].tolist() == list(range(10, -1, -1))


def test_it_runs_without_a_session_as_well():
    RE = RunEngine(call_returns_result=True)
    with init_devices():
        x = instant_motor("x")
        diode = Diode([x], hill)
    found = RE(zoom_scan([diode], "diode", x, 0, 10, narrowest=1, strategy=Told())).plan_result
    assert found.points == 15


# -- conditions --------------------------------------------------------------------------------


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


# -- actions -----------------------------------------------------------------------------------


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


# -- approval ----------------------------------------------------------------------------------


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
    bench.RE.subscribe(
        lambda name, doc: bench.RE.loop.call_later(0.1, lambda: signal.set(word)), "descriptor"
    )
    result = bench.scan(approve=SignalApproval(signal, timeout=20))
    assert result.points == points
    assert bench.store()["decisions"]["approved_by"].values[0] == "signal ok"


# -- inside of a nested scan -------------------------------------------------------------------


@pytest.fixture
def ragged(bench):
    """At each y another number of peaks: two, none, one."""
    counts = iter([(FIRST, SECOND), (), (SECOND,)])

    class Changing:
        def search(self, field):
            told = Told()
            told.peaks = next(counts)
            return told.search(field)

    changing = Changing()
    next_search = changing.search

    class Skipping:
        def __init__(self):
            self.first = True

        def search(self, field):
            if self.first:  # the plan looks at the first pass before it begins
                self.first = False
                return Told().search(field)
            return next_search(field)

    result = bench.scan(
        detectors=[bench.diode, bench.cam],
        strategy=Skipping(),
        outer=Linspace(bench.y, 0, 2, 3),
    )
    return result, bench.store()


def test_coarse_passes_of_a_nested_search_are_one_array(ragged):
    _, tree = ragged
    assert tree["primary"]["cam"].dims[:2] == ("y", "x")
    assert tree["primary"]["cam"].shape == (3, 11, 3, 4)
    assert np.allclose(tree["primary"]["diode"].values, [[hill(x) for x in range(11)]] * 3)


def test_ragged_passes_have_a_parent_index(ragged):
    result, tree = ragged
    zoom = tree["zoom"]
    assert zoom["parent"].values.tolist() == [0, 0, 0, 0, 2, 2]
    assert zoom["pass"].values.tolist() == [1, 1, 2, 2, 1, 1]
    assert zoom["x"].values.tolist() == [3.5, 4.5, 7.5, 8.5, 7.5, 8.5]
    assert zoom["y"].values.tolist() == [0, 0, 0, 0, 2, 2]
    assert zoom["cam"].shape == (6, 3, 4)
    assert np.array_equal(zoom["cam"].values[0], bench_picture(3.5))
    assert tree["peaks"]["parent"].values.tolist() == [0, 0, 2]
    assert result.parents == (0, 0, 2)
    of_the_last = zoom.to_dataset().where(zoom["parent"] == 2, drop=True)
    assert of_the_last["x"].values.tolist() == [7.5, 8.5]


def bench_picture(x: float):
    from tests.fakes import code_of, frame_of

    return frame_of(code_of([x]), (3, 4))


def test_all_passes_of_a_nested_search_are_merged_by_both_axes(ragged):
    _, tree = ragged
    merged = tree["merged"]
    places = list(zip(merged["y"].values, merged["x"].values, strict=True))
    assert places == sorted(places)
    assert len(places) == 3 * 11 + 6
    assert (merged["parent"].values == merged["y"].values).all()


def test_a_search_without_a_peak_says_so_for_its_outer_point(ragged):
    result, tree = ragged
    assert result.why == "Outer point 1: No peak was found."
    assert tree["decisions"]["parent"].values[-2] == 1


# -- several axes ------------------------------------------------------------------------------


def test_a_coarse_grid_is_stored_in_its_dims_and_zooms_as_lists(bench):
    class Grid:
        def search(self, field):
            yield Measure(grid=([0.0, 1.0, 2.0], [0.0, 5.0]), label="coarse")
            wanted = yield Found((Peak((1.0, 5.0), (1.0, 2.0), 9.0, prominence=9.0),))
            yield Measure([[0.5, 5.0], [1.5, 5.0]])
            return Outcome(wanted)

    bench.diode.motors = [bench.y, bench.x]
    bench.diode.signal = lambda y, x: 10 * y + x
    result = bench.scan(
        motor=[bench.y, bench.x], ends=([0, 0], [2, 5]), narrowest=[1, 2], strategy=Grid()
    )
    tree = bench.store()
    assert tree["primary"]["diode"].values.tolist() == [[0, 5], [10, 15], [20, 25]]
    assert tree["primary"]["seq_num"].values.tolist() == [[1, 2], [4, 3], [5, 6]]
    assert tree["zoom_1"]["diode"].dims == ("y_x",)
    assert tree["zoom_1"]["y"].values.tolist() == [0.5, 1.5]
    assert tree["peaks"]["center_y"].values.tolist() == [1.0]
    assert tree["peaks"]["fwhm_x"].values.tolist() == [2.0]
    assert tree["merged"].sizes == {"y_x": 8}
    assert result.peaks[0].center == (1.0, 5.0)


# -- limits and bad input ----------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="'z' cannot go to 10: beyond the soft limit of 9 mm"):
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
