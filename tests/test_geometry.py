"""Where a point of a scan sits in N-D: against scanspec's own order and bluesky's own plans."""

import gc
import itertools
import json
import pickle
import tracemalloc
import warnings
from functools import reduce

import numpy as np
import pytest
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from bluesky.run_engine import RunEngine
from cycler import cycler
from hypothesis import given
from hypothesis import strategies as st
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import (
    Concat,
    ConstantDuration,
    Ellipse,
    Fly,
    Linspace,
    Polygon,
    Range,
    Snake,
    Spiral,
    Squash,
    Static,
)

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry, check_depth


def grid_spec(sizes, snaked):
    """A spec of nested lines a0, a1, ... with different positions on each."""
    lines = [
        Linspace(f"a{i}", i, i + 0.7, num) if not snake else ~Linspace(f"a{i}", i, i + 0.7, num)
        for i, (num, snake) in enumerate(zip(sizes, snaked, strict=True))
    ]
    return reduce(lambda outer, inner: outer * inner, lines)


def names_of(point):
    return {getattr(axis, "name", axis): float(value) for axis, value in point.items()}


def assert_runs_as_scanspec_does(spec):
    geometry = ScanGeometry.from_spec(spec)
    expected = [names_of(point) for point in spec.midpoints()]
    assert list(geometry.points()) == expected
    assert [geometry.setpoints(k) for k in range(geometry.size)] == expected
    return geometry


class TestOrder:
    @pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
    @pytest.mark.parametrize("sizes", [(3, 2, 3, 1, 2), (2, 3, 1, 3, 2)])
    def test_every_combination_of_snaking_runs_as_scanspec_does(self, depth, sizes):
        for snaked in itertools.product((False, True), repeat=depth):
            assert_runs_as_scanspec_does(grid_spec(sizes[:depth], snaked))

    def test_snaking_is_undone_in_the_cell(self):
        geometry = ScanGeometry.from_spec(grid_spec((2, 3), (False, True)))
        cells = [geometry.position(k) for k in range(6)]
        assert cells == [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
        assert [geometry.flat(k) for k in range(6)] == [0, 1, 2, 5, 4, 3]

    def test_the_outermost_dim_never_runs_backwards(self):
        geometry = ScanGeometry.from_spec(Snake(grid_spec((2, 3), (False, False))))
        assert [dim.snaked for dim in geometry.dims] == [False, True]

    @given(
        st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=5),
    )
    def test_points_and_cells_are_one_to_one(self, levels):
        dims = tuple(
            Dim(f"a{i}", size, snaked, (Coordinate(f"a{i}", np.arange(size) * 0.1 + i),))
            for i, (size, snaked) in enumerate(levels)
        )
        geometry = ScanGeometry(dims)
        cells = [geometry.position(k) for k in range(geometry.size)]
        assert sorted(cells) == list(np.ndindex(geometry.shape))
        for k, cell in enumerate(cells):
            assert geometry.flat(k) == np.ravel_multi_index(cell, geometry.shape)
            assert geometry.setpoints(k) == {
                coordinate.name: coordinate.values[i]
                for dim, i in zip(dims, cell, strict=True)
                for coordinate in dim.coordinates
            }

    def test_points_can_start_anywhere(self):
        geometry = ScanGeometry.from_spec(grid_spec((2, 3), (False, True)))
        assert list(geometry.points(start=4)) == [geometry.setpoints(4), geometry.setpoints(5)]

    def test_setpoints_are_plain_floats(self):
        (point,) = ScanGeometry.from_spec(Linspace("x", 1, 2, 1)).points()
        assert type(point["x"]) is float

    @pytest.mark.parametrize("k", [-1, 6])
    def test_a_point_outside_the_scan_is_an_error(self, k):
        geometry = ScanGeometry.from_spec(grid_spec((2, 3), (False, True)))
        for ask in (geometry.position, geometry.flat, geometry.setpoints):
            with pytest.raises(IndexError, match=f"there is no point {k}: the scan has 6 points"):
                ask(k)

    def test_a_million_points_cost_nothing_until_they_are_asked_for(self):
        spec = Linspace("y", 0, 1, 1000) * ~Linspace("x", 0, 1, 1000)
        gc.collect()
        tracemalloc.start()
        try:
            points = ScanGeometry.from_spec(spec).points()
            assert iter(points) is points
            assert next(points) == pytest.approx({"y": 0, "x": 0}, abs=1e-12)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 5_000_000  # one float per point would be 8 MB

    def test_numbers_of_points_past_any_memory_are_only_numbers(self):
        geometry = ScanGeometry.from_spec(grid_spec((1000,) * 10, (False, True) * 5))
        assert geometry.size == 10**30
        assert geometry.position(10**30 - 1) == (999, 0) * 5


