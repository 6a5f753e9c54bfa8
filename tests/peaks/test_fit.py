import numpy as np
import pytest

from bluesky_zarr.peaks import Peak, fit_peaks
from bluesky_zarr.peaks._models import Model

LN16 = 4 * np.log(2)


def gaussian(x, center, fwhm, height):
    return height * np.exp(-LN16 * ((x - center) / fwhm) ** 2)


def lorentzian(x, center, fwhm, height):
    return height / (1 + 4 * ((x - center) / fwhm) ** 2)


def counts(rate, seed=0):
    return np.random.default_rng(seed).poisson(rate)


X = np.linspace(0, 20, 81)


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "pseudo-voigt", "flat-top"])
@pytest.mark.parametrize("degree", [0, 1, 2])
def test_the_derivatives_are_those_of_the_curve(shape, degree):
    model = Model(X, [shape, shape], degree)
    rng = np.random.default_rng(1)
    p = np.concatenate(([7.0, 9.5], np.log([2.0, 3.0]), [80.0, 50.0], rng.uniform(0.3, 0.7, 5)))
    p = p[: model.size]
    _, _, rows = model.evaluate(p)
    for k in range(model.size):
        step = np.zeros(model.size)
        step[k] = 1e-6
        slope = (model.evaluate(p + step)[1] - model.evaluate(p - step)[1]) / 2e-6
        np.testing.assert_allclose(rows[k], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("shape", "curve"), [("gaussian", gaussian), ("lorentzian", lorentzian)])
def test_a_curve_without_noise_is_found_again_exactly(shape, curve):
    fit = fit_peaks(X, 3 + 0.5 * X + curve(X, 8.3, 2.1, 40), peaks=[8.0])
    (peak,) = fit.peaks
    assert (peak.center, peak.fwhm, peak.height) == pytest.approx((8.3, 2.1, 40), rel=1e-3)
    assert peak.background == pytest.approx(3 + 0.5 * 8.3, rel=0.02)
    assert fit.background == pytest.approx((3, 0.5), rel=0.02)
    assert peak.shape == fit.shape == shape
    assert fit.curve(8.3)[0] == pytest.approx(3 + 0.5 * 8.3 + 40, rel=1e-3)


def test_a_mixture_is_a_pseudo_voigt_with_its_fraction():
    y = 2 + 0.6 * lorentzian(X, 9, 2, 100) + 0.4 * gaussian(X, 9, 2, 100)
    fit = fit_peaks(X, y, sigma=0.1, peaks=[9.2])
    assert fit.shape == "pseudo-voigt"
    assert fit.peaks[0].mixing == pytest.approx(0.6, abs=0.01)
    assert fit.peaks[0].fwhm == pytest.approx(2, rel=1e-3)


def test_a_flat_top_is_fitted_where_it_is_asked_for():
    y = 2 + 100 * np.exp2(-((2 * np.abs(X - 9) / 6) ** 10))
    fit = fit_peaks(X, y, sigma=0.1, peaks=[9.2], shape="flat-top")
    assert fit.peaks[0].center == pytest.approx(9, rel=1e-3)
    assert fit.peaks[0].fwhm == pytest.approx(6, rel=1e-3)
    assert fit.peaks[0].mixing == pytest.approx(0.8, abs=0.01)


def test_a_doublet_is_fitted_as_two_peaks_in_the_order_given():
    y = counts(10 + gaussian(X, 8, 2, 1000) + gaussian(X, 10.2, 2, 600))
    fit = fit_peaks(X, y, peaks=[10.5, 7.5])
    assert [peak.center for peak in fit.peaks] == pytest.approx([10.2, 8.0], abs=0.1)
    assert [peak.fwhm for peak in fit.peaks] == pytest.approx([2, 2], rel=0.1)
    assert 0.5 < fit.chi_squared < 1.6


def test_a_curved_background_is_a_matter_of_a_name():
    y = 5 + 0.2 * (X - 10) ** 2 + gaussian(X, 9, 1.5, 30)
    fit = fit_peaks(X, y, sigma=0.1, peaks=[9], shape="gaussian", background="quadratic")
    assert fit.peaks[0].fwhm == pytest.approx(1.5, rel=1e-3)
    assert fit.background == pytest.approx((25, -4, 0.2), rel=1e-2)
    assert len(fit.background) == 3


