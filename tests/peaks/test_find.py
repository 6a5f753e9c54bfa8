"""Peaks straight from points: against scipy, on uneven axes, at the limits, and why not."""

import math
import pickle
import re

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bluesky_zarr.peaks import Peak, find_peaks


def gaussian(x, center, fwhm, height=1000.0, background=10.0):
    return background + height * np.exp(-4 * math.log(2) * ((x - center) / fwhm) ** 2)


# Few different values, so that plateaus and ties come up.
SIGNALS = arrays(float, st.integers(3, 60), elements=st.integers(0, 12).map(float)) | arrays(
    float, st.integers(3, 60), elements=st.floats(-1e6, 1e6).map(lambda value: round(value, 3))
)


def ordered_like_ours(found):
    tops, facts = found
    order = np.argsort(-facts["prominences"], kind="stable")
    return tops[order], {key: values[order] for key, values in facts.items()}


@given(SIGNALS)
def test_on_an_even_axis_it_is_scipy(y):
    ours = find_peaks(np.arange(len(y)), y, prominence=0, at_limits=False)
    tops, facts = ordered_like_ours(scipy.signal.find_peaks(y, prominence=0, width=0))
    assert list(ours.positions) == tops.tolist()
    assert [peak.prominence for peak in ours] == facts["prominences"].tolist()
    np.testing.assert_allclose([peak.fwhm for peak in ours], facts["widths"], atol=1e-12)


@given(SIGNALS)
def test_away_from_the_limits_it_is_scipy_there_too(y):
    ours = find_peaks(np.arange(len(y)), y, prominence=0)
    inside = {
        (at, peak.prominence)
        for at, peak in zip(ours.positions, ours, strict=True)
        if not peak.note
    }
    tops, facts = scipy.signal.find_peaks(y, prominence=0)
    theirs = set(zip(tops.tolist(), facts["prominences"].tolist(), strict=True))
    assert inside <= theirs
    noted = {at for at, peak in zip(ours.positions, ours, strict=True) if peak.note}
    assert {at for at, _ in theirs - inside} <= noted
    assert len(noted) <= 2


@given(
    SIGNALS,
    st.tuples(st.none() | st.floats(-20, 20), st.none() | st.floats(20, 40)),
    st.tuples(st.floats(0, 10), st.none() | st.floats(10, 30)),
    st.tuples(st.none() | st.floats(0, 4), st.none() | st.floats(4, 30)),
    st.floats(1, 20),
)
def test_all_that_can_be_asked_for_is_what_scipy_makes_of_it(
    y, height, prominence, width, distance
):
    # Which of two equal maxima that are too close is kept is for neither to say.
    y = y + 1e-5 * np.arange(len(y))
    tops, _ = scipy.signal.find_peaks(y)
    asked = {"height": height, "prominence": prominence, "width": width}
    ours = find_peaks(np.arange(len(y)), y, **asked, distance=distance, at_limits=False)
    theirs = scipy.signal.find_peaks(y, **asked, distance=distance)
    assert sorted(ours.positions) == theirs[0].tolist()
    assert len(ours) + len(ours.rejected) == len(tops)


# Powers of two, so that no rounding decides what is just wide enough.
@given(SIGNALS, st.sampled_from([0.25, 1.0, 8.0]), st.randoms())
def test_neither_units_nor_the_order_of_points_make_a_difference(y, scale, random):
    x = scale * np.arange(len(y))
    plain = find_peaks(np.arange(len(y)), y, prominence=0)
    order = list(range(len(y)))
    random.shuffle(order)
    shuffled = find_peaks(x[order], y[order], prominence=0)
    assert [p.prominence for p in plain] == [p.prominence for p in shuffled]
    assert [p.note for p in plain] == [p.note for p in shuffled]
    np.testing.assert_allclose(
        [p.center for p in shuffled], [scale * p.center for p in plain], atol=1e-9
    )
    np.testing.assert_allclose([p.fwhm for p in shuffled], [scale * p.fwhm for p in plain])


