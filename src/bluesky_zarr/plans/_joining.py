"""What a trigger is, and how several become one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, runtime_checkable

from ._readings import Readings

__all__ = ["MAX_NESTING", "AllOf", "AnyOf", "Joinable", "Trigger", "fired"]

#: How deep "and" and "or" may be nested in each other.
MAX_NESTING = 100


@runtime_checkable
class Trigger(Protocol):
    """A condition on readings: whatever has these two may be used as one.

    Derive it from `Joinable` to join it with others by `&` and `|`. Asked after each acquisition,
    it should take no time to speak of, and change nothing.

    Examples
    --------
    >>> from bluesky_zarr.plans._triggers import Threshold
    >>> class Odd(Joinable):
    ...     "Fires for odd numbers."
    ...
    ...     names = ("det",)
    ...
    ...     def evaluate(self, readings):
    ...         return readings.number("det") % 2 == 1
    >>> both = Odd() & Threshold("det", ">", 2)
    >>> both.evaluate(Readings({"det": 3})), both.evaluate(Readings({"det": 1}))
    (True, False)
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The readings that it uses, besides the scan's signal."""
        ...

    def evaluate(self, readings: Readings) -> bool:
        """Return whether the condition holds."""
        ...


class Joinable:
    """Lets triggers be joined: `a & b` fires when both hold, `a | b` when one of them does.

    They are evaluated from left to right, and no further than needed. In Python `&` binds closer
    than `|`: `a | b & c` is `a | (b & c)`. In the text form neither does. Python's own `and` and
    `or` would drop one of the two without a word, and are refused.

    Raises
    ------
    ValueError
        `&` and `|` are nested more than 100 deep.
    TypeError
        The other one is not a trigger, or the trigger is used as if it were true or false.
    """

    def fired(self, readings: Readings) -> str:
        """Return what was true, once the trigger has fired."""
        return str(self)

    def __str__(self) -> str:
        return type(self).__name__

    def __bool__(self) -> bool:
        raise TypeError(
            f"the trigger {self} is neither true nor false by itself; join triggers by & and | "
            "in place of 'and' and 'or', and compare with None"
        )

    def __and__(self, other: Any) -> AllOf:
        return _join(AllOf, self, other)

    def __rand__(self, other: Any) -> AllOf:
        return _join(AllOf, other, self)

    def __or__(self, other: Any) -> AnyOf:
        return _join(AnyOf, self, other)

    def __ror__(self, other: Any) -> AnyOf:
        return _join(AnyOf, other, self)


@dataclass(frozen=True)
class _Joined(Joinable):
    """Terms in order, at least two; of one's own kind they are taken in, as it is all the same."""

    terms: tuple[Trigger, ...]
    depth: int = field(init=False, repr=False, compare=False)

    _word: ClassVar[str]

    def __post_init__(self) -> None:
        terms: list[Trigger] = []
        for term in self.terms:
            terms += term.terms if isinstance(term, type(self)) else (term,)
        if len(terms) < 2:
            raise ValueError(
                f"{type(self).__name__} joins triggers: give two or more, not {len(terms)}"
            )
        depth = 1 + max(term.depth if isinstance(term, _Joined) else 0 for term in terms)
        if depth > MAX_NESTING:
            raise ValueError(
                f"the condition nests 'and' and 'or' more than {MAX_NESTING} deep; "
                "join what belongs together by one of them first"
            )
        object.__setattr__(self, "terms", tuple(terms))
        object.__setattr__(self, "depth", depth)

    @property
    def names(self) -> tuple[str, ...]:
        """The readings of all terms, each once."""
        return tuple(dict.fromkeys(name for term in self.terms for name in term.names))

    def __str__(self) -> str:
        texts = (f"({term})" if isinstance(term, _Joined) else str(term) for term in self.terms)
        return f" {self._word} ".join(texts)


@dataclass(frozen=True)
class AllOf(_Joined):
    """Fires when all of its terms hold: what `&` makes. The first that does not ends it.

    Examples
    --------
    >>> from bluesky_zarr.plans._triggers import Threshold
    >>> str(Threshold("det", ">", 1) & Threshold("temp", "<", 300))
    'det > 1 and temp < 300'
    """

    _word = "and"

    def evaluate(self, readings: Readings) -> bool:
        """Return whether all terms hold, asked from left to right."""
        return all(term.evaluate(readings) for term in self.terms)

    def fired(self, readings: Readings) -> str:
        """Return what was true of each term."""
        return " and ".join(fired(term, readings) for term in self.terms)


@dataclass(frozen=True)
class AnyOf(_Joined):
    """Fires when one of its terms holds: what `|` makes. The first that does ends it.

    Examples
    --------
    >>> from bluesky_zarr.plans._triggers import Threshold
    >>> a, b, c = (Threshold(name, ">", 1) for name in "abc")
    >>> str(a | b & c), str((a | b) & c)
    ('a > 1 or (b > 1 and c > 1)', '(a > 1 or b > 1) and c > 1')
    """

    _word = "or"

    def evaluate(self, readings: Readings) -> bool:
        """Return whether a term holds, asked from left to right."""
        return any(term.evaluate(readings) for term in self.terms)

    def fired(self, readings: Readings) -> str:
        """Return what was true of the first term that holds."""
        return next((fired(t, readings) for t in self.terms if t.evaluate(readings)), "")


def _join(kind: type[_Joined], first: Any, second: Any) -> Any:
    if isinstance(first, Trigger) and isinstance(second, Trigger):
        return kind((first, second))
    return NotImplemented


def fired(trigger: Trigger, readings: Readings) -> str:
    """Return what was true when a trigger fired: its own words, or its text if it has none.

    Ask it with the same `Readings` that it has fired for.

    Examples
    --------
    >>> from bluesky_zarr.plans._triggers import Threshold
    >>> trigger = Threshold("det", ">", 1000) | Threshold("temp", ">", 300)
    >>> fired(trigger, Readings({"det": 5, "temp": 310}))
    'temp = 310 > 300'
    """
    describe = getattr(trigger, "fired", None)
    return str(trigger) if describe is None else describe(readings)
