"""What an adaptive scan does with a peak that its condition let through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bluesky.utils import MsgGenerator

from bluesky_zarr.peaks import Peak

__all__ = ["Acquire", "Action", "Hand", "Mark", "MoveTo", "Refine", "Return", "actions_of"]


class Hand(Protocol):
    """What an action may do with the scan's motors and detectors, when the search is over."""

    def move(self, position: Sequence[float]) -> MsgGenerator[None]:
        """Move the scan's axes; positions out of the range that was asked for are its ends."""
        ...

    def acquire(self, peaks: Sequence[Peak], exposures: int) -> MsgGenerator[None]:
        """Take events at each of the peaks, into stream ``at_peaks``."""
        ...

    def go_back(self) -> MsgGenerator[None]:
        """Move the axes to where they were before the scan."""
        ...


@runtime_checkable
class Action(Protocol):
    """What is done with a peak. One's own is an object with these three.

    `text` names it in the record of decisions; `refines` says whether the strategy measures the
    peak further.
    """

    @property
    def text(self) -> str:
        """A word or two, for the record."""
        ...

    @property
    def refines(self) -> bool:
        """Whether the strategy shall spend points on the peak."""
        ...

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """Messages for the end of the search; `peaks` are those approved, most prominent first."""
        ...


@dataclass(frozen=True)
class Refine:
    """Let the strategy measure the peak until it is resolved: zoom, or resolve."""

    text = "refine"
    refines = True

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """Nothing is left to do."""
        yield from ()


@dataclass(frozen=True)
class Mark:
    """Note the peak, and go on."""

    text = "mark"
    refines = False

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """The record of decisions has it already."""
        yield from ()


@dataclass(frozen=True)
class MoveTo:
    """Leave the motors at the most prominent peak."""

    text = "move"
    refines = False

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """Go there, if there is one."""
        if peaks:
            yield from hand.move(peaks[0].centers)


@dataclass(frozen=True)
class Acquire:
    """Take further exposures at each peak, into a stream of their own, ``at_peaks``.

    Raises
    ------
    ValueError
        For less than one exposure.
    """

    exposures: int = 1
    refines = False

    def __post_init__(self) -> None:
        if self.exposures < 1:
            raise ValueError(f"Acquire({self.exposures}): take one exposure or more at each peak.")

    @property
    def text(self) -> str:
        """The word, and how many."""
        return f"acquire {self.exposures}"

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """Go to each peak in turn."""
        if peaks:
            yield from hand.acquire(peaks, self.exposures)


@dataclass(frozen=True)
class Return:
    """Bring the motors back to where they were before the scan."""

    text = "return"
    refines = False

    def finish(self, hand: Hand, peaks: Sequence[Peak]) -> MsgGenerator[None]:
        """Go back."""
        yield from hand.go_back()


_WORDS = {"refine": Refine, "mark": Mark, "move": MoveTo, "return": Return}


def actions_of(given: Action | str | Iterable[Action | str]) -> tuple[Action, ...]:
    """Make actions from what a user typed: words, objects, or several of them, done in order.

    Raises
    ------
    ValueError
        For other words, or none at all.

    Examples
    --------
    >>> [action.text for action in actions_of(["refine", "acquire 5", MoveTo()])]
    ['refine', 'acquire 5', 'move']
    """
    if isinstance(given, str):
        return (_action(given),)
    if isinstance(given, Action) and not isinstance(given, type):
        return (given,)
    if not isinstance(given, Iterable) or isinstance(given, type):
        raise ValueError(f"action={given!r}: {_ADVICE}")
    actions = tuple(_action(one) if isinstance(one, str) else one for one in given)
    for action in actions:
        if not isinstance(action, Action) or isinstance(action, type):
            raise ValueError(f"action={action!r}: {_ADVICE}")
    if not actions:
        raise ValueError(f"action is empty: {_ADVICE}")
    return actions


def _action(text: str) -> Action:
    word, *rest = text.split() or [""]
    if word in _WORDS and not rest:
        return _WORDS[word]()
    if word == "acquire" and len(rest) <= 1 and all(r.lstrip("-").isdecimal() for r in rest):
        return Acquire(*map(int, rest))
    raise ValueError(f"action={text!r}: {_ADVICE}")


_ADVICE = (
    "Give 'refine', 'mark', 'move', 'acquire 5' or 'return', several of them in a list, or objects "
    "with text, refines and finish."
)