@given(SIGNALS)
def test_turning_the_axis_round_turns_the_peaks_round(y):
    # Without plateaus: the middle of one may be that of two points.
    y = y[np.append(True, np.diff(y) != 0)]
    x = np.arange(len(y))
    there, back = find_peaks(x, y, prominence=0), find_peaks(-x, y, prominence=0)
    assert sorted((p.prominence, bool(p.note)) for p in there) == sorted(
        (p.prominence, bool(p.note)) for p in back
    )


@given(SIGNALS)
def test_each_peak_is_between_its_halves_and_stands_on_its_background(y):
    for peak in find_peaks(np.arange(len(y)), y, prominence=0):
        assert 0 <= peak.center <= len(y) - 1
        assert peak.fwhm > 0
        assert peak.height > 0
        assert np.isclose(peak.background + peak.height, y, atol=1e-6).any()


@pytest.mark.parametrize("step", [1.7, 1.0, 0.3])
@pytest.mark.parametrize("center", [48.0, 50.33, 51.9])
def test_the_centre_is_between_the_points(step, center):
    x = np.arange(0, 100, step)
    (peak,) = find_peaks(x, gaussian(x, center, 3.0))
    assert peak.center == pytest.approx(center, abs=0.03)
    if step < 1.5:
        assert peak.fwhm == pytest.approx(3.0, rel=0.1)
        assert peak.height == pytest.approx(1000, rel=0.1)


def test_an_uneven_axis_is_measured_in_its_own_units():
    x = np.concatenate((np.arange(0, 45, 1.5), np.arange(45, 55, 0.2), np.arange(55, 100, 2.5)))
    first, second = find_peaks(x, gaussian(x, 50.1, 2.0) + gaussian(x, 80.0, 9.0, 500.0))
    assert first.center == pytest.approx(50.1, abs=0.02)
    assert first.fwhm == pytest.approx(2.0, rel=0.02)
    assert second.center == pytest.approx(80.0, abs=0.4)
    assert second.fwhm == pytest.approx(9.0, rel=0.1)


def test_the_most_prominent_comes_first():
    x = np.linspace(0, 100, 501)
    y = sum(gaussian(x, c, 3, h, 0) for c, h in ((20, 300), (50, 1000), (80, 500)))
    assert [round(peak.center) for peak in find_peaks(x, y)] == [50, 80, 20]


def test_values_at_one_position_become_their_mean():
    (peak,) = find_peaks([0, 1, 2, 2, 3, 4], [0, 0, 10, 20, 0, 0], prominence=1)
    assert peak.prominence == 15
    (peak,) = find_peaks([0, 1, 2, 2, 3, 4], [0, 0, 10, 20, 0, 0], [1, 1, 1, 2, 1, 1])
    assert peak.prominence == pytest.approx(12)


def test_points_that_are_not_finite_are_left_out():
    x = np.array([0, 1, 2, 3, np.nan, 4, 5, 6])
    y = np.array([0, 1, np.nan, 5, 99, 1, np.inf, 0])
    assert list(find_peaks(x, y, prominence=1)) == list(
        find_peaks([0, 1, 3, 4, 6], [0, 1, 5, 1, 0], prominence=1)
    )


def test_a_plateau_is_one_peak_at_its_middle():
    (peak,) = find_peaks(np.arange(9), [0, 0, 2, 6, 6, 6, 2, 0, 0], prominence=1)
    assert (peak.center, peak.height, peak.background) == (pytest.approx(4), 6, 0)


def test_the_background_of_a_slope_is_that_below_the_centre():
    x = np.linspace(0, 100, 401)
    (peak,) = find_peaks(x, gaussian(x, 40, 3.0) + 5 * x)
    assert peak.background == pytest.approx(210, abs=5)
    assert peak.height == pytest.approx(1000, abs=5)


