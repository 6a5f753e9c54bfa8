import numpy as np
import pytest

from bluesky_zarr.peaks import Peak, find_peaks_nd, fit_peaks_nd
from bluesky_zarr.peaks._surface import Surface


def grid(*sizes: int):
    return np.stack(np.meshgrid(*map(np.arange, sizes), indexing="ij"), -1).reshape(
        -1, len(sizes)
    ) * np.ones(len(sizes))


def gaussian(points, center, fwhm, height):
    u2 = (((points - np.array(center)) / np.array(fwhm)) ** 2).sum(axis=1)
    return height * np.exp(-4 * np.log(2) * u2)


def test_peaks_on_a_grid_come_most_prominent_first():
    points = grid(30, 40)
    signal = gaussian(points, (8, 10), (4, 6), 300) + gaussian(points, (20, 30), (5, 5), 900)
    first, second = find_peaks_nd(points, signal, prominence=50)
    assert first.centers == pytest.approx((20, 30), abs=0.1)
    assert second.centers == pytest.approx((8, 10), abs=0.1)
    assert second.fwhms == pytest.approx((4, 6), rel=0.25)
    assert second.prominence == pytest.approx(300, rel=0.02)


def test_the_order_of_the_points_does_not_matter():
    points = grid(12, 15)
    signal = gaussian(points, (5, 9), (4, 4), 100)
    order = np.random.default_rng(1).permutation(len(points))
    assert find_peaks_nd(points[order], signal[order], prominence=9)[0].centers == pytest.approx(
        find_peaks_nd(points, signal, prominence=9)[0].centers
    )


def test_peaks_are_found_among_scattered_points():
    points = np.random.default_rng(2).uniform(0, 20, (500, 2))
    signal = gaussian(points, (6, 13), (4, 5), 100)
    (peak,) = find_peaks_nd(points, signal, prominence=20)
    assert peak.centers == pytest.approx((6, 13), abs=0.5)


def test_peaks_are_found_over_three_axes():
    points = grid(9, 10, 11)
    (peak,) = find_peaks_nd(points, gaussian(points, (4, 5, 6), (3, 3, 4), 50), prominence=9)
    assert peak.centers == pytest.approx((4, 5, 6), abs=0.1)


def test_noise_alone_is_no_peak_and_the_strongest_candidate_is_named():
    points = grid(20, 20)
    found = find_peaks_nd(points, np.random.default_rng(3).poisson(50, 400))
    assert not found
    assert found.why.startswith("no peak: the strongest candidate, at (")
    assert "which noise of" in found.why


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"prominence": 150}, "prominence 100 is below the 150 asked for"),
        ({"height": 200}, "height 110 is below the 200 asked for"),
        ({"width": (2, 9)}, "is below the 2 x 9 asked for"),
    ],
)
def test_a_candidate_that_is_not_what_was_asked_for_is_rejected_with_the_reason(asked, why):
    points = grid(20, 20)
    found = find_peaks_nd(points, 10 + gaussian(points, (8, 9), (4, 4), 100), **asked)
    assert not found
    assert why in found.rejected[0].why
    assert why in found.why


def test_of_two_peaks_that_are_too_close_the_higher_one_is_kept():
    points = grid(30, 30)
    signal = gaussian(points, (10, 10), (4, 4), 100) + gaussian(points, (10, 16), (4, 4), 80)
    assert len(find_peaks_nd(points, signal, prominence=20)) == 2
    found = find_peaks_nd(points, signal, prominence=20, distance=7)
    assert [peak.centers[1] for peak in found] == pytest.approx([10], abs=0.2)
    assert found.rejected[0].why == "a higher one is closer than the 7 asked for"


def test_the_upper_end_of_a_slope_is_no_peak():
    points = grid(20, 20)
    found = find_peaks_nd(points, 10 * points[:, 0] + points[:, 1], sigma=1.0)
    assert not found
    assert "does not look like a side of a peak" in found.why


def test_a_constant_signal_has_no_peak():
    assert find_peaks_nd(grid(5, 5), np.full(25, 7.0)).why == "no peak: the signal is constant, 7"


def test_points_that_are_not_finite_are_left_out():
    points = grid(20, 20)
    signal = gaussian(points, (8, 9), (4, 4), 100)
    signal[::7] = np.nan
    (peak,) = find_peaks_nd(points, signal, prominence=30)
    assert peak.centers == pytest.approx((8, 9), abs=0.5)