class TestEvents:
    def test_any_point_is_its_own_place(self):
        geometry = ScanGeometry.events(3)
        assert (geometry.names, geometry.shape, geometry.growing) == (("event",), (3,), True)
        assert geometry.position(5) == (5,)
        assert geometry.flat(5) == 5
        assert geometry.setpoints(5) == {}
        assert geometry.axes == ()

    def test_the_number_may_be_unknown(self):
        assert ScanGeometry.events().size == 0
        assert list(ScanGeometry.events().points()) == []

    def test_a_negative_point_is_an_error(self):
        with pytest.raises(IndexError, match="no point -1: points count from 0"):
            ScanGeometry.events().flat(-1)

    def test_has_no_coordinates(self):
        plain = ScanGeometry.from_spec(Linspace("x", 0, 1, 3))
        with pytest.raises(ValueError, match=r"use ScanGeometry.events\(\)"):
            ScanGeometry(plain.dims, growing=True)


class TestSpec:
    def test_axes_that_are_devices_go_by_their_names(self):
        x, y = SimMotor(name="x"), SimMotor(name="y")
        geometry = assert_runs_as_scanspec_does(Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 1, 3))
        assert geometry.names == geometry.axes == ("y", "x")

    def test_a_serialized_spec_is_as_good(self):
        x, y = SimMotor(name="x"), SimMotor(name="y")
        spec = Linspace(y, 0, 0.3, 4) * ~Linspace(x, 0, 1, 3)
        serialized = json.loads(json.dumps(spec.serialize()))
        assert ScanGeometry.from_spec(serialized) == ScanGeometry.from_spec(spec)

    @pytest.mark.parametrize(
        ("spec", "names", "shape"),
        [
            (Linspace("x", 0, 1, 4).zip(Range("y", 0, 3, 1)), ("x_y",), (4,)),
            (
                Linspace("z", 0, 1, 2) * ~Linspace("x", 0, 1, 3).zip(Static("y", 7)),
                ("z", "x_y"),
                (2, 3),
            ),
            (Linspace("x", 0, 1, 3).concat(Linspace("x", 5, 6, 2)), ("x",), (5,)),
            (
                Concat(grid_spec((2, 2), (False, False)), grid_spec((3, 1), (False, False))),
                ("a0_a1",),
                (7,),
            ),
            (Spiral("x", 0, 4, 1, "y", 0), ("y_x",), (13,)),
            (Ellipse("x", 0, 4, 1, "y", 0, snake=True), ("y_x",), (13,)),
            (Linspace("z", 0, 1, 3) * ~Ellipse("x", 0, 4, 1, "y", 0), ("z", "y_x"), (3, 13)),
            (Polygon("x", "y", [(0, 0), (4, 0), (2, 4)], 1), ("y_x",), (10,)),
            (
                Linspace("z", 0, 1, 2) * Squash(grid_spec((2, 3), (False, True))),
                ("z", "a0_a1"),
                (2, 6),
            ),
            (
                Linspace("z", 0, 1, 3) * Squash(grid_spec((2, 3), (True, True))),
                ("z", "a0_a1"),
                (3, 6),
            ),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_axes_that_move_together_share_a_dim(self, spec, names, shape):
        geometry = assert_runs_as_scanspec_does(spec)
        assert (geometry.names, geometry.shape) == (names, shape)

    def test_repeats_are_dims_without_coordinates(self):
        geometry = assert_runs_as_scanspec_does(2 * Linspace("x", 0, 1, 3) * 4)
        assert (geometry.names, geometry.shape) == (("repeat", "x", "repeat_2"), (2, 3, 4))
        assert geometry.axes == ("x",)

    def test_repeats_stay_in_order_when_snaked(self):
        geometry = assert_runs_as_scanspec_does(
            Linspace("y", 0, 1, 2) * ~(Linspace("x", 0, 1, 2) * 2)
        )
        assert [dim.snaked for dim in geometry.dims] == [False, True, False]

    @pytest.mark.parametrize(
        "spec",
        [
            0.1 @ grid_spec((2, 3), (False, True)),
            Fly(0.1 @ grid_spec((2, 3), (False, True))),
            ConstantDuration(0.1) * grid_spec((2, 3), (False, True)),
            Linspace("a0", 0, 0.7, 2) * (0.1 @ ~Linspace("a1", 1, 1.7, 3)),
            grid_spec((2, 3), (False, False)).zip(ConstantDuration(0.1)),
        ],
        ids=lambda spec: type(spec).__name__,
    )
    def test_durations_are_no_dims(self, spec):
        geometry = assert_runs_as_scanspec_does(spec)
        assert (geometry.names, geometry.shape) == (("a0", "a1"), (2, 3))

    def test_a_duration_alone_is_one_point(self):
        assert ScanGeometry.from_spec(ConstantDuration(0.1)).shape == (1,)
        assert ScanGeometry.from_spec(5 * ConstantDuration(0.1)).shape == (5,)

    def test_no_dim_takes_the_name_of_an_axis(self):
        spec = 2 * Linspace("repeat", 0, 1, 2) * Linspace("x_y", 0, 1, 2)
        geometry = ScanGeometry.from_spec(spec * Linspace("x", 0, 1, 2).zip(Static("y", 0)))
        assert geometry.names == ("repeat_2", "repeat", "x_y", "x_y_2")

    def test_coordinates_tell_their_dim(self):
        geometry = ScanGeometry.from_spec(2 * Linspace("x", 0, 1, 3).zip(Linspace("y", 5, 6, 3)))
        assert geometry.coordinates == (
            ("x_y", Coordinate("x", np.array([0, 0.5, 1]))),
            ("x_y", Coordinate("y", np.array([5, 5.5, 6]))),
        )

    def test_ten_dims_are_possible(self):
        assert_runs_as_scanspec_does(grid_spec((1,) * 8 + (2, 2), (False,) * 9 + (True,)))

    def test_eleven_dims_are_refused(self):
        with pytest.raises(ValueError, match="11 nested dims; at most 10 are possible: zip axes"):
            ScanGeometry.from_spec(grid_spec((2,) * 11, (False,) * 11))

    @pytest.mark.parametrize(
        "spec",
        [
            Linspace("x", 0, 1, 2) * Linspace("x", 0, 1, 3),
            Linspace("x", 0, 1, 2).zip(Linspace("x", 0, 1, 2)),
            Linspace(SimMotor(name="x"), 0, 1, 2) * Linspace(SimMotor(name="x"), 0, 1, 3),
            Ellipse("x", 0, 4, 1, "x", 0),
        ],
        ids=["nested", "zipped", "two motors of one name", "ellipse"],
    )
    def test_a_motor_twice_is_refused(self, spec):
        with pytest.raises(ValueError, match=r"motor 'x' is used more than once.*one dim only"):
            ScanGeometry.from_spec(spec)

    def test_a_motor_without_a_name_is_refused(self):
        with pytest.raises(ValueError, match="has no name; use a named device"):
            ScanGeometry.from_spec(Linspace(SimMotor(), 0, 1, 3))

    @pytest.mark.parametrize(
        ("spec", "dim"),
        [(0 * Linspace("x", 0, 1, 2), "repeat"), (Polygon("x", "y", [(0, 0), (0, 2)], 0.1), "y_x")],
        ids=["repeat", "polygon"],
    )
    def test_a_scan_without_points_is_refused(self, spec, dim):
        with pytest.raises(ValueError, match=f"dim '{dim}' has 0 points"):
            ScanGeometry.from_spec(spec)

    def test_what_scanspec_refuses_is_named(self):
        with pytest.raises(ValueError, match=r"scanspec refuses Zip\(.*num=3.*num=4"):
            ScanGeometry.from_spec(Linspace("x", 0, 1, 3).zip(Linspace("y", 0, 1, 4)))
        with pytest.raises(ValueError, match=r"'Nope'.*does not match any of the expected tags"):
            ScanGeometry.from_spec({"type": "Nope"})


class TestDepth:
    def test_three_dims_are_nothing_to_warn_of(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_depth(ScanGeometry.from_spec(grid_spec((2,) * 3, (False,) * 3)))

    def test_past_three_dims_the_points_are_told(self):
        geometry = ScanGeometry.from_spec(grid_spec((2,) * 4, (False,) * 4))
        with pytest.warns(UserWarning, match=r"4 nested dims \('a0', .*\): 16 points"):
            check_depth(geometry)


class TestValues:
    """A geometry is a value: it compares, travels, and is changed only into another."""

    @pytest.fixture
    def geometry(self):
        spec = 2 * Linspace("y", 0, 0.1, 3) * ~Linspace("x", 1 / 3, 1, 7).zip(Static("z", 1e-300))
        return ScanGeometry.from_spec(spec)

    def test_json_gives_it_back_exactly(self, geometry):
        for original in (geometry, geometry.with_units({"x": "mm"}), ScanGeometry.events(5)):
            assert ScanGeometry.from_dict(json.loads(json.dumps(original.to_dict()))) == original

    def test_a_dict_that_is_none_is_refused(self):
        with pytest.raises(ValueError, match="not a scan geometry: 'growing' is missing"):
            ScanGeometry.from_dict({"dims": []})  # pyright: ignore[reportArgumentType] (wrong on purpose)

    def test_pickle_gives_it_back_exactly_and_small(self, geometry):
        before = len(pickle.dumps(geometry))
        geometry.setpoints(3)
        assert len(pickle.dumps(geometry)) == before
        back = pickle.loads(pickle.dumps(geometry))
        assert back == geometry
        assert list(back.points()) == list(geometry.points())
        assert not back.dims[1].coordinates[0].values.flags.writeable

    def test_differs_in_anything_that_differs(self, geometry):
        assert geometry != geometry.with_units({"x": "mm"})
        assert geometry != geometry.shifted({"x": 1})
        assert geometry != ScanGeometry.events(geometry.size)
        assert Coordinate("x", np.zeros(1)) != Coordinate("x", np.zeros(2))
        assert Coordinate("x", np.zeros(1)) != "x"

    def test_shifted_adds_an_offset_to_an_axis(self, geometry):
        shifted = geometry.shifted({"x": 10.5, "unknown": 1})
        for before, after in zip(geometry.points(), shifted.points(), strict=True):
            assert after == before | {"x": before["x"] + 10.5}

    def test_with_units_names_the_units_of_an_axis(self, geometry):
        units = {
            c.name: c.units for _, c in geometry.with_units({"x": "mm", "no": "m"}).coordinates
        }
        assert units == {"y": "", "x": "mm", "z": ""}
        assert geometry.with_units({"x": "mm"}).with_units({"y": "eV"}) == geometry.with_units(
            {"y": "eV", "x": "mm"}
        )

    def test_values_are_copied_and_cannot_be_changed(self):
        given_values = np.zeros(3)
        coordinate = Coordinate("x", given_values)
        given_values[0] = 1
        assert coordinate == Coordinate("x", np.zeros(3))
        with pytest.raises(ValueError, match="read-only"):
            coordinate.values[0] = 1

    @pytest.mark.parametrize(
        ("values", "words"),
        [
            ([[1.0]], "'x' are 2-D of type float64; give a 1-D sequence"),
            (["1.5"], "'x' are 1-D of type <U3; give a 1-D sequence of real numbers"),
            ([1j], "complex128"),
            ([True], "bool"),
            ([0, np.nan], "position 1 of 'x' is nan; give finite numbers"),
        ],
    )
    def test_positions_are_finite_numbers(self, values, words):
        with pytest.raises(ValueError, match=words):
            Coordinate("x", values)

    def test_a_coordinate_is_as_long_as_its_dim(self):
        with pytest.raises(ValueError, match="'x' has 2 positions along dim 'x' of size 3"):
            Dim("x", 3, coordinates=(Coordinate("x", np.zeros(2)),))

    def test_dims_exist_and_have_their_own_names(self):
        with pytest.raises(ValueError, match="has no dim"):
            ScanGeometry(())
        with pytest.raises(ValueError, match=r"named \('a', 'a'\); give each a name of its own"):
            ScanGeometry((Dim("a", 2), Dim("a", 2)))


# Bluesky's own plans: what they write down against where they go.


@pytest.fixture(scope="module")
def RE():
    return RunEngine({})


@pytest.fixture(scope="module")
def motors(RE):
    with init_devices():
        a, b, c, d = (SimMotor(instant=True) for _ in range(4))
    return a, b, c, d


class Recorded:
    """The start document of a run, and where the motors were sent to at each of its points."""

    def __init__(self, RE, plan):
        self.start = {}
        self.points = []
        commanded = {}

        def watch(msg):
            if msg.command == "set":
                commanded[msg.obj.name] = float(msg.args[0])
            elif msg.command == "create":
                self.points.append(dict(commanded))

        def keep(name, doc):
            if name == "start":
                self.start = doc

        RE.msg_hook = watch
        try:
            RE(plan, keep)
        finally:
            RE.msg_hook = None

    @property
    def documents(self):
        """The start document as it is, and as it comes out of a catalog."""
        return self.start, json.loads(json.dumps(self.start, default=lambda value: value.tolist()))


def assert_described(recorded, names, shape, offsets=None):
    geometries = [ScanGeometry.from_start(doc).shifted(offsets or {}) for doc in recorded.documents]
    for geometry in geometries:
        assert (geometry.names, geometry.shape, geometry.growing) == (names, shape, False)
        assert list(geometry.points()) == recorded.points
    return geometries[0]


def plans_of_all_kinds(prefix, motors):
    """Pairs of a plan and the dims that it describes."""
    a, b, c, _ = motors
    scan, list_scan, grid_scan, list_grid_scan = (
        getattr(bp, prefix + name) for name in ("scan", "list_scan", "grid_scan", "list_grid_scan")
    )
    grid = (a, 0, 1, 3, b, -1, 1, 2, c, 0.1, 0.7, 3)
    lists = (a, [0.3, 1, 2.2], b, (-1, 4), c, np.array([5, 5.5, 7]))
    abc = ("a", "b", "c")
    yield scan([], a, 0, 0.7, 4), ("a",), (4,)
    yield scan([], a, 0, 0.7, b, 3, 2, num=4), ("a_b",), (4,)
    yield list_scan([], a, [0, 3, 1, 1.5]), ("a",), (4,)
    yield list_scan([], a, [0, 3, 1], b, (7, 8, 8)), ("a_b",), (3,)
    yield grid_scan([], *grid[:4]), ("a",), (3,)
    for snake_axes in (None, False, True, [], [b], [c], (c, b)):
        yield grid_scan([], *grid, snake_axes=snake_axes), abc, (3, 2, 3)
        yield list_grid_scan([], *lists, snake_axes=snake_axes), abc, (3, 2, 3)
    yield grid_scan([], *grid[:8], True, *grid[8:], False), abc, (3, 2, 3)
    yield list_grid_scan([], *lists, snake_axes=[a, b]), abc, (3, 2, 3)
    yield list_grid_scan([], *lists, snake_axes={c}), abc, (3, 2, 3)


class TestBlueskyPlans:
    def test_absolute_plans_go_where_their_documents_say(self, RE, motors):
        for plan, names, shape in plans_of_all_kinds("", motors):
            assert_described(Recorded(RE, plan), names, shape)

    def test_relative_plans_go_there_from_where_the_motors_were(self, RE, motors):
        offsets = {"a": 10.1, "b": -0.3, "c": 1e3}
        RE(bps.mv(*itertools.chain(*((m, offsets[m.name]) for m in motors[:3]))))
        for plan, names, shape in plans_of_all_kinds("rel_", motors):
            recorded = Recorded(RE, plan)
            assert recorded.start["plan_name"].startswith("rel_")
            assert_described(recorded, names, shape, offsets)

    def test_four_nested_motors_snake_as_bluesky_does(self, RE, motors):
        a, b, c, d = motors
        args = (a, 0, 1, 3, b, 0, 1, 2, c, 0, 1, 3, d, 0, 1, 2)
        for snaked in itertools.product((False, True), repeat=3):
            snake_axes = [motor for motor, snake in zip((b, c, d), snaked, strict=True) if snake]
            recorded = Recorded(RE, bp.grid_scan([], *args, snake_axes=snake_axes))
            geometry = assert_described(recorded, ("a", "b", "c", "d"), (3, 2, 3, 2))
            assert tuple(dim.snaked for dim in geometry.dims) == recorded.start["snaking"]

    @pytest.mark.parametrize("num", [1, 5])
    def test_count_is_in_order_of_events(self, RE, num):
        for doc in Recorded(RE, bp.count([], num)).documents:
            assert ScanGeometry.from_start(doc) == ScanGeometry.events(num)

    def test_a_plan_of_its_own_order_is_in_order_of_events(self, RE, motors):
        a, b, *_ = motors
        grid = cycler(a, [0, 1]) * cycler(b, [0, 1, 2])
        plans = [
            (bp.scan_nd([], grid), 6),
            (bp.log_scan([], a, 0, 1, 3), 3),
            (bp.spiral_square([], a, b, 0, 0, 1, 1, 3, 3), 9),
        ]
        for plan, num in plans:
            for doc in Recorded(RE, plan).documents:
                assert ScanGeometry.from_start(doc) == ScanGeometry.events(num)

    def test_a_step_of_its_own_is_in_order_of_events(self, RE, motors):
        def twice(detectors, step, pos_cache, take_reading=bps.trigger_and_read):
            for _ in range(2):
                yield from bps.one_nd_step(detectors, step, pos_cache, take_reading)

        recorded = Recorded(RE, bp.grid_scan([], motors[0], 0, 1, 3, per_step=twice))
        assert len(recorded.points) == 6
        for doc in recorded.documents:
            assert ScanGeometry.from_start(doc) == ScanGeometry.events(3)


def list_grid_document(snake_axes, representations=("m", "m2", "m, m3"), **others):
    args = itertools.chain(*((text, [0, 1]) for text in representations))
    return {
        "plan_name": "list_grid_scan",
        "motors": ["x", "y", "z"],
        "snake_axes": snake_axes,
        "plan_args": {"args": list(args), "per_step": "None"},
        **others,
    }


class TestDocuments:
    """What a start document may say beside what bluesky's plans write."""

    def test_a_spec_comes_first(self):
        spec = Linspace("y", 0, 1, 2) * ~Linspace("x", 0, 1, 3)
        doc = {"plan_name": "nested_scan", "scanspec": spec.serialize(), "num_points": 6}
        assert ScanGeometry.from_start(doc) == ScanGeometry.from_spec(spec)

    @pytest.mark.parametrize("num", [None, "many", 0, -1])
    def test_the_number_of_points_may_be_unknown(self, num):
        assert ScanGeometry.from_start({"plan_name": "count", "num_points": num}).size == 0
        assert ScanGeometry.from_start({"plan_name": "count"}).size == 0

    def test_the_number_of_points_may_be_numpys(self):
        assert ScanGeometry.from_start({"num_points": np.int64(4)}) == ScanGeometry.events(4)

    @pytest.mark.parametrize(
        ("snake_axes", "snaked"),
        [
            ("True", [False, True, True]),
            ("None", [False, False, False]),
            ("[]", [False, False, False]),
            ("[m2]", [False, True, False]),
            ("(m2,)", [False, True, False]),
            ("[m, m2]", [False, True, False]),
            ("{m2, m}", [False, True, False]),
        ],
    )
    def test_snaked_axes_are_found_by_whole_representations(self, snake_axes, snaked):
        geometry = ScanGeometry.from_start(list_grid_document(snake_axes))
        assert [dim.snaked for dim in geometry.dims] == snaked

    @pytest.mark.parametrize(
        "doc",
        [
            list_grid_document("[m4]", num_points=8),
            list_grid_document("<generator object>", num_points=8),
            list_grid_document("[m]", ("m", "m", "m2"), num_points=8),
            list_grid_document("False", num_points=8, motors=["x", "y"]),
            list_grid_document("False", num_points=8, motors=["x", "y", "x"]),
            list_grid_document("False", num_points=8, motors=None),
            list_grid_document("False", num_points=8, plan_args="gone"),
            list_grid_document("False", num_points=8, plan_args={"args": []}),
            list_grid_document("False", num_points=8, plan_args={"args": [], "per_step": "f"}),
            {"num_points": 8, "scanspec": "a note of the user"},
            {"num_points": 8, "scanspec": {"type": "Nope"}},
            {"num_points": 8, "scanspec": grid_spec((2, 3), (False, False)).serialize()},
            {
                "num_points": 8,
                "plan_name": "list_scan",
                "motors": ["filter"],
                "plan_args": {"args": ["m", ["in", "out"] * 4], "per_step": "None"},
            },
            {
                "num_points": 8,
                "plan_name": "scan",
                "motors": ["x"],
                "plan_args": {"args": ["m", "left", "right"], "num": 8, "per_step": "None"},
            },
        ],
        ids=lambda doc: str(doc)[:60],
    )
    def test_what_is_not_described_truly_is_in_order_of_events(self, doc):
        assert ScanGeometry.from_start(doc) == ScanGeometry.events(8)

    def test_too_deep_a_stock_plan_is_in_order_of_events(self):
        args = [f"m{i}" if j == 0 else [0] for i in range(11) for j in range(2)]
        doc = {
            "plan_name": "list_grid_scan",
            "motors": [f"m{i}" for i in range(11)],
            "num_points": 1,
            "snake_axes": "False",
            "plan_args": {"args": args, "per_step": "None"},
        }
        assert ScanGeometry.from_start(doc) == ScanGeometry.events(1)