def test_the_order_of_the_points_does_not_matter():
    y = counts(10 + gaussian(X, 8, 2, 300))
    order = np.random.default_rng(3).permutation(X.size)
    one, other = fit_peaks(X, y, peaks=[8]), fit_peaks(X[order], y[order], peaks=[8])
    assert one.peaks[0].center == pytest.approx(other.peaks[0].center)


def test_errors_of_counts_are_what_the_centers_scatter_by():
    pulls = []
    for seed in range(200):
        y = counts(20 + gaussian(X, 9.1, 3, 60), seed)
        (peak,) = fit_peaks(X, y, peaks=[9], shape="gaussian", background="constant").peaks
        pulls.append(
            (
                (peak.center - 9.1) / peak.center_error,
                (peak.fwhm - 3) / peak.fwhm_error,
                (peak.height - 60) / peak.height_error,
            )
        )
    np.testing.assert_allclose(np.std(pulls, axis=0), 1, atol=0.2)
    np.testing.assert_allclose(np.mean(pulls, axis=0), 0, atol=0.3)


def test_low_counts_do_not_pull_the_background_down():
    levels = []
    for seed in range(100):
        y = counts(2 + gaussian(X, 10, 3, 20), seed)
        levels.append(fit_peaks(X, y, peaks=[10], shape="gaussian", background="constant"))
    assert np.mean([fit.background[0] for fit in levels]) == pytest.approx(2, abs=0.12)


def test_errors_of_other_signals_follow_from_what_the_fit_leaves():
    rng = np.random.default_rng(5)
    for scale in (1e-9, 1.0, 1e6):
        y = scale * (gaussian(X, 9, 3, 1.0) - 5 + rng.normal(0, 0.05, X.size))
        (peak,) = fit_peaks(X, y, peaks=[9], shape="gaussian").peaks
        assert peak.height_error == pytest.approx(0.025 * scale, rel=0.5)
        assert abs(peak.center - 9) < 4 * peak.center_error


def test_a_given_sigma_gives_chi_squared_its_meaning():
    y = gaussian(X, 9, 3, 1.0) + np.random.default_rng(6).normal(0, 0.1, X.size)
    assert fit_peaks(X, y, sigma=0.1, peaks=[9]).chi_squared == pytest.approx(1, abs=0.4)
    assert fit_peaks(X, y, np.full(X.size, 0.01), peaks=[9]).chi_squared > 50


def test_one_peak_does_not_describe_a_doublet_and_says_so():
    y = counts(10 + gaussian(X, 8, 2, 1000) + gaussian(X, 10.6, 2, 1000))
    assert fit_peaks(X, y, peaks=[9.3]).chi_squared > 20


@pytest.mark.parametrize("shape", ["gaussian", "lorentzian", "pseudo-voigt"])
def test_a_fit_of_the_wrong_shape_ends_too(shape):
    x = np.array([0, 16.7, 27.1, 33.3, 41.7, 50, 66.7, 83.3, 100])
    y = np.array([7, 47, 435, 896, 936, 421, 16, 16, 13])
    fit = fit_peaks(x, y, peaks=[38.0], shape=shape, background="constant")
    assert fit.converged
    assert fit.peaks[0].center == pytest.approx(38.3, abs=0.5)


def test_peaks_may_be_the_start():
    y = counts(10 + gaussian(X, 8, 2, 300))
    start = Peak(center=8.4, fwhm=1.0, height=100.0)
    assert fit_peaks(X, y, peaks=[start]).peaks[0].center == pytest.approx(8, abs=0.1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"peaks": []}, r"needs peaks to start from"),
        ({"y": np.ones(3)}, r"x has the shape \(81,\) and y \(3,\)"),
        ({"y": np.where(X > 19, np.nan, 1.0)}, r"4 values of y are not finite: leave these"),
        ({"sigma": 0.0}, r"sigma is a standard deviation, above zero"),
        ({"sigma": np.ones(4)}, r"sigma has the shape \(4,\), x \(81,\)"),
        ({"shape": "voigt"}, r"shape 'voigt' is not known: take one of gaussian, lorentzian"),
        ({"background": "cubic"}, r"background 'cubic' is not known: take one of constant"),
        ({"x": X[:4], "y": X[:4]}, r"4 readings do not determine 5 parameters"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, words):
    given = {"x": X, "y": 1 + gaussian(X, 8, 2, 30), "sigma": None, "peaks": [8.0]} | change
    x, y, sigma = (given.pop(name) for name in ("x", "y", "sigma"))
    with pytest.raises(ValueError, match=words):
        fit_peaks(x, y, sigma, **given)
