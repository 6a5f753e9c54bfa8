"""What the start documents of bluesky's own plans say, against where the plans go."""

import itertools
import json

import numpy as np
import pytest
from bluesky import plan_stubs as bps
from bluesky import plans as bp
from cycler import cycler
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from tests.conftest import an_engine
from tests.geometry.specs import grid_spec


@pytest.fixture(scope="module")
def RE():
    with an_engine() as engine:
        yield engine


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
