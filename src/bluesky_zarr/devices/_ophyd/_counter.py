"""The number that ophyd-async waits for."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

from ophyd_async.core import soft_signal_r_and_setter

from ._progress import Progress

__all__ = ["Counter"]

#: More frames than any scan has: shown to end a wait that would never end.
_RELEASE = 1 << 60
#: More frames than anybody waits for at once.
_STEP = 1 << 40
#: Seconds between two counts that are shown while a row is flown.
_SHOWN_SECONDS = 0.02
#: Seconds that a pause waits for what is under way; only a `prepare` that hangs takes longer.
_PATIENCE = 10.0

logger = logging.getLogger("bluesky_zarr.devices")


class Counter:
    """Shows how many frames can be read, as a signal; an error ends the wait for more of them.

    Soft signals may be set on the event loop's thread only; frames come on any other.
    """

    def __init__(self, progress: Progress) -> None:
        self.signal, self._set = soft_signal_r_and_setter(int, 0)
        self._progress = progress
        self._loop: asyncio.AbstractEventLoop | None = None
        self._error: BaseException | None = None
        self._later = False

    def connect(self) -> None:
        """Show counts on the event loop that runs."""
        self._loop = asyncio.get_running_loop()
        self._later = False

    def show(self) -> None:
        """Show the present count; from any thread."""
        self._on_loop(self._show)

    def show_soon(self) -> None:
        """Show the count a little later, once for all frames that come until then."""
        # Each count that is shown costs the event loop as much as a small frame costs its workers.
        if not self._later:
            self._later = True
            self._on_loop(self._show_later)

    def fail(self, error: BaseException) -> None:
        """End the wait with an error; the first one counts. From any thread."""
        self._error = self._error or error
        self._on_loop(lambda: self._set(_RELEASE))

    def raise_error(self) -> None:
        """Raise what went wrong since this was asked last."""
        error, self._error = self._error, None
        if error is not None:
            self.show()
            raise error

    async def release(self, under_way: Callable[[], Iterable[Any]], name: str) -> None:
        """End every wait, whatever it waits for, until all statuses of `under_way` are done."""
        shown = _RELEASE
        deadline = time.monotonic() + _PATIENCE
        while any(not status.done for status in under_way()):
            if time.monotonic() > deadline:
                logger.warning("'%s' is not done %.0f s after the pause; going on", name, _PATIENCE)
                return
            # A trigger may be on its way to the counter still, and wait for more than it shows.
            self._set(shown)
            shown += _STEP
            await asyncio.sleep(0.001)

    def _on_loop(self, function: Callable[[], None]) -> None:
        if self._loop is not None and self._loop is _running_loop():
            function()
        elif self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function)

    def _show(self) -> None:
        self._later = False
        # An error that nobody has heard of has to end the wait that comes next, as well.
        self._set(_RELEASE if self._error is not None else self._progress.readable)

    def _show_later(self) -> None:
        asyncio.get_running_loop().call_later(_SHOWN_SECONDS, self._show)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
