"""Triggers: when they fire, what they say, and in which order they are asked."""

import itertools
import math
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans._conditions import parse_condition
from bluesky_zarr.plans._triggers import (
    AllOf,
    AnyOf,
    Derivative,
    Joinable,
    PeakFound,
    Readings,
    Threshold,
    Trigger,
    Within,
    fired,
)
from tests.plans.trigger_examples import triggers

NEEDLE = Peak(7.1, 0.5, 900.0, prominence=880.0, background=50.0)
SEEN = Readings(
    {"det": 15.0, "temp": 300}, (0.2,), {"det": 5.0, "temp": 300}, (0.1,), "det", lambda: [NEEDLE]
)
#: One of each kind that fires for SEEN, and one that does not.
YES = (Threshold("det", ">", 10), Derivative("det", ">", 50), Within("det", 10, 20), PeakFound(500))
NO = (Threshold("det", "<", 10), Derivative("det", "<", 50), Within("det", 1, 2), PeakFound(1000))


@dataclass
class Counted(Joinable):
    """Answers as told, and writes down that it was asked."""

    name: str
    answer: bool
    asked: list[str] = field(default_factory=list)

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name,)

    def evaluate(self, readings: Readings) -> bool:
        self.asked.append(self.name)
        return self.answer


@pytest.mark.parametrize(
    ("op", "expected"),
    [
        (">", (False, False, True)),
        (">=", (False, True, True)),
        ("<", (True, False, False)),
        ("<=", (True, True, False)),
        ("==", (False, True, False)),
        ("!=", (True, False, True)),
    ],
)
def test_a_threshold_compares_the_latest_reading(op, expected):
    trigger = Threshold("det", op, 10)
    assert tuple(trigger.evaluate(Readings({"det": value})) for value in (9, 10, 11)) == expected


def test_within_takes_both_ends_in():
    trigger = Within("det", 10, 20)
    values = (9.9, 10, 15, 20, 20.1)
    assert [trigger.evaluate(Readings({"det": value})) for value in values] == [
        False,
        True,
        True,
        True,
        False,
    ]


def test_a_derivative_is_the_slope_whichever_way_the_axis_moves():
    up = Readings({"det": 7.0}, (1.5,), {"det": 5.0}, (1.0,))
    down = Readings({"det": 5.0}, (1.0,), {"det": 7.0}, (1.5,))
    assert up.derivative("det") == down.derivative("det") == 4.0


def test_a_derivative_over_several_axes_is_per_distance_moved():
    assert Readings({"det": 7.0}, (3.0, 0.0), {"det": 17.0}, (0.0, 4.0)).derivative("det") == -2.0


@pytest.mark.parametrize(
    "readings",
    [
        Readings({"det": 7.0}, (1.5,)),
        Readings({"det": 7.0}, (1.5,), {"det": 5.0}, (1.5,)),
        Readings({"det": 7.0}, (1.5,), {}, (1.0,)),
        Readings({"det": 7.0}, (1.5,), {"det": math.nan}, (1.0,)),
    ],
    ids=["first of a pass", "not moved", "missing before", "NaN before"],
)
def test_without_two_points_there_is_no_derivative(readings):
    assert not any(Derivative("det", op, 0).evaluate(readings) for op in (">", "<", "==", "!="))


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        (PeakFound(), True),
        (PeakFound(min_prominence=880), True),
        (PeakFound(min_prominence=881), False),
        (PeakFound(min_height=950), True),
        (PeakFound(min_height=951), False),
        (PeakFound(min_width=0.5, max_width=0.5), True),
        (PeakFound(min_width=0.6), False),
        (PeakFound(max_width=0.4), False),
        (PeakFound(min_prominence=500, max_width=0.4), False),
    ],
)
def test_a_peak_must_have_all_that_is_asked(trigger, expected):
    assert trigger.evaluate(SEEN) is expected


def test_a_peak_over_several_axes_is_as_wide_as_asked_along_each():
    seen = Readings({}, find=lambda: [Peak((1.0, 2.0), (0.3, 0.6), 10.0)])
    assert PeakFound(min_width=0.3, max_width=0.6).evaluate(seen)
    assert not PeakFound(min_width=0.4).evaluate(seen)
    assert not PeakFound(max_width=0.5).evaluate(seen)


