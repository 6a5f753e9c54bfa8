"""Each level of a spec is a dim, with the axes that move along it."""

import json

import numpy as np
import pytest
from ophyd_async.sim import SimMotor
from scanspec.specs import (
    Concat,
    ConstantDuration,
    Ellipse,
    Fly,
    Linspace,
    Polygon,
    Range,
    Spiral,
    Squash,
    Static,
)

from bluesky_zarr.geometry import Coordinate, ScanGeometry
from tests.geometry.specs import assert_runs_as_scanspec_does, grid_spec


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
