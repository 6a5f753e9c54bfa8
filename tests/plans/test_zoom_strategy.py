import numpy as np
import pytest

from bluesky_zarr.plans._strategy import Field, ScanAxis, Strategy
from bluesky_zarr.plans._zoom_strategy import Zoom
from tests.plans.searching import counts, gaussians, line, run, square


def spacing(points) -> float:
    return float(np.diff(np.sort(points[:, 0])).min())


def test_it_is_a_strategy():
    assert isinstance(Zoom(), Strategy)


def test_the_coarse_pass_has_a_point_at_both_ends_and_steps_of_half_the_narrowest():
    coarse = next(Zoom().search(line(4, start=10, stop=30)))
    assert coarse.points[:, 0] == pytest.approx(np.arange(10, 31, 2))


@pytest.mark.parametrize(("start", "stop"), [(0, 100), (100, 0)])
def test_a_peak_is_resolved_in_the_direction_of_the_axis(start, stop):
    done = run(Zoom(), line(5, start, stop), counts(gaussians((41.3, 6, 1000))))
    (peak,) = done.outcome.peaks
    assert peak.resolved
    assert done.outcome.why == ""
    assert peak.center == pytest.approx(41.3, abs=0.3)
    assert peak.fwhm == pytest.approx(6, rel=0.1)
    assert peak.center_error < 0.04 * 6
    assert peak.fwhm_error < 0.1 * 6
    for measure in done.passes:
        assert (np.diff(measure.points[:, 0]) * (stop - start) > 0).all()


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_each_pass_is_finer_by_the_factor(factor):
    rate = gaussians((41.3, 5, 1000), (44.5, 5, 900))
    done = run(Zoom(factor), line(5), counts(rate))
    everything = np.empty((0, 1))
    for level, measure in enumerate(done.passes):
        everything = np.concatenate([everything, measure.points])
        assert spacing(everything) == pytest.approx(2.5 / factor**level)


@pytest.mark.parametrize("factor", [2, 2.5, 3])
def test_no_point_is_measured_twice(factor):
    done = run(Zoom(factor), line(5), counts(gaussians((41.3, 5, 300), (60, 9, 1000))))
    points = np.sort(done.points[:, 0])
    assert len(done.passes) > 1
    assert np.diff(points).min() > 0.2 * 2.5 / factor ** (len(done.passes) - 1)


def test_the_window_is_as_wide_as_the_peak_not_as_the_range():
    done = run(Zoom(), line(5), counts(gaussians((41.3, 5, 1000))))
    later = np.concatenate([measure.points for measure in done.passes[1:]])
    assert np.abs(later - 41.3).max() < 2.5 * 5


def test_windows_that_overlap_are_one_pass():
    rate = gaussians((40, 5, 1000), (48, 5, 1000), (80, 5, 1000))
    done = run(Zoom(), line(5), counts(rate))
    assert len(done.outcome.peaks) == 3
    assert len(done.passes) <= 4
    for measure in done.passes[1:]:
        assert (np.diff(measure.points[:, 0]) > 0).all()


def test_two_peaks_that_only_a_finer_pass_tells_apart_are_both_found():
    done = run(Zoom(), line(4), counts(gaussians((40, 4, 1000), (46, 4, 1000))))
    assert done.centers == [pytest.approx((40,), abs=0.4), pytest.approx((46,), abs=0.4)]


def test_a_peak_without_a_formula_is_resolved_by_its_points():
    def boxcar(points):
        return 10 + 1000.0 * (np.abs(points[:, 0] - 41.3) < 4)

    (peak,) = run(Zoom(), line(8), counts(boxcar)).outcome.peaks
    assert peak.resolved
    assert peak.shape == ""
    assert peak.center == pytest.approx(41.3, abs=0.5)
    assert peak.fwhm == pytest.approx(8, abs=1)


def test_several_axes_are_zoomed_in_on_at_once():
    center, fwhm = (41.3, 66.2), (20, 30)
    done = run(Zoom(), square(20), counts(gaussians((center, fwhm, 500))))
    (peak,) = done.outcome.peaks
    assert peak.resolved
    assert peak.centers == pytest.approx(center, abs=1)
    assert peak.fwhms == pytest.approx(fwhm, rel=0.1)
    assert len(np.unique(done.points, axis=0)) == len(done.points)
    assert done.passes[0].grid is not None


