import numpy as np
import pytest
from scipy.special import erf

from bluesky_zarr.plans._resolve import Resolve
from bluesky_zarr.plans._strategy import Field, ScanAxis
from tests.plans.searching import counts, gaussians, run, square


def near(peak, center, fwhm) -> bool:
    return all(
        abs(c - at) < 0.1 * w and abs(f - w) < 0.2 * w
        for c, at, f, w in zip(peak.centers, center, peak.fwhms, fwhm, strict=True)
    )


def test_a_peak_over_two_axes_is_resolved_with_few_points():
    center, fwhm = (41.3, 66.2), (8, 12)
    done = run(Resolve(), square(8), counts(gaussians((center, fwhm, 1000))))
    (peak,) = done.outcome.peaks
    assert near(peak, center, fwhm)
    assert peak.resolved
    assert done.outcome.why == ""
    assert len(done.points) <= 100
    assert len(done.passes) <= 6


def test_its_errors_are_as_small_as_asked_and_as_large_as_they_are():
    settings = Resolve(center_error=0.01, fwhm_error=0.03)
    center, fwhm = (41.3, 66.2), (8, 12)
    (peak,) = run(settings, square(8), counts(gaussians((center, fwhm, 1000)))).outcome.peaks
    for k in range(2):
        assert peak.center_error[k] < 0.01 * fwhm[k]
        assert abs(peak.center[k] - center[k]) < 4 * peak.center_error[k]
        assert peak.fwhm_error[k] < 0.03 * fwhm[k]
        assert abs(peak.fwhm[k] - fwhm[k]) < 4 * peak.fwhm_error[k]


def test_the_coarse_pass_is_a_grid_and_each_pass_after_it_a_list():
    done = run(Resolve(), square(8), counts(gaussians(((41, 66), (8, 12), 1000))))
    coarse, *others = done.passes
    assert coarse.label == "coarse"
    assert coarse.grid is not None
    assert all(measure.grid is None for measure in others)


def test_each_axis_is_scanned_from_start_to_stop():
    axes = (ScanAxis("y", 100, 0, 8), ScanAxis("x", -50, 50, 8))
    done = run(Resolve(), Field(axes), counts(gaussians(((41, 6), (8, 12), 1000))))
    y, x = done.passes[0].grid
    assert list(y) == sorted(y, reverse=True)
    assert list(x) == sorted(x)
    assert near(done.outcome.peaks[0], (41, 6), (8, 12))


def test_several_peaks_are_refined_in_the_same_passes():
    peaks = [((30, 30), (5, 5), 1000), ((55, 70), (6, 8), 600), ((75, 30), (9, 5), 1500)]
    done = run(Resolve(), square(5), counts(gaussians(*peaks)))
    assert len(done.outcome.peaks) == 3
    assert len(done.passes) <= 7
    for center, fwhm, _ in peaks:
        assert sum(near(peak, center, fwhm) for peak in done.outcome.peaks) == 1
    heights = [peak.height for peak in done.outcome.peaks]
    assert heights == sorted(heights, reverse=True)


def test_a_peak_between_the_points_of_the_coarse_grid_is_found():
    first, second = next(Resolve().search(square(3))).grid[0][9:11]
    center = ((first + second) / 2,) * 2
    done = run(Resolve(), square(3), counts(gaussians((center, (3, 3), 1000))))
    assert [near(peak, center, (3, 3)) for peak in done.outcome.peaks] == [True]
    assert len(done.points) <= 450


@pytest.mark.parametrize("center", [(1, 1), (99, 50), (50, 98.5)])
def test_a_peak_at_the_edge_is_found_and_nothing_is_measured_outside(center):
    done = run(Resolve(), square(6), counts(gaussians((center, (6, 6), 1000))))
    assert [near(peak, center, (6, 6)) for peak in done.outcome.peaks] == [True]
    assert done.points.min() >= 0
    assert done.points.max() <= 100


def test_two_peaks_that_blend_are_told_apart():
    pair = [((40, 50), (5, 5), 1000), ((45.5, 55), (5, 5), 800)]
    done = run(Resolve(), square(5), counts(gaussians(*pair)))
    assert len(done.outcome.peaks) == 2
    for center, fwhm, _ in pair:
        assert any(near(peak, center, fwhm) for peak in done.outcome.peaks)


