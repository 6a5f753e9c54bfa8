"""An adaptive scan: each pass, each decision and each peak ends up in the store, and nothing else.

What is measured where is the strategies' business (see their tests); here they are told.
"""

from __future__ import annotations

import numpy as np
import pytest
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import (
    Found,
    Measure,
    Outcome,
    zoom_scan,
)
from bluesky_zarr.store import inspect, validate
from tests.fakes import Diode, code_of, frame_of, instant_motor
from tests.plans.told import FIRST, SECOND, Told, hill


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


def test_inspect_shows_the_peaks_and_why_the_search_ended(bench):
    bench.scan(max_points=13)
    shown = str(inspect(bench.storage.last_path)).split("\n\n")[-1].splitlines()
    assert shown[0].split() == ["center", "fwhm", "height", "resolved"]
    assert [line.split()[0] for line in shown[2:4]] == ["4", "8"]
    assert shown[-1] == "max_points=13 reached: the search ended there."
    nested = bench.scan(strategy=Told(FIRST), outer=Linspace(bench.y, 0, 1, 2))
    assert nested.parents == (0, 1)
    assert (
        str(inspect(bench.storage.last_path)).splitlines()[-1].startswith("1            4.000 +-")
    )


def test_a_scan_can_go_downwards(bench):
    strategy = Told()
    bench.scan(ends=(10, 0), strategy=strategy)
    assert bench.store()["primary"]["x"].values.tolist() == list(range(10, -1, -1))
    assert strategy.seen[0].points[:, 0].tolist() == list(range(10, -1, -1))


def test_it_runs_without_a_session_as_well(RE):
    with init_devices():
        x = instant_motor("x")
        diode = Diode([x], hill)
    found = RE(zoom_scan([diode], "diode", x, 0, 10, narrowest=1, strategy=Told())).plan_result
    assert found.points == 15


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
    assert np.array_equal(zoom["cam"].values[0], picture(3.5))
    assert tree["peaks"]["parent"].values.tolist() == [0, 0, 2]
    assert result.parents == (0, 0, 2)
    of_the_last = zoom.to_dataset().where(zoom["parent"] == 2, drop=True)
    assert of_the_last["x"].values.tolist() == [7.5, 8.5]


def picture(x: float):

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