@pytest.mark.parametrize("center", [0.0, 0.3, 0.7])
@pytest.mark.parametrize("turned", [False, True])
def test_a_peak_at_the_limit_is_found_and_flagged(center, turned):
    x = np.linspace(0, 20, 81)
    y = gaussian(x, center, 2.0)
    (peak,) = find_peaks(-x if turned else x, y)
    assert (
        peak.note == f"at the {'upper' if turned else 'lower'} limit: only one side of it was seen"
    )
    assert abs(peak.centers[0]) == pytest.approx(center, abs=0.05)
    assert peak.fwhm == pytest.approx(2.0, abs=0.2)
    assert peak.prominence == pytest.approx(1000, rel=0.01)


def test_a_peak_that_is_whole_just_inside_the_limit_needs_no_flag():
    x = np.linspace(0, 100, 201)
    (peak,) = find_peaks(x, gaussian(x, 2.5, 2.0))
    assert (round(peak.center, 2), peak.note) == (2.5, "")


def test_a_limit_that_is_none_yet_can_be_left_out():
    x = np.linspace(0, 20, 81)
    y = gaussian(x, 20.0, 2.0)
    assert find_peaks(x, y)
    assert not find_peaks(x, y, at_limits=False)


X = np.linspace(0, 20, 81)