def test_peaks_are_looked_for_once_and_only_if_asked_for():
    calls = []
    seen = Readings({"det": 1}, find=lambda: calls.append(1) or [NEEDLE])
    assert not (Threshold("det", ">", 5) & PeakFound()).evaluate(seen)
    assert calls == []
    assert (PeakFound(500) & PeakFound()).evaluate(seen)
    assert calls == [1]


@pytest.mark.parametrize("values", [{"det": math.nan}, {}], ids=["NaN", "missing"])
def test_what_is_not_known_never_fires(values):
    readings = Readings(values, (0.2,), {"det": 1.0}, (0.1,))
    for op in (">", ">=", "<", "<=", "==", "!="):
        assert not Threshold("det", op, 0).evaluate(readings)
        assert not Derivative("det", op, 0).evaluate(readings)
    assert not Within("det", -1e300, 1e300).evaluate(readings)


@pytest.mark.parametrize("value", ["open", None, [1.0], np.ones(2), 1j])
def test_a_reading_that_is_no_number_is_told(value):
    with pytest.raises(
        TypeError, match=r"the reading 'det' is .* a condition needs a single number"
    ):
        Threshold("det", ">", 1).evaluate(Readings({"det": value}))


@pytest.mark.parametrize("value", [2, 2.0, True, np.float32(2), np.int16(2), np.array(2.0)])
def test_any_single_number_will_do(value):
    assert Threshold("det", ">=", 1).evaluate(Readings({"det": value}))


@pytest.mark.parametrize(("a", "b"), [*itertools.product(YES + NO, repeat=2)])
def test_joined_both_ways_as_object_and_as_text_is_the_same(a, b):
    one, other = a in YES, b in YES
    assert (a & b).evaluate(SEEN) is (one and other)
    assert (a | b).evaluate(SEEN) is (one or other)
    assert parse_condition(f"{a} and {b}") == a & b
    assert parse_condition(f"{a} or {b}") == a | b


@pytest.mark.parametrize(
    ("answers", "asked"),
    [((True, True, False), "abc"), ((True, False, True), "ab"), ((False, True, True), "a")],
)
def test_all_of_ends_at_the_first_that_does_not_hold(answers, asked):
    log = []
    a, b, c = (Counted(*given, log) for given in zip("abc", answers, strict=True))
    assert (a & b & c).evaluate(SEEN) is False
    assert "".join(log) == asked


@pytest.mark.parametrize(
    ("answers", "asked"),
    [((False, False, True), "abc"), ((False, True, False), "ab"), ((True, False, False), "a")],
)
def test_any_of_ends_at_the_first_that_holds(answers, asked):
    log = []
    a, b, c = (Counted(*given, log) for given in zip("abc", answers, strict=True))
    assert (a | b | c).evaluate(SEEN) is True
    assert "".join(log) == asked


def test_in_python_the_ampersand_binds_closer_and_terms_are_asked_from_left_to_right():
    log = []
    a, b, c = (Counted(name, answer, log) for name, answer in zip("abc", (1, 1, 0), strict=True))
    assert (a | b & c) == AnyOf((a, AllOf((b, c))))
    assert (a | b & c).evaluate(SEEN)
    assert log == ["a"]
    log.clear()
    assert not ((a | b) & c).evaluate(SEEN)
    assert log == ["a", "c"]


def test_grouping_terms_of_one_kind_makes_no_difference():
    a, b, c = YES[:3]
    assert a & (b & c) == (a & b) & c == AllOf((a, b, c))
    assert a | (b | c) == (a | b) | c == AnyOf((a, b, c))


def test_the_names_are_those_of_all_terms_once_and_in_order():
    trigger = parse_condition(
        "b > 1 and (a > 1 or peak()) and derivative(b) > 1 or within(c, 1, 2)"
    )
    assert trigger.names == ("b", "a", "c")


