"""Dims and the coordinates along them are checked when they are made, and never change."""

import numpy as np
import pytest

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry


def test_values_are_copied_and_cannot_be_changed():
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
def test_positions_are_finite_numbers(values, words):
    with pytest.raises(ValueError, match=words):
        Coordinate("x", values)


def test_a_coordinate_is_as_long_as_its_dim():
    with pytest.raises(ValueError, match="'x' has 2 positions along dim 'x' of size 3"):
        Dim("x", 3, coordinates=(Coordinate("x", np.zeros(2)),))


def test_dims_exist_and_have_their_own_names():
    with pytest.raises(ValueError, match="has no dim"):
        ScanGeometry(())
    with pytest.raises(ValueError, match=r"named \('a', 'a'\); give each a name of its own"):
        ScanGeometry((Dim("a", 2), Dim("a", 2)))
