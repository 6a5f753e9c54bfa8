"""The simulated sample: the same each time, and different wherever one looks."""

from __future__ import annotations

import numpy as np
import pytest

from bluesky_zarr.devices import SimSample, SpectralLine

LINE = SpectralLine(center=7.1, fwhm=0.1, height=2.0)


@pytest.fixture(scope="module")
def sample() -> SimSample:
    return SimSample(seed=11)


def test_the_seed_makes_the_sample(sample: SimSample) -> None:
    frame = sample.expected(0, 0, 7.11, shape=(32, 32))
    np.testing.assert_array_equal(SimSample(seed=11).expected(0, 0, 7.11, shape=(32, 32)), frame)
    assert not np.array_equal(SimSample(seed=12).expected(0, 0, 7.11, shape=(32, 32)), frame)


def test_moving_by_a_pixel_shifts_the_picture_by_a_pixel(sample: SimSample) -> None:
    here = sample.expected(0, 0, 7.11, shape=(50, 60), field_of_view=0.6)
    right = sample.expected(0.01, 0, 7.11, shape=(50, 60), field_of_view=0.6)
    up = sample.expected(0, 0.01, 7.11, shape=(50, 60), field_of_view=0.6)
    assert np.ptp(here) > 0
    np.testing.assert_allclose(right[:, :-1], here[:, 1:], rtol=1e-6)
    np.testing.assert_allclose(up[:-1], here[1:], rtol=1e-6)


def test_two_frames_side_by_side_are_one_wide_one(sample: SimSample) -> None:
    wide = sample.expected(0, 0, 7.2, shape=(20, 80), field_of_view=0.8)
    left = sample.expected(-0.2, 0, 7.2, shape=(20, 40), field_of_view=0.4)
    right = sample.expected(0.2, 0, 7.2, shape=(20, 40), field_of_view=0.4)
    np.testing.assert_allclose(np.hstack([left, right]), wide, rtol=1e-6)


def test_substances_shine_at_their_lines(sample: SimSample) -> None:
    def total(wavelength: float | None) -> float:
        return sample.expected(0, 0, wavelength, shape=(64, 64), field_of_view=3).sum()

    assert total(7.0) < total(7.05) < total(7.11)
    assert total(7.11) < total(None)  # white light


def test_a_line_has_its_height_and_its_width() -> None:
    assert LINE.at(7.1) == 2.0
    assert LINE.at(7.05) == LINE.at(7.15) == 1.0


def test_far_away_there_is_nothing_but_ground() -> None:
    sample = SimSample(ground=0.1, flux=1000)
    np.testing.assert_allclose(sample.expected(50, 50, 7.1, shape=(8, 8)), 100.0)


def test_a_point_detector_sees_the_mean_of_its_spot(sample: SimSample) -> None:
    spot = sample.expected(0.3, 0.1, 7.11, shape=(16, 16), field_of_view=0.2)
    assert sample.intensity(0.3, 0.1, 7.11, spot=0.2) == pytest.approx(100 * spot.mean())


def test_a_sample_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one substance"):
        SimSample(substances=[])
