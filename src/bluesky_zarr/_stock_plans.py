"""What bluesky's own plans say of their scan in a start document.

Their `plan_args` hold the repr of each motor followed by its arguments, and `motors` the names in
the same order (bluesky.plans, 1.15).
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

__all__ = ["Level", "levels_of", "num_points", "refuse_repeated"]


class Level(NamedTuple):
    """A dim that has no name yet."""

    positions: Mapping[str, Any]
    size: int
    snaked: bool = False


def levels_of(doc: Mapping[str, Any]) -> list[Level] | None:
    """The dims that a stock plan's start document describes, slowest first; None for other plans.

    Positions of relative plans are relative. What contradicts itself raises KeyError, TypeError or
    ValueError.

    >>> levels_of({"plan_name": "count"}) is None
    True
    """
    read = _STOCK_PLANS.get(str(doc.get("plan_name")).removeprefix("rel_"))
    if read is None or str(doc["plan_args"]["per_step"]) != "None":
        return None
    return read(doc)


def refuse_repeated(names: Iterable[str]) -> None:
    """Raise ValueError for a motor that is there twice."""
    repeated = [name for name, times in Counter(names).items() if times > 1]
    if repeated:
        raise ValueError(
            f"motor {', '.join(map(repr, repeated))} is used more than once in the scan; "
            "move each motor in one dim only (Concat joins several ranges of one motor)"
        )


def num_points(doc: Mapping[str, Any]) -> int | None:
    """How many points the plan said it would take; None where it did not know.

    >>> num_points({"num_points": 5})
    5
    """
    try:
        num = operator.index(doc["num_points"])
    except (KeyError, TypeError):
        return None
    return num if num > 0 else None


def _arguments(doc: Mapping[str, Any], args: Sequence[Any], per_motor: int) -> list[Sequence[Any]]:
    """Cut the arguments into one sequence per motor: its name, its repr, and what follows."""
    motors = list(doc["motors"])
    if not motors or len(args) != per_motor * len(motors):
        raise ValueError(f"{len(args)} arguments for {len(motors)} motors")
    refuse_repeated(motors)
    return [[motor, *args[per_motor * i : per_motor * (i + 1)]] for i, motor in enumerate(motors)]


def _scan(doc: Mapping[str, Any]) -> list[Level]:
    num = operator.index(doc["plan_args"]["num"])
    axes = _arguments(doc, doc["plan_args"]["args"], 3)
    return [Level({axis: np.linspace(start, stop, num) for axis, _, start, stop in axes}, num)]


def _list_scan(doc: Mapping[str, Any]) -> list[Level]:
    axes = _arguments(doc, doc["plan_args"]["args"], 2)
    return [Level({axis: values for axis, _, values in axes}, len(axes[0][2]))]


def _grid_scan(doc: Mapping[str, Any]) -> list[Level]:
    args = list(doc["plan_args"]["args"])
    args.insert(4, False)  # The slowest motor has no word about snaking.
    return [
        Level({axis: np.linspace(start, stop, num)}, num, bool(snaked))
        for axis, _, start, stop, num, snaked in _arguments(doc, args, 5)
    ]


def _list_grid_scan(doc: Mapping[str, Any]) -> list[Level]:
    axes = _arguments(doc, doc["plan_args"]["args"], 2)
    snaked = _snaked(str(doc["snake_axes"]), [representation for _, representation, _ in axes])
    return [
        Level({axis: values}, len(values), representation in snaked)
        for axis, representation, values in axes
    ]


def _snaked(snake_axes: str, motors: Sequence[str]) -> set[str]:
    """Find which motors, given by their repr, are in the repr of `list_grid_scan`'s snake_axes."""
    if snake_axes in ("False", "None"):
        return set()
    if snake_axes == "True":
        return set(motors)
    if snake_axes[:1] not in ("[", "(", "{") or len(set(motors)) < len(motors):
        raise ValueError(f"cannot tell which of the motors {motors} are in {snake_axes}")
    found: set[str] = set()
    rest = snake_axes[1:-1]
    while rest:
        # Whole items only: the repr of a motor "x" may also be in that of a motor "x2".
        match = next((m for m in motors if rest == m or rest.startswith(f"{m},")), None)
        if match is None:
            raise ValueError(f"cannot tell which of the motors {motors} are in {snake_axes}")
        found.add(match)
        rest = rest[len(match) :].removeprefix(",").lstrip()
    return found


_STOCK_PLANS: dict[str, Callable[[Mapping[str, Any]], list[Level]]] = {
    "scan": _scan,
    "list_scan": _list_scan,
    "grid_scan": _grid_scan,
    "list_grid_scan": _list_grid_scan,
}
