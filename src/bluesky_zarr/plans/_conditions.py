"""Triggers as text, for queue servers and terminals: `"det > 1000 and derivative(det) > 50"`.

    condition  = term { ("and" | "or") term }            from left to right, neither binds closer
    term       = "(" condition ")" | comparison | "within" "(" name "," number "," number ")"
               | "peak" "(" [ argument { "," argument } ] ")"
    comparison = ( name | "derivative" "(" name ")" ) operator number
    argument   = ( "prominence" | "height" | "width" | "max_width" ) "=" number
    operator   = ">" | ">=" | "<" | "<=" | "==" | "!="

A name has letters, digits and `_ - . :` and begins with a letter; any other stands in double
quotes. There is no arithmetic, so that a hyphen is part of a name or a sign.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from ._joining import MAX_NESTING, AllOf, AnyOf, Trigger
from ._triggers import NAME, OPERATORS, RESERVED, Derivative, PeakFound, Threshold, Within

__all__ = ["MAX_LENGTH", "ConditionError", "condition_of", "parse_condition"]

#: How many characters a condition may have.
MAX_LENGTH = 10_000

#: How much of a long text an error shows on either side of its column.
SHOWN = 40

FUNCTIONS = ("derivative", "peak", "within")

#: What is meant by an operator of another language.
MEANT = {"=": "==", "=>": ">=", "=<": "<=", "!": "!=", "<>": "!=", "===": "==", "!==": "!="}

TOKEN = re.compile(
    rf"""
    (?P<name>{NAME.pattern})
    | "(?P<quoted>[^"]+)"
    | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.]))
    | (?P<operator>[<>=!]+)
    | (?P<mark>[(),])
    """,
    re.VERBOSE,
)


class ConditionError(ValueError):
    """A text is no condition: says what is wrong, in which column, and what was expected there.

    `column` counts from 1.
    """

    def __init__(self, problem: str, text: str, column: int) -> None:
        at = column - 1
        first, last = max(0, at - SHOWN), at + SHOWN
        # One character for one, so that the caret stays below what it means.
        shown = "".join(c if c.isprintable() else " " for c in text[first:last])
        before, after = "... " if first else "", " ..." if last < len(text) else ""
        caret = " " * (len(before) + at - first) + "^"
        super().__init__(f"column {column}: {problem}\n  {before}{shown}{after}\n  {caret}")
        self.column = column


def parse_condition(text: str, known_names: Iterable[str] | None = None) -> Trigger:
    """Make a trigger from its text form. Nothing in the text is ever executed.

    `and` and `or` are taken from left to right: `a > 1 or b > 1 and c > 1` is
    `(a > 1 or b > 1) and c > 1`, other than in Python. Brackets say otherwise.

    Parameters
    ----------
    text
        At most 10 000 characters, brackets at most 100 deep.
    known_names
        The readings that there are; any other is refused.

    Raises
    ------
    ConditionError
        The text is no condition, or names a reading that there is not.
    TypeError
        It is no text.

    Examples
    --------
    >>> parse_condition("cam-sum > 1000 and peak(prominence=500)").names
    ('cam-sum',)
    >>> parse_condition("det => 5")
    Traceback (most recent call last):
        ...
    bluesky_zarr.plans._conditions.ConditionError: column 5: there is no operator '=>' ...
      det => 5
          ^
    """
    if not isinstance(text, str):
        raise TypeError(
            f"a condition is a text, not {text!r:.60} of type {type(text).__name__}; write "
            "one like 'cam-sum > 1000'"
        )
    if len(text) > MAX_LENGTH:
        raise ConditionError(
            f"the condition has {len(text)} characters; at most {MAX_LENGTH} are possible",
            text,
            MAX_LENGTH + 1,
        )
    return _Parser(text, None if known_names is None else tuple(known_names)).parse()


def condition_of(
    condition: Trigger | str | None, known_names: Iterable[str] | None = None
) -> Trigger | None:
    """Return a condition that may be given as a trigger, as text or not at all as a trigger.

    Raises
    ------
    ConditionError
        As in `parse_condition`.
    TypeError
        It is neither.

    Examples
    --------
    >>> str(condition_of("det>1"))
    'det > 1'
    """
    if condition is None or isinstance(condition, str):
        return None if condition is None else parse_condition(condition, known_names)
    if isinstance(condition, Trigger) and not isinstance(condition, type):
        return condition
    raise TypeError(
        f"a condition is a trigger or its text, not {condition!r:.60} of type "
        f"{type(condition).__name__}; write one like 'cam-sum > 1000'"
    )


class _Token(NamedTuple):
    """A piece of the text: its kind ("end" past the last), its text, and where it begins."""

    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent, one token ahead."""

    def __init__(self, text: str, known: tuple[str, ...] | None) -> None:
        self._text = text
        self._known = known
        self._depth = 0
        self._end = 0
        self._token = _Token("end", "", 0)
        self._advance()

    def parse(self) -> Trigger:
        if self._token.kind == "end":
            self._fail("the condition is empty; expected a reading or a function", 0)
        condition = self._condition()
        if self._is(")"):
            self._fail("there is a ')' without its '('")
        if self._token.kind != "end":
            self._expected("'and', 'or' or the end")
        return condition

    def _condition(self) -> Trigger:
        terms, kind = [self._term()], None
        while self._token.kind == "name" and self._token.text in ("and", "or"):
            token = self._take()
            one = AllOf if token.text == "and" else AnyOf
            if kind not in (None, one):
                terms = [self._join(kind, terms, token)]
            kind = one
            terms.append(self._term())
        return self._join(kind, terms, self._token) if kind else terms[0]

    def _join(
        self, kind: Callable[[tuple[Trigger, ...]], Trigger], terms: list[Trigger], token: _Token
    ) -> Trigger:
        try:
            return kind(tuple(terms))
        except ValueError as error:
            self._fail(str(error), token.at)

    def _term(self) -> Trigger:
        token = self._token
        if self._is("("):
            return self._bracket()
        if token.kind not in ("name", "quoted"):
            self._expected("a reading or a function")
        if token.kind == "name" and token.text in RESERVED:
            hint = ": there is no 'not'; turn the operator round" if token.text == "not" else ""
            self._fail(f"expected a reading or a function, not '{token.text}'{hint}")
        self._take()
        if not (token.kind == "name" and self._is("(")):
            self._check_known(token)
            return self._comparison(Threshold, token)
        if token.text not in FUNCTIONS:
            close = self._close_to(token.text, FUNCTIONS)
            self._fail(
                f"there is no function '{token.text:.60}'{close}; there are {', '.join(FUNCTIONS)}",
                token.at,
            )
        self._take()
        if token.text == "within":
            return self._within(token)
        if token.text == "peak":
            return self._peak(token)
        reading = self._reading()
        self._close(token)
        return self._comparison(Derivative, reading)

    def _bracket(self) -> Trigger:
        opened = self._take()
        self._depth += 1
        if self._depth > MAX_NESTING:
            self._fail(f"brackets are more than {MAX_NESTING} deep", opened.at)
        condition = self._condition()
        self._close(opened)
        self._depth -= 1
        return condition

    def _comparison(self, kind: type[Threshold] | type[Derivative], reading: _Token) -> Trigger:
        token = self._token
        if token.kind != "operator":
            call = f" (a function has brackets: {reading.text}(...))"
            hint = call if reading.kind == "name" and reading.text in FUNCTIONS else ""
            self._expected(f"one of {' '.join(OPERATORS)} after '{reading.text}'{hint}")
        if token.text not in OPERATORS:
            meant = MEANT.get(token.text)
            hint = f" (did you mean '{meant}'?)" if meant else ""
            self._fail(
                f"there is no operator '{token.text}'{hint}; there are {' '.join(OPERATORS)}"
            )
        self._take()
        value = self._number()
        if self._token.kind == "operator":
            self._fail(
                "comparisons cannot be chained; join them by 'and', or use "
                "within(name, lowest, highest)"
            )
        return kind(reading.text, token.text, value)

    def _within(self, function: _Token) -> Trigger:
        reading = self._reading()
        self._comma()
        first = self._token
        lo = self._number()
        self._comma()
        hi = self._number()
        self._close(function)
        return self._made(lambda: Within(reading.text, lo, hi), first)

    def _peak(self, function: _Token) -> Trigger:
        given: dict[str, float] = {}
        first = self._token
        while not self._is(")"):
            if given:
                self._comma()
            token = self._token
            if token.kind != "name":
                self._expected(f"one of {', '.join(PeakFound.TEXT)}, or ')'")
            if token.text not in PeakFound.TEXT:
                close = self._close_to(token.text, PeakFound.TEXT)
                self._fail(f"peak has no '{token.text}'{close}; it has {', '.join(PeakFound.TEXT)}")
            if PeakFound.TEXT[token.text] in given:
                self._fail(f"'{token.text}' is given twice")
            self._take()
            if self._token[:2] != ("operator", "="):
                self._expected(f"'=' after '{token.text}'")
            self._take()
            given[PeakFound.TEXT[token.text]] = self._number()
        self._close(function)
        return self._made(lambda: PeakFound(**given), first)

    def _made(self, make: Callable[[], Trigger], first: _Token) -> Trigger:
        """Return a trigger; one that its own class refuses is an error at its first argument."""
        try:
            return make()
        except ValueError as error:
            self._fail(str(error), first.at)

    def _reading(self) -> _Token:
        token = self._token
        if token.kind not in ("name", "quoted"):
            self._expected("the name of a reading")
        self._check_known(token)
        return self._take()

    def _number(self) -> float:
        if self._token.kind != "number":
            self._expected("a number")
        value = float(self._token.text)
        if value in (float("inf"), float("-inf")):
            self._fail(f"{self._token.text:.40} is more than a number can be")
        self._take()
        return value

    def _comma(self) -> None:
        if not self._is(","):
            self._expected("','")
        self._take()

    def _close(self, opened: _Token) -> None:
        if not self._is(")"):
            self._expected(f"')' for '{opened.text}' in column {opened.at + 1}")
        self._take()

    def _check_known(self, token: _Token) -> None:
        if self._known is None or token.text in self._known:
            return
        self._fail(
            f"there is no reading '{token.text:.60}'{self._close_to(token.text, self._known)}; "
            f"there are {', '.join(self._known) or 'none'}",
            token.at,
        )

    def _close_to(self, name: str, names: Iterable[str]) -> str:
        # The comparison takes time with the square of the length.
        close = difflib.get_close_matches(name[:100], list(names), n=2)
        return f" (did you mean {' or '.join(close)}?)" if close else ""

    def _is(self, mark: str) -> bool:
        return self._token.kind == "mark" and self._token.text == mark

    def _take(self) -> _Token:
        token = self._token
        self._advance()
        return token

    def _advance(self) -> None:
        """Read the next token."""
        at = self._end
        while at < len(self._text) and self._text[at].isspace():
            at += 1
        if at == len(self._text):
            self._token = _Token("end", "", at)
            return
        found = TOKEN.match(self._text, at)
        if found is None:
            self._fail(self._unreadable(at), at)
        kind = found.lastgroup or ""
        self._token, self._end = _Token(kind, found[kind], at), found.end()

    def _unreadable(self, at: int) -> str:
        character = self._text[at]
        if character == '"':
            return "there is no second '\"', or no name between the two"
        if character in "&|":
            return f"there is no '{character}' in a text; use 'and' or 'or'"
        if character.isdigit() or character in "+-.":
            return (
                "expected a number; a name that does not begin with a letter stands in double "
                "quotes"
            )
        return f"{character!r} has no meaning here"

    def _expected(self, what: str) -> NoReturn:
        token = self._token
        got = "the end" if token.kind == "end" else f"'{token.text:.60}'"
        self._fail(f"expected {what}, not {got}")

    def _fail(self, problem: str, at: int | None = None) -> NoReturn:
        raise ConditionError(problem, self._text, (self._token.at if at is None else at) + 1)
