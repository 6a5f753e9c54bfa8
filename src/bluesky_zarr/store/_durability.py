"""When the data of frames goes to disk before publication: the choices by name, and the thread that
does it.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

_logger = logging.getLogger(__name__)

DURABILITY_HELP = (
    '"page" (the system decides), "flush" (once a second), "flush-N-frames" (N from 1), '
    '"flush-X-s" (X seconds, above 0)'
)
"""The names of durabilities that are understood, as a text for error messages."""

_NAME = re.compile(r"page|flush|flush-(?P<frames>\d+)-frames|flush-(?P<seconds>\d*\.?\d+)-s")


@dataclass(frozen=True)
class Flush:
    """Data goes to disk after so many frames, or after so many seconds; 0 = not because of that."""

    frames: int = 0
    seconds: float = 0.0


def flush_of(durability: str) -> Flush | None:
    """What a durability's name asks for; None for "page".

    Raises
    ------
    ValueError
        The name is not a durability.

    Examples
    --------
    >>> flush_of("flush-100-frames")
    Flush(frames=100, seconds=0.0)
    >>> flush_of("flush")
    Flush(frames=0, seconds=1.0)
    """
    match = _NAME.fullmatch(durability) if isinstance(durability, str) else None
    flush = None
    if match is not None:
        if durability == "page":
            return None
        if durability == "flush":
            return Flush(seconds=1.0)
        flush = Flush(int(match["frames"] or 0), float(match["seconds"] or 0))
    if flush is None or not (flush.frames or flush.seconds):
        raise ValueError(f"durability {durability!r} is none of {DURABILITY_HELP}")
    return flush


class Flusher:
    """A thread that calls `sync`, a bound method, when it is due; it ends with the method's object,
    and after the first error, which `sync` has kept by then.

    No writer waits for it: frames are stored, and read, while the disk is at work.
    """

    def __init__(self, flush: Flush, sync: Callable[[], None]) -> None:
        self._frames = flush.frames
        # Whether to end. No Event: Ctrl-C in its `set`, which is of Python, would leave it locked
        # for ever.
        self._due: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._next = flush.frames
        method = weakref.WeakMethod(sync)
        # Whoever forgets to close a sink does not keep its thread.
        weakref.finalize(getattr(sync, "__self__"), self._due.put, True)  # noqa: B009
        self._thread = threading.Thread(
            target=_flush,
            args=(method, self._due, flush.seconds or None),
            name="bluesky-zarr-flush",
            daemon=True,
        )
        self._thread.start()

    def stored(self, completed: int) -> None:
        """So many frames are stored by now."""
        if self._frames and completed >= self._next:
            self._next = completed + self._frames
            self._due.put(False)

    def close(self) -> None:
        """End the thread, and wait for what it is at."""
        self._due.put(True)
        self._thread.join()


def _flush(
    method: weakref.WeakMethod[Callable[[], None]],
    due: queue.SimpleQueue[bool],
    seconds: float | None,
) -> None:
    while True:
        ended = False
        with contextlib.suppress(queue.Empty):
            ended = due.get(timeout=seconds)
            while True:
                ended |= due.get_nowait()
        sync = method()
        if sync is None or ended:
            return
        try:
            sync()
        except Exception:
            # The next call of the source raises it. The same bytes are not tried again: the kernel
            # would call them written.
            _logger.debug("frames could not be brought to disk", exc_info=True)
            return
        del sync
