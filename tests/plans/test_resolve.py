import numpy as np
import pytest

from bluesky_zarr.plans._resolve import Resolve
from bluesky_zarr.plans._resolve._spot import Spot
from bluesky_zarr.plans._strategy import Strategy
from tests.plans.searching import counts, gaussians, line, run

SEEDS = range(5)


def level(value=50.0):
    return lambda points: np.full(len(points), float(value))


def edge(points):
    return np.where(points[:, 0] < 41, 20.0, 820.0)


def assert_found(done, *expected, width=0.2):
    """Each expected (center, fwhm) is there, and nothing else."""
    found = sorted(done.outcome.peaks, key=lambda peak: peak.center)
    assert len(found) == len(expected), (found, done.outcome.why)
    for peak, (center, fwhm) in zip(found, sorted(expected), strict=True):
        assert abs(peak.center - center) < 0.1 * fwhm
        assert abs(peak.fwhm - fwhm) < width * fwhm
        assert peak.resolved
    assert done.outcome.why == ""


def test_it_is_a_strategy():
    assert isinstance(Resolve(), Strategy)


@pytest.mark.parametrize("name", ["center_error", "fwhm_error", "significance", "spacing"])
def test_a_setting_that_is_not_above_zero_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1: give a number above zero"):
        Resolve(**{name: -1})


@pytest.mark.parametrize(("fwhm", "most"), [(20, 16), (5, 26), (1, 90)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_peak_takes_few_points_beyond_the_coarse_pass(fwhm, most, seed):
    done = run(Resolve(), line(fwhm), counts(gaussians((43.7, fwhm, 1000)), seed))
    assert_found(done, (43.7, fwhm))
    assert len(done.points) <= most


@pytest.mark.parametrize("seed", SEEDS)
def test_a_peak_between_two_coarse_points_is_found(seed):
    coarse = next(Resolve().search(line(1))).points[:, 0]
    center = (coarse[20] + coarse[21]) / 2
    assert_found(run(Resolve(), line(1), counts(gaussians((center, 1, 1000)), seed)), (center, 1))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("apart", [4.0, 2.6])
def test_a_doublet_is_two_peaks(apart, seed):
    rate = gaussians((50.3, 2, 1000), (50.3 + apart, 2, 800))
    assert_found(run(Resolve(), line(2), counts(rate, seed)), (50.3, 2), (50.3 + apart, 2))


@pytest.mark.parametrize("seed", SEEDS)
def test_peaks_of_all_widths_and_heights_are_found(seed):
    rate = gaussians((12, 1, 400), (30, 5, 300), (52, 2, 3000), (71, 3, 500), (90, 1.5, 1500))
    done = run(Resolve(), line(1), counts(rate, seed))
    assert_found(done, (12, 1), (30, 5), (52, 2), (71, 3), (90, 1.5))


@pytest.mark.parametrize("seed", SEEDS)
def test_long_tails_make_a_lorentzian_not_more_peaks(seed):
    def rate(points):
        return 20 + 2000 / (1 + 4 * ((points[:, 0] - 61.3) / 2) ** 2)

    done = run(Resolve(), line(2), counts(rate, seed))
    assert_found(done, (61.3, 2))
    assert done.outcome.peaks[0].shape != "gaussian"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_long_tails_of_neighbours_are_no_background(scale, seed):
    lines = ((7.11, 0.05, 7e6), (7.21, 0.06, 7e6), (7.30, 0.04, 6e6), (7.37, 0.02, 3e6))

    def rate(points):
        tails = (h / (1 + 4 * ((points[:, 0] - c) / w) ** 2) for c, w, h in lines)
        return scale * (2.5e6 + sum(tails))

    done = run(Resolve(), line(0.02, 7.0, 7.4), counts(rate, seed))
    assert_found(done, *((center, fwhm) for center, fwhm, _ in lines))
    assert len(done.points) < 50


def test_a_peak_that_no_curve_describes_is_not_resolved():
    def rate(points):
        x = points[:, 0] - 33
        return 10 + 1e6 * np.exp(-4 * np.log(2) * (x / np.where(x < 0, 2, 5)) ** 2)

    done = run(Resolve(), line(2), counts(rate, 3))
    assert not any(peak.resolved for peak in done.outcome.peaks)
    assert "its curve does not describe the readings, chi-squared is " in done.outcome.why


@pytest.mark.parametrize("height", [1000, 100_000])
def test_a_lopsided_peak_is_one_peak(height):
    def rate(points):
        x = points[:, 0] - 33
        return 10 + height * np.exp(-4 * np.log(2) * (x / np.where(x < 0, 2, 4)) ** 2)

    done = run(Resolve(), line(2), counts(rate, 3))
    assert sum(abs(peak.center - 33.5) < 5 for peak in done.outcome.peaks) == 1
    assert len(done.points) < 150


def test_a_weak_peak_is_found_by_measuring_more():
    rate = gaussians((57.2, 6, 30), background=100)
    found = 0
    for seed in range(10):
        done = run(Resolve(), line(6), counts(rate, seed))
        peaks = done.outcome.peaks
        good = [p for p in peaks if abs(p.center - 57.2) < 1 and abs(p.fwhm - 6) < 1.8]
        found += len(peaks) == len(good) == 1 and len(done.points) <= 170
    assert found >= 7


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("narrowest", "mean"), [(1, 50), (3, 5), (8, 500)])
def test_noise_alone_has_no_peak_and_costs_little(narrowest, mean, seed):
    done = run(Resolve(), line(narrowest), counts(level(mean), seed))
    assert done.outcome.peaks == ()
    assert len(done.points) <= max(80, 1.3 * len(done.passes[0].points))
    assert "No peak: the strongest candidate, at " in done.outcome.why
    assert " has a prominence of " in done.outcome.why
    assert "significance=5 was asked" in done.outcome.why


@pytest.mark.parametrize("seed", SEEDS)
def test_a_step_is_no_peak(seed):
    assert run(Resolve(), line(2), counts(edge, seed)).outcome.peaks == ()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "rate",
    [
        lambda points: 5 + 3 * points[:, 0],
        lambda points: 40 + 800 * np.exp(-points[:, 0] / 30),
        lambda points: 100 + 0.15 * (points[:, 0] - 40) ** 2,
    ],
    ids=["slope", "decay", "valley"],
)
def test_a_smooth_background_is_no_peak(rate, seed):
    assert run(Resolve(), line(2), counts(rate, seed)).outcome.peaks == ()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    "background",
    [
        lambda points: 3000 - 25 * points[:, 0],
        lambda points: 50 + 0.4 * (points[:, 0] - 40) ** 2,
        lambda points: 30 + 2000 * np.exp(-points[:, 0] / 15),
    ],
    ids=["slope", "valley", "decay"],
)
def test_a_peak_on_a_background_that_is_not_level_keeps_its_place(background, seed):
    def rate(points):
        return background(points) + gaussians((53.1, 3, 700), background=0)(points)

    assert_found(run(Resolve(), line(3), counts(rate, seed)), (53.1, 3))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_peak_on_a_slope_needs_no_counts(seed):
    rng = np.random.default_rng(seed)

    def signal(points):
        peak = 20 * np.exp(-4 * np.log(2) * ((points[:, 0] - 28.8) / 4) ** 2)
        return 3 * points[:, 0] - 40 + peak + rng.normal(0, 1, len(points))

    assert_found(run(Resolve(), line(3), signal), (28.8, 4))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("apart", [7, 14])
