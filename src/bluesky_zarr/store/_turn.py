"""Taking turns where a lock would cost as much as the work."""

from __future__ import annotations

import threading

# Between giving the turn up and looking for who waits, a signal's handler may end the call.
_LOOK_AGAIN_SECONDS = 0.05


class Turn:
    """A context manager that one thread at a time is in; a thread must not enter it twice.

    Where nobody waits it costs a fifth of a `threading.Lock`. Who has to be faster still (a call of
    a method costs as much again) does what `__enter__` and `__exit__` do:

    - the second element of `free` is the turn. Who deletes it has it; IndexError says that another
      one has. To delete an element is one step of the interpreter, before and after which, but not
      during which, other threads and signal handlers run, and handlers run only behind a call: none
      comes between the turn and a `try` that follows it.
    - Who appends it again has given it up, and has to `wake` who is `waiting`.

    Examples
    --------
    >>> turn = Turn()
    >>> with turn:
    ...     len(turn.free)
    1
    >>> len(turn.free)
    2
    """

    __slots__ = ("_freed", "_lock", "free", "waiting")

    def __init__(self) -> None:
        self.free: list[None] = [None, None]
        self.waiting = 0
        # Always entered as the bare lock, for the reason that `FrameQueue` has.
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)

    def __enter__(self) -> None:
        while True:
            try:
                del self.free[1]
                return
            except IndexError:
                self._wait()

    def __exit__(self, *_: object) -> None:
        self.free.append(None)
        if self.waiting:
            self.wake()

    def wake(self) -> None:
        """Let one of those who wait try again."""
        with self._lock:
            self._freed.notify()

    def _wait(self) -> None:
        with self._lock:
            # Said before looking: who gives the turn up after that sees it.
            self.waiting += 1
            try:
                if len(self.free) < 2:
                    self._freed.wait(_LOOK_AGAIN_SECONDS)
            finally:
                self.waiting -= 1
