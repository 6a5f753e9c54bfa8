"""Strategies by their names, as a queue server gives them."""

from __future__ import annotations

from ._resolve import Resolve
from ._strategy import Strategy
from ._zoom_strategy import Zoom

__all__ = ["strategy_of"]


def strategy_of(given: Strategy | str) -> Strategy:
    """Make a strategy from what a user typed.

    Raises
    ------
    ValueError
        For other words, or an object without `search`.

    Examples
    --------
    >>> strategy_of("zoom 4").factor
    4.0
    """
    if isinstance(given, str):
        word, *rest = given.split() or [""]
        if word == "resolve" and not rest:
            return Resolve()
        if word == "zoom" and len(rest) <= 1:
            try:
                return Zoom(*(float(number.removesuffix("x")) for number in rest))
            except ValueError as error:
                raise ValueError(f"strategy={given!r}: {error}") from error
    elif isinstance(given, Strategy) and not isinstance(given, type):
        return given
    raise ValueError(
        f"strategy={given!r}: give 'resolve', 'zoom 2' (or another factor), or an object with "
        "search(field), such as Resolve() or Zoom(2)."
    )