@pytest.mark.parametrize(
    "y",
    [
        X,
        1000 - 3 * X,
        1 / (1 + np.exp(-5 * (X - 15))),
        1 / (1 + np.exp(5 * (X - 4))),
        np.exp(-X / 2),
    ],
    ids=["slope", "falling slope", "edge", "falling edge", "tail"],
)
def test_a_slope_an_edge_and_a_tail_are_no_peaks_at_the_limit(y):
    peaks = find_peaks(X, y)
    assert not peaks
    assert (
        "limit: only one side of it was seen, which does not look like that of a peak" in peaks.why
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n", [20, 100, 1000])
def test_noise_is_no_peak(n, seed):
    rng = np.random.default_rng(seed)
    x = np.sort(rng.uniform(0, 100, n))
    assert not find_peaks(x, rng.normal(5.0, 1.0, n))
    assert not find_peaks(x, rng.poisson(50.0, n))
    assert not find_peaks(x, rng.poisson(0.05, n))
    assert not find_peaks(x, rng.normal(0.0, 3.0, n), 3.0)


@pytest.mark.parametrize("seed", range(5))
def test_counts_on_a_high_peak_are_one_peak(seed):
    x = np.linspace(0, 100, 400)
    y = np.random.default_rng(seed).poisson(gaussian(x, 50, 20.0, 3000))
    (peak,) = find_peaks(x, y)
    assert peak.center == pytest.approx(50, abs=0.5)
    (peak,) = find_peaks(x, y, np.sqrt(np.maximum(y, 1)))
    assert peak.center == pytest.approx(50, abs=0.5)


def test_with_sigma_it_is_known_what_stands_out():
    y = [0.0, 0, 1, 0, 0, 8, 0, 0, 1, 0]
    assert len(find_peaks(range(10), y, 1.0)) == 1
    assert len(find_peaks(range(10), y, 0.1)) == 3
    peaks = find_peaks(range(10), y, 2.0)
    assert not peaks
    assert "at 5: prominence 8 is below 12.06, which noise of 2.828 alone may reach" in peaks.why


def test_each_rejected_candidate_says_why_not():
    x = np.arange(0, 100, 0.25)
    shapes = ((10, 3, 31), (50, 3, 100), (54, 1, 80), (80, 9, 90))
    y = sum(gaussian(x, center, fwhm, height, 0) for center, fwhm, height in shapes)

    def rejected(**asked):
        return [(round(r.peak.center), r.why) for r in find_peaks(x, y, **asked).rejected]

    assert rejected(prominence=50, distance=5) == [
        (54, "a higher one is closer than the 5 asked for"),
        (10, "prominence 31 is below the 50 asked for"),
    ]
    assert rejected(prominence=(None, 95), height=32) == [
        (50, "prominence 100 is above the 95 asked for"),
        (10, "height 31 is below the 32 asked for"),
    ]
    (wide, narrow) = rejected(width=(2, 8))
    assert wide[0] == 80
    assert re.fullmatch(r"width 9\.?\d* is above the 8 asked for", wide[1])
    assert narrow[0] == 54
    assert re.fullmatch(r"width 0\.9\d* is below the 2 asked for", narrow[1])


def test_nothing_found_names_the_strongest_candidate():
    peaks = find_peaks(range(7), [0, 3, 0, 31, 0, 1, 0], prominence=50)
    assert not peaks
    assert peaks.why == (
        "no peak: the strongest candidate, at 3: prominence 31 is below the 50 asked for"
    )


@pytest.mark.parametrize(
    ("x", "y", "why"),
    [
        ([], [], "no peak: a peak needs 3 positions, and there are 0"),
        ([1, 1, 2], [1, 5, 3], "no peak: a peak needs 3 positions, and there are 2"),
        ([1, 2, 3], [math.nan] * 3, "no peak: none of the 3 points is finite"),
        ([1, 2, 3], [5.5] * 3, "no peak: the signal is constant, 5.5"),
    ],
)
def test_where_there_can_be_no_peak_that_is_told(x, y, why):
    peaks = find_peaks(x, y)
    assert (peaks.why, len(peaks), peaks.rejected) == (why, 0, ())


def test_a_slope_without_its_limits_has_no_candidate():
    peaks = find_peaks(range(9), range(9), at_limits=False)
    assert peaks.why == "no peak: the signal has no maximum between its ends"


def test_the_result_is_a_sequence_that_cannot_be_changed():
    peaks = find_peaks(range(7), [0, 3, 0, 31, 0, 1, 0], prominence=2)
    assert bool(peaks)
    assert (len(peaks), peaks.why, peaks.positions) == (2, "", (3, 1))
    assert all(isinstance(peak, Peak) for peak in peaks)
    assert peaks[0] in peaks
    assert peaks[:1] == (peaks[0],)
    with pytest.raises(AttributeError, match="cannot assign"):
        peaks.found = ()  # pyright: ignore[reportAttributeAccessIssue] (wrong on purpose)


def test_the_result_survives_a_pickle():
    peaks = find_peaks(range(7), [0, 3, 0, 31, 0, 1, 0], prominence=50)
    assert pickle.loads(pickle.dumps(peaks)).why == peaks.why


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"y": [1, 2]}, "x has 3 values and y has 2; give one value for each position"),
        ({"y": [[1, 2, 3]]}, "y is 2-D of type int"),
        ({"y": ["a", "b", "c"]}, "y is 1-D of type <U1; give a 1-D sequence of real numbers"),
        ({"sigma": [1, 2]}, r"sigma has the shape \(2,\) for 3 values of y"),
        ({"sigma": [1, 0, 1]}, r"sigma\[1\] is 0, and no value is that exact"),
        ({"prominence": -1}, "prominence is -1; give a number that is not negative"),
        ({"width": (3, 2)}, r"width is \(3, 2\); give the smaller number first"),
        ({"height": math.nan}, "height is nan"),
        ({"distance": (1, 2)}, r"distance is \(1, 2\); give the least one alone, as one number"),
        ({"distance": -2}, "distance is -2; give a number that is not negative"),
    ],
)
def test_what_cannot_be_is_refused(given, words):
    with pytest.raises(ValueError, match=words):
        find_peaks(**{"x": [1, 2, 3], "y": [1, 2, 1], **given})


def test_the_height_asked_for_may_be_negative():
    assert find_peaks([1, 2, 3], [-9, -5, -9], height=-6, prominence=1)
    assert not find_peaks([1, 2, 3], [-9, -5, -9], height=-4, prominence=1)
