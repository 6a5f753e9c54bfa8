"""Numbers computed from frames."""

from __future__ import annotations

import math

import numpy as np
import pytest

from bluesky_zarr.devices import DEFAULT_SCALARS, LiveScalar, region

SCALARS = {scalar.suffix: scalar.compute for scalar in DEFAULT_SCALARS}


def spot(y: int, x: int, shape: tuple[int, ...] = (8, 10), dtype: str = "uint16") -> np.ndarray:
    frame = np.zeros(shape, dtype)
    frame[..., y, x] = 60_000
    return frame


def test_every_camera_has_these() -> None:
    assert list(SCALARS) == ["sum", "max", "centroid_x", "centroid_y"]


def test_a_spot_is_found() -> None:
    frame = spot(2, 7)
    assert SCALARS["centroid_y"](frame) == 2.0
    assert SCALARS["centroid_x"](frame) == 7.0
    assert SCALARS["max"](frame) == 60_000.0


def test_a_centroid_is_weighted_by_the_pixels() -> None:
    frame = np.array([[1, 0, 3]], dtype="uint8")
    assert SCALARS["centroid_x"](frame) == 1.5


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_sums_do_not_overflow(dtype: str) -> None:
    frame = np.full((1000, 1000), 120, dtype)
    assert SCALARS["sum"](frame) == 120e6
    assert SCALARS["centroid_x"](frame) == pytest.approx(499.5)


def test_an_empty_frame_has_no_centroid() -> None:
    assert math.isnan(SCALARS["centroid_x"](np.zeros((4, 4), "uint16")))
    assert SCALARS["sum"](np.zeros((4, 4), "uint16")) == 0.0


def test_a_volume_has_the_centroid_of_its_projection() -> None:
    frame = spot(2, 7, shape=(3, 8, 10))
    assert (SCALARS["centroid_y"](frame), SCALARS["centroid_x"](frame)) == (2.0, 7.0)


def test_a_spectrum_has_no_rows() -> None:
    frame = np.array([0, 0, 5], "uint16")
    assert SCALARS["centroid_x"](frame) == 2.0
    assert math.isnan(SCALARS["centroid_y"](frame))


def test_a_region_is_summed() -> None:
    peak = region("peak", slice(1, 4), slice(6, 9))
    assert peak.suffix == "peak-sum"
    assert peak.compute(spot(2, 7)) == 60_000.0
    assert peak.compute(spot(5, 7)) == 0.0


def test_a_region_outside_of_the_frame_is_refused() -> None:
    outside = region("peak", slice(20, 30), slice(0, 5))
    with pytest.raises(
        ValueError, match=r"region 'peak' \(y 20:30, x 0:5\) has no pixel .*\(8, 10\)"
    ):
        outside.compute(spot(0, 0))


@pytest.mark.parametrize("suffix", ["", "a/b"])
def test_a_name_that_makes_no_reading_is_refused(suffix: str) -> None:
    with pytest.raises(ValueError, match="cannot be called"):
        LiveScalar(suffix, float)
    with pytest.raises(ValueError, match=r"A region needs a name|cannot be called"):
        region(suffix, slice(0, 1), slice(0, 1))