def test_a_lorentzian_is_one_peak():
    def rate(points):
        u2 = (((points - (44, 61)) / (5, 7)) ** 2).sum(axis=1)
        return 10 + 1000 / (1 + 4 * u2)

    (peak,) = run(Resolve(), square(5), counts(rate)).outcome.peaks
    assert near(peak, (44, 61), (5, 7))
    assert peak.mixing > 0.7


def test_an_inclined_peak_is_one_peak_whose_widths_are_cuts_along_the_axes():
    def rate(points):
        y, x = ((points - (44, 61)) / (6, 8)).T
        return 10 + 1000 * np.exp(-4 * np.log(2) * (y * y + x * x - 1.2 * x * y))

    (peak,) = run(Resolve(), square(6), counts(rate)).outcome.peaks
    assert near(peak, (44, 61), (6, 8))


def lying_across(points, center, long, short, angle):
    """A Gaussian of height 1 with its long FWHM at an angle to the first axis."""
    a, b = (points - center).T
    c, s = np.cos(angle), np.sin(angle)
    u2 = ((c * a + s * b) / long) ** 2 + ((c * b - s * a) / short) ** 2
    return np.exp(-4 * np.log(2) * u2)


@pytest.mark.parametrize("degrees", [0, 30, 45, 130])
def test_a_streak_is_one_peak_however_it_lies(degrees):
    angle = np.radians(degrees)
    c, s = np.cos(angle), np.sin(angle)
    cuts = 1 / np.hypot(c / 36, s / 5), 1 / np.hypot(s / 36, c / 5)

    def rate(points):
        return 10 + 800 * lying_across(points, (47, 52), 36, 5, angle)

    done = run(Resolve(), square(5), counts(rate))
    assert [near(peak, (47, 52), cuts) for peak in done.outcome.peaks] == [True]
    assert done.outcome.peaks[0].resolved
    assert len(done.points) < 250


def flanks(u):
    """1 inside of half a FWHM, 0 outside, with flanks of a tenth of it."""
    return (1 - erf((u - 0.5) / 0.1)) / 2


def a_disc(points):
    u = (points - (44, 61)) / (14, 18)
    return 15 + 700 * flanks(np.hypot(*u.T))


def a_box(points):
    u = np.abs(points - (44, 61)) / (14, 18)
    return 15 + 700 * flanks(u[:, 0]) * flanks(u[:, 1])


@pytest.mark.parametrize(("rate", "shape"), [(a_disc, "flat-top"), (a_box, "box")])
@pytest.mark.parametrize("seed", range(3))
def test_a_flat_top_is_seen_as_what_it_is(rate, shape, seed):
    (peak,) = run(Resolve(), square(8), counts(rate, seed)).outcome.peaks
    assert near(peak, (44, 61), (14, 18))
    assert peak.resolved
    assert peak.shape == shape
    assert peak.mixing > 0.5


def test_peaks_over_three_axes_are_resolved():
    axes = tuple(ScanAxis(name, 0, 100, 20) for name in "zyx")
    center, fwhm = (33, 61, 48), (20, 25, 30)
    (peak,) = run(Resolve(), Field(axes), counts(gaussians((center, fwhm, 800)))).outcome.peaks
    assert near(peak, center, fwhm)


def test_noise_alone_makes_no_peak_and_the_reason_names_the_strongest_candidate():
    done = run(Resolve(), square(5), counts(gaussians(background=20)))
    assert done.outcome.peaks == ()
    assert done.asked == []
    assert "no peak: the strongest candidate, at (" in done.outcome.why
    assert "less than the 5.5 asked for" in done.outcome.why
    assert len(done.points) <= 1.2 * len(done.passes[0].points)


def spoiled(signal, which, reading):
    """The same signal, but for the readings of these numbers."""
    taken = [0]

    def read(points):
        values = signal(points)
        numbers = taken[0] + np.arange(len(values))
        taken[0] += len(values)
        return np.where(np.isin(numbers, which), reading, values)

    return read