@pytest.mark.parametrize(
    ("points", "values", "sigma", "words"),
    [
        (np.zeros(5), np.zeros(5), None, "2 axes or more"),
        (np.zeros((5, 1)), np.zeros(5), None, "find_peaks and fit_peaks"),
        (np.zeros((5, 2)), np.zeros(4), None, r"values \(4,\)"),
        (np.zeros((5, 2)), np.zeros(5), 0.0, "sigma is 0 somewhere"),
        (np.zeros((5, 2)), np.zeros(5), np.ones(3), r"sigma has the shape \(3,\)"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(points, values, sigma, words):
    with pytest.raises(ValueError, match=words):
        find_peaks_nd(points, values, sigma)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "pseudo-voigt"])
def test_a_fit_finds_centre_and_widths_of_each_shape(shape):
    points = grid(16, 20)
    u2 = (((points - (7.3, 9.1)) / (4.0, 6.0)) ** 2).sum(axis=1)
    fraction = {"gaussian": 0.0, "lorentzian": 1.0, "pseudo-voigt": 0.4}[shape]
    signal = 20 + 500 * (fraction / (1 + 4 * u2) + (1 - fraction) * np.exp(-4 * np.log(2) * u2))
    start = [Peak(center=(7, 9), fwhm=(5, 5), height=400)]
    fit = fit_peaks_nd(points, signal, 5.0, peaks=start, shape=shape)
    (peak,) = fit.peaks
    assert peak.centers == pytest.approx((7.3, 9.1), abs=1e-3)
    assert peak.fwhms == pytest.approx((4, 6), rel=1e-3)
    assert peak.background == pytest.approx(20, abs=0.1)
    assert fit.surface(points) == pytest.approx(signal, abs=0.5)


def test_errors_of_counts_are_those_that_repeated_fits_scatter_by():
    points = grid(12, 12)
    rate = 10 + gaussian(points, (5.2, 6.1), (4, 5), 200)
    rng = np.random.default_rng(4)
    fits = [
        fit_peaks_nd(points, rng.poisson(rate), peaks=[Peak((5, 6), (4, 4), 150.0)]).peaks[0]
        for _ in range(60)
    ]
    for k in range(2):
        centers = np.array([peak.centers[k] for peak in fits])
        widths = np.array([peak.fwhms[k] for peak in fits])
        errors = np.array([(peak.center_error[k], peak.fwhm_error[k]) for peak in fits])
        assert centers.std() == pytest.approx(np.median(errors[:, 0]), rel=0.35)
        assert widths.std() == pytest.approx(np.median(errors[:, 1]), rel=0.35)


def test_two_peaks_that_blend_are_fitted_together():
    points = grid(20, 20)
    signal = gaussian(points, (8, 8), (5, 5), 100) + gaussian(points, (12, 13), (5, 4), 60)
    start = [Peak((7.5, 8), (4, 4), 80.0), Peak((12, 13.5), (4, 4), 80.0)]
    one, other = fit_peaks_nd(points, signal, 1.0, peaks=start).peaks
    assert one.centers == pytest.approx((8, 8), abs=1e-2)
    assert other.centers == pytest.approx((12, 13), abs=1e-2)
    assert other.fwhms == pytest.approx((5, 4), abs=1e-2)


def test_the_width_of_an_inclined_peak_is_that_of_a_cut_along_each_axis():
    points = grid(30, 30)
    y, x = ((points - (14, 15)) / (5, 7)).T
    signal = 80 * np.exp(-4 * np.log(2) * (y * y + x * x + 2 * 0.6 * x * y))
    fit = fit_peaks_nd(points, signal, 1.0, rotated=True)
    assert fit.peaks[0].fwhms == pytest.approx((5, 7), rel=1e-3)
    upright = fit_peaks_nd(points, signal, 1.0)
    assert upright.chi_squared > 10 * fit.chi_squared


def test_a_slope_under_a_peak_is_fitted_in_the_units_of_the_axes():
    points = grid(20, 20) * (1e-6, 50)
    signal = 100 + 2e6 * points[:, 0] - 0.3 * points[:, 1]
    signal += gaussian(points, (9e-6, 500), (4e-6, 250), 300)
    start = [Peak((9.5e-6, 520), (5e-6, 200), 200.0)]
    fit = fit_peaks_nd(points, signal, 1.0, peaks=start, background="linear")
    assert fit.background == pytest.approx((100, 2e6, -0.3), rel=0.01)
    assert fit.peaks[0].centers == pytest.approx((9e-6, 500), rel=1e-3)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"shape": "boxcar"}, "shape 'boxcar' is not known: take one of gaussian"),
        ({"background": "cubic"}, "background 'cubic' is not known: take constant or linear"),
        ({"peaks": []}, "needs peaks to start from"),
        ({"peaks": [Peak(1.0, 1.0, 1.0)]}, "has 1 axes, the points 2"),
        ({"peaks": [Peak((1, 1), (1, 1), 1.0)] * 5}, "25 readings do not determine 26 parameters"),
        ({}, "the signal is constant, 1; give peaks"),
    ],
)
def test_a_fit_that_cannot_be_made_is_refused_with_the_reason(given, words):
    with pytest.raises(ValueError, match=words):
        fit_peaks_nd(grid(5, 5), np.ones(25), **given)


@pytest.mark.parametrize("axes", [2, 3])
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"rotated": True},
        {"mixed": True},
        {"rotated": True, "mixed": True},
        {"rotated": True, "mixed": True, "flat": "disc"},
        {"mixed": True, "flat": "box"},
    ],
    ids=str,
)
def test_the_derivatives_are_those_of_the_surface(axes, kind):
    surface = Surface(axes, 2, sloped=True, **kind)
    rng = np.random.default_rng(axes)
    points = rng.uniform(-2, 2, (40, axes))
    centers, fwhms = rng.uniform(-1, 1, (2, axes)), rng.uniform(1, 2, (2, axes))
    p = surface.start(5.0, np.array([30.0, 80.0]), centers, fwhms)
    p[1 : surface.first] = rng.uniform(-1, 1, axes)
    for k in range(2):
        p[surface.at(k)][1 + 2 * axes :] = rng.uniform(0.1, 0.3, surface.each - 1 - 2 * axes)
    peaks, _, rows = surface.evaluate(p, points)
    np.testing.assert_allclose(surface.curve(p, points), peaks)
    for k in range(surface.size):
        step = np.zeros(surface.size)
        step[k] = 1e-6
        more, less = (surface.evaluate(p + sign * step, points)[1] for sign in (1, -1))
        np.testing.assert_allclose(rows[k], (more - less) / 2e-6, rtol=1e-5, atol=1e-5)
