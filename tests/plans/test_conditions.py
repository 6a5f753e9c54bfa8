"""Conditions as text: what they mean, and how a bad one is told."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bluesky_zarr.plans._conditions import ConditionError, condition_of, parse_condition
from bluesky_zarr.plans._triggers import (
    AllOf,
    AnyOf,
    Derivative,
    PeakFound,
    Readings,
    Threshold,
    Within,
)
from tests.plans.trigger_examples import triggers

A, B, C = (Threshold(name, ">", 1) for name in "abc")


@pytest.mark.parametrize(
    ("text", "trigger"),
    [
        ("det > 1000", Threshold("det", ">", 1000)),
        ("cam-sum>=-1.5e-3", Threshold("cam-sum", ">=", -0.0015)),
        ("a:b.c != +.5", Threshold("a:b.c", "!=", 0.5)),
        ('"2theta" == 3', Threshold("2theta", "==", 3)),
        ('"and" < 3', Threshold("and", "<", 3)),
        ("peak > 3", Threshold("peak", ">", 3)),
        ("derivative(det) <= 50", Derivative("det", "<=", 50)),
        ("within(det, -10, 20)", Within("det", -10, 20)),
        ("peak()", PeakFound()),
        ("peak(prominence=500)", PeakFound(min_prominence=500)),
        (
            "peak(max_width=2, width = 0.1, height=-100)",
            PeakFound(min_height=-100, min_width=0.1, max_width=2),
        ),
        ("a > 1 and b > 1 and c > 1", AllOf((A, B, C))),
        ("((a > 1)) or\n(b > 1)", AnyOf((A, B))),
    ],
)
def test_a_text_is_the_trigger_that_it_reads_like(text, trigger):
    assert parse_condition(text) == trigger


def test_and_and_or_are_taken_from_left_to_right():
    assert parse_condition("a > 1 or b > 1 and c > 1") == (A | B) & C
    assert parse_condition("a > 1 and b > 1 or c > 1") == (A & B) | C


def test_brackets_group():
    assert parse_condition("a > 1 or (b > 1 and c > 1)") == A | (B & C) == A | B & C


@given(triggers())
def test_every_trigger_is_read_back_from_its_text(trigger):
    assert parse_condition(str(trigger)) == trigger


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ("", 1, "the condition is empty; expected a reading or a function"),
        (" \t ", 1, "the condition is empty"),
        ("det", 4, "expected one of > >= < <= == != after 'det', not the end"),
        ("det >", 6, "expected a number, not the end"),
        ("det > temp", 7, "expected a number, not 'temp'"),
        ("det > 5 and", 12, "expected a reading or a function, not the end"),
        ("det > 5 or and b > 1", 12, "expected a reading or a function, not 'and'"),
        ("det > 5 AND b > 1", 9, "expected 'and', 'or' or the end, not 'AND'"),
        ("det > 5 b > 1", 9, "expected 'and', 'or' or the end, not 'b'"),
        ("not det > 5", 1, "there is no 'not'; turn the operator round"),
        ("5 < det", 1, "expected a reading or a function, not '5'"),
        ("2theta > 5", 1, "a name that does not begin with a letter stands in double quotes"),
        ("det = 5", 5, "no operator '=' (did you mean '=='?); there are > >= < <= == !="),
        ("det => 5", 5, "no operator '=>' (did you mean '>='?)"),
        ("det ! 5", 5, "no operator '!' (did you mean '!='?)"),
        ("det >>> 5", 5, "no operator '>>>'; there are > >= < <= == !="),
        ("1 < det < 5", 1, "expected a reading or a function, not '1'"),
        ("det > 1 < 5", 9, "comparisons cannot be chained"),
        ("det > 5 & b > 1", 9, "no '&' in a text; use 'and' or 'or'"),
        ("det > 5abc", 7, "expected a number"),
        ("det > 1e999", 7, "1e999 is more than a number can be"),
        ("det + 1 > 5", 5, "expected a number"),
        ("det > 5; b > 1", 8, "';' has no meaning here"),
        ('"det > 5', 1, "there is no second"),
        ('"" > 5', 1, "no name between the two"),
        ("(det > 5", 9, "expected ')' for '(' in column 1, not the end"),
        ("det > 5)", 8, "there is a ')' without its '('"),
        ("()", 2, "expected a reading or a function, not ')'"),
        ("exec(det) > 5", 1, "no function 'exec'; there are derivative, peak, within"),
        ("a > 1 and __import__('os')", 11, "no function '__import__'; there are derivative"),
        ("derivate(det) > 5", 1, "no function 'derivate' (did you mean derivative?)"),
        ("derivative(5) > 5", 12, "expected the name of a reading, not '5'"),
        ("derivative(det)", 16, "expected one of > >= < <= == !="),
        ("derivative > 5 and derivative", 30, "a function has brackets: derivative(...)"),
        ("within(det, 10)", 15, "expected ',', not ')'"),
        ("within(det, 10, 20, 30)", 19, "expected ')' for 'within' in column 1, not ','"),
        ("within(det, 20, 10)", 13, "nothing is within 20 and 10; give the smaller number first"),
        ("peak(500)", 6, "expected one of prominence, height, width, max_width, or ')'"),
        ("peak(prom=5)", 6, "peak has no 'prom'; it has prominence, height, width, max_width"),
        ("peak(hight=5)", 6, "peak has no 'hight' (did you mean height?)"),
        ("peak(width=1, width=2)", 15, "'width' is given twice"),
        ("peak(width>1)", 11, "expected '=' after 'width', not '>'"),
        ("peak(width=-1)", 6, "min_width is -1; it cannot be negative"),
        ("peak(width=3, max_width=2)", 6, "no width is between 3 and 2"),
    ],
)
def test_a_bad_text_is_told_with_its_column_and_what_was_expected(text, column, words):
    with pytest.raises(ConditionError) as told:
        parse_condition(text)
    assert words in str(told.value)
    assert told.value.column == column
    assert str(told.value).startswith(f"column {column}: ")


def test_an_error_points_at_its_column():
    with pytest.raises(ConditionError) as told:
        parse_condition("det > 5 and cam => 3")
    _, shown, caret = str(told.value).splitlines()
    assert shown.strip() == "det > 5 and cam => 3"
    assert shown[caret.index("^") :] == "=> 3"


def test_an_error_in_a_long_text_shows_what_is_around_it():
    text = "a > 1 and " * 50 + "det => 5" + " and b > 1" * 50
    with pytest.raises(ConditionError) as told:
        parse_condition(text)
    _, shown, caret = str(told.value).splitlines()
    assert len(shown) < 100
    assert shown[caret.index("^") :].startswith("=> 5 and b > 1")


@pytest.mark.parametrize(
    ("text", "column"),
    [("cam-sim > 5", 1), ("det > 1 or within(cam-sim, 1, 2)", 19), ("derivative(cam-sim) > 1", 12)],
)
def test_an_unknown_reading_is_told_with_those_that_there_are(text, column):
    with pytest.raises(ConditionError) as told:
        parse_condition(text, ["det", "cam-sum"])
    assert "there is no reading 'cam-sim' (did you mean cam-sum?); there are det, cam-sum" in str(
        told.value
    )
    assert told.value.column == column


def test_a_known_reading_and_the_signals_peaks_need_no_more():
    assert parse_condition("det > 1 and peak()", ["det"]).names == ("det",)


def test_a_text_has_a_greatest_length():
    fits = "det > 1" + " " * 9_993
    assert parse_condition(fits) == Threshold("det", ">", 1)
    with pytest.raises(ConditionError, match="has 10001 characters; at most 10000 are possible"):
        parse_condition(fits + " ")


def test_brackets_have_a_greatest_depth():
    assert parse_condition("(" * 100 + "a > 1" + ")" * 100) == A
    with pytest.raises(ConditionError, match="brackets are more than 100 deep") as told:
        parse_condition("(" * 101 + "a > 1" + ")" * 101)
    assert told.value.column == 101


def test_and_and_or_take_turns_so_often_and_no_more():
    assert str(parse_condition("a > 1" + " and b > 1 or c > 1" * 50)).count("(") == 99
    with pytest.raises(ConditionError, match="nests 'and' and 'or' more than 100 deep"):
        parse_condition("a > 1" + " and b > 1 or c > 1" * 51)


def test_a_long_row_of_one_kind_is_no_nesting():
    assert len(parse_condition(" or ".join(["a > 1"] * 1000)).names) == 1


PIECES = """and or not ( ) , = > <= != det cam-sum 5 -1e3 1e999 derivative( within( peak(
prominence= lambda __import__ . & ' \""""
WORDS = st.sampled_from(PIECES.split())


@given(
    st.text(max_size=200)
    | st.text(alphabet=string.printable, max_size=200)
    | st.lists(WORDS, max_size=60).map(" ".join)
    | st.lists(WORDS, max_size=60).map("".join)
)
def test_any_text_is_a_trigger_or_an_error_that_names_its_column(text):
    try:
        trigger = parse_condition(text)
    except ConditionError as error:
        column = error.column
    else:
        assert parse_condition(str(trigger)) == trigger
        assert trigger.evaluate(Readings({})) is False
        return
    assert 1 <= column <= len(text) + 1


@pytest.mark.parametrize(
    "piece", ["(", '"', "-", "0", "a.", "a > 1 or ", "a and ", "<", "peak(", "."]
)
def test_a_text_of_the_greatest_length_is_judged_at_once(piece):
    text = (piece * 10_000)[:10_000]
    with pytest.raises(ConditionError):
        parse_condition(text, ["det"] * 10)


def test_nothing_in_a_text_is_executed(monkeypatch):
    called = []
    for name in ("eval", "exec", "compile", "__import__"):
        monkeypatch.setattr(f"builtins.{name}", lambda *args, **kwargs: called.append(args))
    for text in ("eval(det)", "exec(det) > 1", "__import__(os) > 1", "det.__class__ > 1"):
        try:
            parse_condition(text)
        except ConditionError:
            continue
    monkeypatch.undo()
    assert called == []


def test_a_condition_may_be_given_as_text_as_trigger_or_not_at_all():
    assert condition_of("a > 1") == A
    assert condition_of(A) is A
    assert condition_of(None) is None
    with pytest.raises(TypeError, match="a trigger or its text, not 5 of type int"):
        condition_of(5)  # pyright: ignore[reportArgumentType] (wrong on purpose)
    with pytest.raises(TypeError, match="a condition is a text, not None of type NoneType"):
        parse_condition(None)  # pyright: ignore[reportArgumentType] (wrong on purpose)