@pytest.mark.parametrize("reading", [120.0, 3000.0, 1e6])
def test_a_reading_far_too_high_is_measured_again_and_makes_no_peak(reading):
    done = run(Resolve(), square(8), spoiled(counts(gaussians(background=20)), [30, 31], reading))
    high = done.passes[0].points[[30, 31]]
    assert done.outcome.peaks == ()
    assert done.asked == []
    for place in high:
        assert (np.abs(done.points - place).max(axis=1) < 1e-9).sum() == 2
    assert "2 readings are left out, as measuring there again did not confirm" in done.outcome.why
    assert f"{reading:g} at ({high[0][0]:.5g}, {high[0][1]:.5g})" in done.outcome.why


@pytest.mark.parametrize("reading", [0.0, 5000.0])
@pytest.mark.parametrize("number", [75, 80])
def test_a_wrong_reading_on_a_peak_does_not_spoil_its_fit(number, reading):
    center, fwhm = (41.3, 66.2), (8, 12)
    signal = counts(gaussians((center, fwhm, 1000), background=100))
    done = run(Resolve(), square(8), spoiled(signal, [number], reading))
    (peak,) = done.outcome.peaks
    assert near(peak, center, fwhm)
    assert peak.resolved
    assert peak.chi_squared < 2


def test_a_peak_that_only_one_point_of_the_grid_sees_is_measured_there_again_and_believed():
    grid = next(Resolve().search(square(8))).grid
    center = (grid[0][3], grid[1][4])
    done = run(Resolve(), square(8), counts(gaussians((center, (8, 8), 300))))
    assert done.passes[1].points.tolist().count(pytest.approx(center)) == 1
    assert [near(peak, center, (8, 8)) for peak in done.outcome.peaks] == [True]
    assert done.outcome.why == ""


def test_a_peak_that_could_not_be_measured_again_is_not_taken_for_a_wrong_reading():
    """The peak is as narrow as asked for, on a point of the grid; nothing else shows it."""
    grid = next(Resolve().search(square(8))).grid
    center, fwhm = (grid[0][3], grid[1][4]), (8, 8)
    signal = gaussians((center, fwhm, 2000), background=10)
    seen = set()

    def once(points):
        values = counts(signal)(points)
        places = [tuple(point) for point in points.round(6).tolist()]
        again = [place in seen for place in places]
        seen.update(places)
        return np.where(again, np.nan, values)

    (peak,) = run(Resolve(), square(8), once).outcome.peaks
    assert near(peak, center, fwhm)

    size = len(grid[0]) * len(grid[1])
    for limits in ({"max_points": size}, {"max_points": size + 1}, {"max_passes": 1}):
        outcome = run(Resolve(), square(8, **limits), counts(signal)).outcome
        assert [peak.resolved for peak in outcome.peaks] == [False]
        (name,) = limits
        assert f"{name}={limits[name]} reached" in outcome.why


def test_four_of_five_weak_peaks_are_found():
    fwhm = (7, 8)
    found = 0
    for seed in range(48):
        center = np.random.default_rng(seed).uniform(25, 75, 2)
        done = run(Resolve(), square(6), counts(gaussians((center, fwhm, 50), background=60), seed))
        found += [near(peak, center, fwhm) for peak in done.outcome.peaks] == [True]
    assert found >= 0.8 * 48


@pytest.mark.parametrize("narrowest", [5, 8, 14])
def test_noise_alone_costs_little_more_than_the_coarse_pass(narrowest):
    spent = []
    for seed in range(12):
        done = run(Resolve(), square(narrowest), counts(gaussians(background=60), seed))
        assert done.outcome.peaks == ()
        spent.append(len(done.points) / len(done.passes[0].points))
    assert np.median(spent) <= 1.2


def test_a_slope_makes_no_peak():
    done = run(Resolve(), square(5), counts(lambda p: 50 + 3 * p[:, 0] + p[:, 1]))
    assert done.outcome.peaks == ()


@pytest.mark.parametrize(
    ("value", "why"),
    [(7.0, "no peak: the signal is 7 everywhere"), (np.nan, "no peak: the signal has no reading")],
)
def test_a_signal_without_any_structure_ends_after_the_coarse_pass(value, why):
    done = run(Resolve(), square(5), lambda points: np.full(len(points), value))
    assert len(done.passes) == 1
    assert done.outcome.why == why