def test_a_step_beside_a_peak_is_not_part_of_it(apart, seed):
    def rate(points):
        return (
            30 + 300 * (points[:, 0] > 50 - apart) + gaussians((50, 3, 800), background=0)(points)
        )

    assert_found(run(Resolve(), line(2), counts(rate, seed)), (50, 3))


@pytest.mark.parametrize("unit", [1e-18, 1e-15, 1.0, 1e20, 1e60])
@pytest.mark.parametrize("noise", [0, 1])
def test_the_unit_of_the_signal_does_not_matter(unit, noise):
    def signal(points):
        peak = 100 * np.exp2(-((2 * (points[:, 0] - 50) / 5) ** 2))
        return unit * (peak + noise * (5 + rng.normal(size=len(points))))

    rng = np.random.default_rng(3)
    assert_found(run(Resolve(), line(2), signal), (50, 5))


def test_a_flat_top_has_ended_however_far_away():
    spot = Spot(0.0, 1e-9, 2.0, 10.0, 2.0, shape="flat-top", fraction=0.95)
    with np.errstate(all="raise", under="ignore"):
        curve = spot.curve(np.array([-1e6, 0.0, 0.5e-9, 1.0]))
    np.testing.assert_allclose(curve, [0, 2, 1, 0], atol=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("fwhm", [6, 15])
def test_a_flat_top_is_one_peak_with_its_width(fwhm, seed):
    def rate(points):
        return 20 + 900 * np.exp2(-(np.abs(2 * (points[:, 0] - 43.7) / fwhm) ** 8))

    done = run(Resolve(), line(4), counts(rate, seed))
    assert_found(done, (43.7, fwhm))
    assert done.outcome.peaks[0].shape == "flat-top"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_blend_with_long_tails_is_two_peaks_and_nothing_below(seed):
    def rate(points):
        u2 = ((points[:, 0, None] - [[44.7, 49.1]]) / 2.2) ** 2
        return 20 + 750 * (1 / (1 + 4 * u2) + np.exp(-4 * np.log(2) * u2)).sum(axis=1)

    assert_found(run(Resolve(), line(2), counts(rate, seed)), (44.7, 2.2), (49.1, 2.2))


@pytest.mark.parametrize("seed", SEEDS)
def test_peaks_at_both_limits_are_found(seed):
    rate = gaussians((1.8, 2.5, 700), (98.3, 2.5, 900), background=15)
    assert_found(run(Resolve(), line(2), counts(rate, seed)), (1.8, 2.5), (98.3, 2.5))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_needle_on_a_hump_is_found_and_the_hump_costs_nothing(seed):
    rate = gaussians((37.3, 0.5, 600), (50, 60, 200), background=50)
    done = run(Resolve(), line(0.5), counts(rate, seed))
    assert_found(done, (37.3, 0.5))
    assert len(done.points) < len(done.passes[0].points) + 30


def test_what_is_wider_than_half_of_the_range_is_background_and_said_to_be():
    done = run(Resolve(), line(0.5), counts(gaussians((50, 60, 1000), background=0)))
    assert done.outcome.peaks == ()
    assert "it counts as background" in done.outcome.why


def test_a_wide_peak_is_found_where_it_was_asked_for():
    done = run(Resolve(), line(25), counts(gaussians((50, 50, 1000))))
    assert_found(done, (50, 50))


@pytest.mark.parametrize("center", [0.6, 2.4, 97.7])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_peak_at_the_limit_is_found(center, seed):
    done = run(Resolve(), line(2), counts(gaussians((center, 2, 1000)), seed))
    assert_found(done, (center, 2))
    assert done.points.min() >= 0
    assert done.points.max() <= 100


def test_an_axis_may_run_backwards():
    done = run(Resolve(), line(3, 100, 0), counts(gaussians((33.1, 3, 1000))))
    assert_found(done, (33.1, 3))
    for measure in done.passes:
        assert (np.diff(measure.points[:, 0]) < 0).all()


@pytest.mark.parametrize("start", [1e7, -3e-7])
def test_the_scale_of_the_axis_does_not_matter(start):
    span = abs(start) * 1e-5 if start > 1 else 6e-7
    center, fwhm = start + 0.4 * span, 0.03 * span
    scan = line(fwhm, start, start + span)
    assert_found(run(Resolve(), scan, counts(gaussians((center, fwhm, 1000)))), (center, fwhm))


@pytest.mark.parametrize("scale", [1e-9, 1.0])
@pytest.mark.parametrize("offset", [0.2, -7.0])
@pytest.mark.parametrize("noise", [0.0, 0.02])
def test_signals_need_not_be_counts(scale, offset, noise):
    rng = np.random.default_rng(4)
    rate = gaussians((62.1, 3, 1.0), background=offset)

    def volts(points):
        return scale * (rate(points) + rng.normal(0, noise, len(points)))

    done = run(Resolve(), line(3), volts)
    assert_found(done, (62.1, 3))
    assert len(done.points) < 50


@pytest.mark.parametrize(("gain", "offset"), [(0.1, 0), (10, 0), (7.3, 500)])
def test_counts_may_be_scaled_and_shifted(gain, offset):
    signal = counts(gaussians((62.1, 3, 1000)))
    done = run(Resolve(), line(3), lambda points: gain * signal(points) + offset)
    assert_found(done, (62.1, 3))
    noise = counts(level(10))
    assert not run(Resolve(), line(1), lambda at: gain * noise(at) + offset).outcome.peaks


def test_a_constant_signal_is_said_to_be_one():
    done = run(Resolve(), line(2), level(5.1))
    assert done.outcome.peaks == ()
    assert "the signal is constant, 5.1 at all 29 points" in done.outcome.why
    assert len(done.points) == 29


def test_one_wrong_reading_is_no_peak():
    rng = np.random.default_rng(7)
    first = []

    def spiked(points):
        values = rng.poisson(10, len(points)).astype(float)
        if not first:
            first.append(True)
            values[7] = 500
        return values

    assert run(Resolve(), line(2), spiked).outcome.peaks == ()


def test_each_peak_is_asked_for_once_and_before_it_gets_points():
    rate = gaussians((30, 3, 1000), (70, 3, 500))
    done = run(Resolve(), line(3), counts(rate))
    assert len(done.asked) == 2
    assert [type(request).__name__ for request in done.requests[:3]] == [
        "Measure",
        "Found",
        "Measure",
    ]
    assert {round(peak.center, -1) for peak in done.passes[1].peaks} == {30, 70}


def test_a_peak_that_is_not_approved_is_left_alone_and_reported():
    rate = gaussians((30, 3, 1000), (70, 3, 500))
    done = run(
        Resolve(),
        line(3),
        counts(rate),
        approve=lambda peaks: [peak for peak in peaks if peak.center < 50],
    )
    refused, resolved = sorted(done.outcome.peaks, key=lambda peak: peak.resolved)
    assert resolved.center == pytest.approx(30, abs=0.3)
    assert refused.center == pytest.approx(70, abs=3)
    assert refused.note == "not approved"
    assert "(not approved)" in done.outcome.why
    for measure in done.passes[1:]:
        assert (np.abs(measure.points - 70) > 5).all()


def test_the_limit_of_points_ends_the_search_and_names_what_is_open():
    rate = gaussians((30, 3, 1000), (70, 3, 500))
    done = run(Resolve(), line(3, max_points=21), counts(rate))
    assert len(done.points) == 21
    assert "max_points=21 is reached" in done.outcome.why
    assert done.outcome.why.startswith("Not resolved: ")
    assert not any(peak.resolved for peak in done.outcome.peaks if peak.note)


def test_fewer_points_than_a_coarse_pass_are_spread_over_the_range():
    done = run(Resolve(), line(1, max_points=10), counts(level()))
    assert sorted(done.points[[0, -1], 0]) == [0, 100]
    assert len(done.points) == 10
    assert "The search is not complete: max_points=10 is reached" in done.outcome.why


def test_the_limit_of_passes_ends_the_search():
    done = run(Resolve(), line(3, max_passes=1), counts(gaussians((30, 3, 1000))))
    assert len(done.passes) == 1
    assert "max_passes=1 is reached" in done.outcome.why
    assert not done.outcome.peaks[0].resolved


def test_points_keep_the_step_floor_and_are_measured_again_instead():
    rate = gaussians((41.3, 5, 60), background=100)
    done = run(Resolve(), line(5, floor=1.0), counts(rate))
    places = np.unique(done.points)
    assert np.diff(places).min() >= 1
    assert places.size < len(done.points)
    assert_found(done, (41.3, 5), width=0.3)


def test_a_step_floor_wider_than_the_peak_is_named():
    done = run(Resolve(), line(3, floor=3), counts(gaussians((31.6, 3, 1000))))
    assert "step_floor=3 leaves no room for more points" in done.outcome.why


def test_smaller_errors_are_reached_with_more_points():
    rate = gaussians((41.3, 5, 100))
    loose = run(Resolve(), line(5), counts(rate))
    tight = run(Resolve(fwhm_error=0.02), line(5), counts(rate))
    assert tight.outcome.peaks[0].fwhm_error <= 0.02 * 5
    assert len(tight.points) > 2 * len(loose.points)


@pytest.mark.parametrize(
    "rate",
    [
        gaussians((50, 300, 1000)),
        gaussians((-20, 50, 1000)),
        lambda points: 300 + 100 * np.sin(points[:, 0] / 3),
        lambda points: np.minimum(gaussians((40, 10, 1e6))(points), 65535),
        lambda points: 500 - gaussians((50, 5, 400), background=0)(points),
    ],
    ids=["wider than the range", "top outside", "waves", "saturated", "dip"],
)
def test_whatever_the_signal_the_search_ends(rate):
    done = run(Resolve(), line(2, max_points=1000), counts(rate))
    assert len(done.points) < 300
    assert len(done.passes) <= 15


def test_thirty_peaks_are_thirty_peaks():
    centers = np.linspace(3, 97, 30)
    rate = gaussians(*((center, 1, 500) for center in centers), background=20)
    done = run(Resolve(), line(1), counts(rate))
    assert np.ravel(done.centers) == pytest.approx(centers, abs=0.2)


@pytest.mark.parametrize("size", [0, 1, 2])
def test_hardly_any_reading_ends_in_an_outcome(size):
    def mostly_nothing(points):
        return np.where(np.arange(len(points)) < size, 1.0 + np.arange(len(points)), np.nan)

    assert "No peak: " in run(Resolve(), line(2), mostly_nothing).outcome.why
