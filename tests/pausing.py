"""Plans that are paused before their n-th message."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bluesky.preprocessors as bpp
from bluesky.utils import Msg, RunEngineInterrupted


def pausing(plan: Any, before: set[int], counter: list[int]) -> Any:
    """The plan with a hard pause before its n-th messages."""

    def insert(msg: Msg) -> tuple[Any, Any]:
        n = counter[0]
        counter[0] += 1
        if n in before:

            def paused() -> Any:
                yield Msg("pause", None, defer=False)
                return (yield msg)

            return paused(), None
        return None, None

    return bpp.plan_mutator(plan, insert)


def run_through(RE: Any, plan: Any) -> int:
    """Run a plan, and resume it after each pause; gives the number of pauses."""
    pauses = 0
    try:
        RE(plan)
    except RunEngineInterrupted:
        pauses += 1
        while True:
            try:
                RE.resume()
                break
            except RunEngineInterrupted:
                pauses += 1
    return pauses


def messages_of(lab: SimpleNamespace, plan: Any) -> tuple[int, int]:
    """How many messages a plan has as the RunEngine sees it, and the number of its open_run."""
    commands: list[str] = []
    lab.RE.msg_hook = lambda msg: commands.append(msg.command)
    lab.RE(plan)
    lab.RE.msg_hook = None
    return len(commands), commands.index("open_run")
