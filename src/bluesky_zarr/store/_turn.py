"""Taking turns where a lock would cost as much as the work."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec, Protocol, TypeVar

# Between giving the turn up and looking for who waits, a signal's handler may end the call.
_LOOK_AGAIN_SECONDS = 0.05

# One who takes turn after turn has it again before anybody else has woken up. Who has waited for
# so long is made room for, by standing back for so long.
_LATE_SECONDS = 0.02
_ROOM_SECONDS = 0.001


class Turn:
    """What one thread at a time has: see `taking_turns`.

    Where nobody waits it costs a fifth of a `threading.Lock`. Who has to be faster still (a call of
    a method costs as much again) does what `taking_turns` does:

    - the second element of `free` is the turn. Who deletes it has it; IndexError says that another
      one has. To delete an element is one step of the interpreter, before and after which, but not
      during which, other threads and signal handlers run, and handlers run only behind a call: none
      comes between the turn and a `try` that follows it.
    - Who appends it again has given it up, and has to `wake` who is `waiting`. It has to be
      appended in the `finally` itself: a handler may end a function of Python, so an `__exit__`,
      before its first line.
    """

    __slots__ = ("_freed", "_late", "_lock", "free", "waiting")

    def __init__(self) -> None:
        self.free: list[None] = [None, None]
        self.waiting = 0
        self._late = 0
        # Always entered as the bare lock, for the reason that `FrameQueue` has.
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)

    def wake(self) -> None:
        """Let one of those who wait try again, and stand back if one of them is late."""
        with self._lock:
            self._freed.notify()
            late = self._late
        if late:
            time.sleep(_ROOM_SECONDS)

    def wait(self, since: float) -> None:
        """Wait until it may be free; `since` is when that began, by `time.monotonic`."""
        late = time.monotonic() - since > _LATE_SECONDS
        with self._lock:
            # Said before looking: who gives the turn up after that sees it.
            self.waiting += 1
            self._late += late
            try:
                if len(self.free) < 2:
                    self._freed.wait(_LOOK_AGAIN_SECONDS)
            finally:
                self.waiting -= 1
                self._late -= late


class _HasTurn(Protocol):
    @property
    def turn(self) -> Turn: ...


S = TypeVar("S", bound=_HasTurn)
P = ParamSpec("P")
R = TypeVar("R")


def taking_turns(
    method: Callable[Concatenate[S, P], R],
) -> Callable[Concatenate[S, P], R]:
    """A method that one thread at a time is in, of all of its object's that are decorated so; they
    must not call each other.

    Examples
    --------
    >>> class Counter:
    ...     turn = Turn()
    ...
    ...     @taking_turns
    ...     def free(self):
    ...         return len(self.turn.free)
    >>> Counter().free()
    1
    """

    @functools.wraps(method)
    def in_turn(self: S, /, *args: P.args, **options: P.kwargs) -> R:
        turn = self.turn
        free = turn.free
        since = 0.0
        while True:
            try:
                del free[1]
                break
            except IndexError:
                since = since or time.monotonic()
                turn.wait(since)
        try:
            return method(self, *args, **options)
        finally:
            free.append(None)
            if turn.waiting:
                turn.wake()

    return in_turn