@pytest.mark.parametrize(
    ("trigger", "words"),
    [
        (Threshold("temp", "==", 300), "temp = 300 == 300"),
        (YES[1], "derivative(det) = 100 > 50"),
        (YES[2], "det = 15 within 10 and 20"),
        (YES[3], "a peak at 7.1 (prominence 880, width 0.5)"),
        (YES[0] & YES[2], "det = 15 > 10 and det = 15 within 10 and 20"),
        (NO[0] | YES[0] | YES[2], "det = 15 > 10"),
        (NO[0] | YES[1] & YES[0], "derivative(det) = 100 > 50 and det = 15 > 10"),
    ],
)
def test_what_fired_is_told_with_the_readings(trigger, words):
    assert trigger.evaluate(SEEN)
    assert fired(trigger, SEEN) == words


@given(triggers())
def test_a_trigger_can_be_asked_about_nothing(trigger):
    assert trigger.evaluate(Readings({})) is False


@given(triggers(), st.dictionaries(st.sampled_from(["det", "cam-sum"]), st.floats()))
def test_whatever_fires_says_why(trigger, values):
    readings = Readings(values, (0.2,), {"det": 1.0}, (0.1,), find=lambda: [NEEDLE])
    assume(trigger.evaluate(readings))
    assert fired(trigger, readings)


class Bare:
    """A trigger of somebody who has read no further than the protocol."""

    names = ("det",)

    def evaluate(self, readings: Readings) -> bool:
        return readings.number("det") % 2 == 1

    def __str__(self) -> str:
        return "det is odd"


def test_any_object_with_names_and_evaluate_is_a_trigger_and_joins_others_from_either_side():
    assert isinstance(Bare(), Trigger)
    for joined in (Bare() & YES[0], YES[0] & Bare(), NO[0] | Bare(), Bare() | NO[0]):
        assert joined.evaluate(SEEN)
        assert "det is odd" in fired(joined, SEEN)
        assert joined.names == ("det",)


def test_ones_own_joinable_trigger_is_told_by_the_name_of_its_class():
    assert str(Counted("a", True) & YES[0]) == "Counted and det > 10"
    assert fired(Counted("a", True), SEEN) == "Counted"


def test_python_s_and_and_or_are_refused_as_they_would_drop_one():
    with pytest.raises(TypeError, match=r"join triggers by & and \| in place of 'and' and 'or'"):
        _ = YES[0] and YES[1]


@pytest.mark.parametrize("other", ["det > 5", 5, None])
def test_only_triggers_are_joined(other):
    with pytest.raises(TypeError, match="unsupported operand"):
        YES[0] & other
    with pytest.raises(TypeError, match="unsupported operand"):
        other | YES[0]


def test_triggers_are_nested_so_deep_and_no_deeper():
    trigger = YES[0]
    for k in range(100):
        trigger = trigger & YES[1] if k % 2 else trigger | YES[1]
    assert parse_condition(str(trigger)) == trigger
    with pytest.raises(ValueError, match="nests 'and' and 'or' more than 100 deep"):
        trigger | YES[1]


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Threshold("det", "=>", 1), ValueError, "no operator '=>'; there are > >= < <= =="),
        (lambda: Derivative("det", "", 1), ValueError, "there is no operator ''"),
        (lambda: Threshold("det", ">", math.nan), ValueError, "value is nan; give a finite number"),
        (lambda: Threshold("det", ">", "5"), TypeError, "value is '5' of type str; give a number"),
        (lambda: Threshold("", ">", 5), ValueError, "no reading is named ''"),
        (lambda: Within('a"b', 1, 5), ValueError, "give a text without double quotes"),
        (lambda: Within("det", 5, 1), ValueError, "nothing is within 5 and 1"),
        (lambda: PeakFound(min_width=-1), ValueError, "min_width is -1; it cannot be negative"),
        (lambda: PeakFound(None, None, 3, 2), ValueError, "no width is between 3 and 2"),
        (lambda: AllOf((YES[0],)), ValueError, "AllOf joins triggers: give two or more, not 1"),
    ],
)
def test_a_trigger_that_cannot_be_is_refused(make, error, words):
    with pytest.raises(error) as told:
        make()
    assert words in str(told.value)