def test_rows_of_a_zoom_pass_are_snaked():
    done = run(Zoom(), square(20), counts(gaussians(((41.3, 66.2), (20, 20), 500))))
    points = done.passes[1].points
    assert (np.diff(points[:, 0]) >= 0).all()
    rows = [points[points[:, 0] == y, 1] for y in np.unique(points[:, 0])]
    for k, row in enumerate(rows):
        assert (np.diff(row) * (-1) ** k > 0).all()


def test_nothing_found_ends_after_the_coarse_pass_and_says_why():
    done = run(Zoom(), line(5), counts(gaussians(background=50)))
    assert done.outcome.peaks == ()
    assert len(done.passes) == 1
    assert done.outcome.why.startswith("no peak: the strongest candidate, at ")


def test_a_prominence_that_is_asked_for_decides():
    rate = gaussians((30, 5, 300), (70, 5, 1000))
    done = run(Zoom(prominence=600), line(5), counts(rate))
    assert done.centers == [pytest.approx((70,), abs=0.5)]


def test_each_peak_is_asked_for_once_and_what_is_not_approved_is_not_refined():
    rate = gaussians((30, 5, 1000), (70, 5, 1000))

    def lower(peaks):
        return [peak for peak in peaks if peak.center < 50]

    done = run(Zoom(), line(5), counts(rate), approve=lower)
    assert sorted(round(peak.center, -1) for peak in done.asked) == [30, 70]
    later = np.concatenate([measure.points for measure in done.passes[1:]])
    assert later.max() < 50
    notes = {round(peak.center, -1): peak.note for peak in done.outcome.peaks}
    assert notes == {30: "", 70: "not approved"}
    assert "1 of 2 peaks not resolved: at (7" in done.outcome.why


def test_the_limit_of_points_is_kept():
    done = run(Zoom(), line(5, max_points=42), counts(gaussians((41.3, 5, 1000))))
    assert len(done.points) == 42
    assert done.outcome.why.startswith("max_points=42 reached; 1 of 1 peaks not resolved")


def test_the_limit_of_passes_is_kept():
    done = run(Zoom(), line(5, max_passes=1), counts(gaussians((41.3, 5, 1000))))
    assert len(done.passes) == 1
    assert done.outcome.peaks[0].note == "max_passes=1 reached"


def test_a_coarse_pass_that_is_too_large_is_refused_before_the_first_point():
    with pytest.raises(ValueError, match="coarse pass takes 41 points, more than max_points=20"):
        run(Zoom(), line(5, max_points=20), counts(gaussians()))


def test_steps_end_at_the_floor():
    done = run(Zoom(), line(5, floor=2), counts(gaussians((41.3, 5, 1000))))
    assert spacing(done.points) >= 2 - 1e-9
    assert "step_floor=2 reached" in done.outcome.peaks[0].note


def test_a_floor_above_the_coarse_step_makes_the_coarse_pass_coarser():
    coarse = next(Zoom().search(line(5, floor=10)))
    assert spacing(coarse.points) == pytest.approx(10)


def test_readings_that_are_missing_are_not_asked_for_again():
    rng = np.random.default_rng(1)
    rate = gaussians((41.3, 8, 1000))
    done = run(
        Zoom(),
        Field((ScanAxis("x", 0, 100, 5),)),
        lambda p: np.where(rng.random(len(p)) < 0.2, np.nan, rng.poisson(rate(p))),
    )
    assert len(np.unique(done.points)) == len(done.points)
    assert done.centers == [pytest.approx((41.3,), abs=0.8)]


def test_a_signal_without_readings_is_no_peak():
    done = run(Zoom(), line(5), lambda points: np.full(len(points), np.nan))
    assert done.outcome.peaks == ()
    assert done.outcome.why


@pytest.mark.parametrize("factor", [1, 0.5, 0, -2, np.nan, np.inf])
def test_a_factor_that_makes_no_pass_finer_is_refused(factor):
    with pytest.raises(ValueError, match=rf"factor={factor:g}: each pass is finer by this factor"):
        Zoom(factor)


def test_errors_that_cannot_be_reached_are_refused():
    with pytest.raises(ValueError, match="fwhm_error=0: give a fraction of the FWHM above 0"):
        Zoom(fwhm_error=0)
