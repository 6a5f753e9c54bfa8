"""Where a point of a scan sits in N-D, against scanspec's own order."""

import gc
import itertools
import json
import pickle
import tracemalloc
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scanspec.specs import Linspace, Snake, Static

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry, check_depth
from tests.geometry.specs import assert_runs_as_scanspec_does, grid_spec


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