@pytest.mark.parametrize(
    "signal",
    [
        lambda rate, rng: lambda p: rate(p) - 500,
        lambda rate, rng: lambda p: rate(p) - 5000 + rng.normal(0, 15, len(p)),
        lambda rate, rng: lambda p: 1e-9 * rate(p),
        lambda rate, rng: lambda p: 0.37 * rng.poisson(rate(p)),
        lambda rate, rng: lambda p: rate(p) - 30 + rng.normal(0, 15, len(p)),
    ],
    ids=["noise-free", "far below zero", "noise-free and tiny", "scaled counts", "constant noise"],
)
def test_signals_that_are_no_counts_are_resolved_too(signal):
    rate = gaussians(((41, 66), (6, 8), 1000))
    done = run(Resolve(), square(6), signal(rate, np.random.default_rng(5)))
    assert [near(peak, (41, 66), (6, 8)) for peak in done.outcome.peaks] == [True]


def test_points_without_a_reading_are_not_measured_again():
    rng = np.random.default_rng(6)
    rate = gaussians(((41, 66), (6, 8), 1000))
    done = run(
        Resolve(),
        square(6),
        lambda p: np.where(p[:, 0] < 41, rng.poisson(rate(p)), np.nan),
    )
    without = done.points[done.points[:, 0] >= 41].round(9)
    assert len(np.unique(without, axis=0)) == len(without)


def test_a_peak_is_asked_for_before_points_are_spent_on_it_and_only_once():
    done = run(Resolve(), square(6), counts(gaussians(((41, 66), (6, 8), 1000))))
    assert len(done.asked) == 1
    first = next(k for k, r in enumerate(done.requests) if r in done.passes and r.peaks)
    before = done.requests[:first]
    assert done.asked[0] in [peak for r in before if r not in done.passes for peak in r.peaks]


def test_what_is_not_approved_is_reported_but_not_refined():
    signal = gaussians(((30, 30), (6, 6), 1000), ((70, 70), (6, 6), 1000))

    def lower(peaks):
        return [peak for peak in peaks if peak.centers[0] < 50]

    done = run(Resolve(), square(6), counts(signal), approve=lower)
    notes = {round(peak.centers[0], -1): (peak.resolved, peak.note) for peak in done.outcome.peaks}
    assert notes == {30: (True, ""), 70: (False, "not approved")}
    # That a lone high point is no mistake of the detector has to be seen before anybody is asked.
    assert (np.abs(done.passes[1].points - 70) < 6).all(axis=1).sum() <= 1
    beside = np.concatenate([measure.points for measure in done.passes[2:]])
    assert (np.abs(beside - 70) < 6).all(axis=1).sum() == 0
    assert "1 of 2 peaks not resolved: at (" in done.outcome.why


def test_the_limit_of_points_is_kept():
    rate = gaussians(((41, 66), (6, 8), 1000))
    done = run(Resolve(), square(6, max_points=126), counts(rate))
    assert len(done.points) == 126
    assert not done.outcome.peaks[0].resolved
    assert done.outcome.why.startswith("max_points=126 reached; 1 of 1 peaks not resolved")


def test_the_limit_of_passes_is_kept():
    rate = gaussians(((41, 66), (6, 8), 1000))
    done = run(Resolve(), square(6, max_passes=2), counts(rate))
    assert len(done.passes) == 2
    assert done.outcome.why.startswith("max_passes=2 reached")


def test_a_coarse_pass_that_is_too_large_is_refused_before_the_first_point():
    with pytest.raises(ValueError, match="coarse pass takes 400 points, more than max_points=99"):
        run(Resolve(), square(3, max_points=99), counts(gaussians()))


def test_no_two_positions_are_closer_than_the_step_floor():
    rate = gaussians(((41, 66), (6, 8), 1000))
    done = run(Resolve(), square(6, floor=5), counts(rate))
    points = np.unique(done.points, axis=0)
    apart = np.abs(points[:, None] - points).max(axis=2)
    assert apart[np.triu_indices(len(apart), 1)].min() > 5 - 1e-6
    assert "step_floor=5 x 5 reached" in done.outcome.peaks[0].note
