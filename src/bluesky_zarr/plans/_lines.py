"""Lines that a person types, read without blocking the RunEngine's event loop."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import os
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

__all__ = ["LineReader"]


class LineReader(ABC):
    """Where a person's next line comes from."""

    @classmethod
    def here(cls) -> LineReader | None:
        """The reader for this session: a notebook's, a terminal's, or none."""
        if _in_a_kernel():
            return _KernelReader.shared()
        with contextlib.suppress(AttributeError, ValueError, OSError):
            if sys.stdin.isatty():
                return _TerminalReader(sys.stdin.fileno())
        return None

    @abstractmethod
    async def line(self) -> str:
        """The next line; may be cancelled."""


class _TerminalReader(LineReader):
    """Looks at the terminal only while somebody waits: what is typed later is left for others."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    async def line(self) -> str:
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[bytes] = loop.create_future()

        def ready() -> None:
            if not typed.done():
                typed.set_result(os.read(self._descriptor, 4096))

        loop.add_reader(self._descriptor, ready)
        try:
            data = await typed
        finally:
            loop.remove_reader(self._descriptor)
        if not data:  # the terminal is closed
            await asyncio.Event().wait()
        return data.decode(errors="replace")


class _KernelReader(LineReader):
    """Asks the notebook for a line, in a thread.

    A notebook cannot take its input box back: a line that comes after its question has timed out
    answers the next one, if there is one by then.
    """

    _instance: _KernelReader | None = None

    def __init__(self) -> None:
        self._waiting: Callable[[str], object] | None = None
        self._thread: threading.Thread | None = None

    @classmethod
    def shared(cls) -> _KernelReader:
        if cls._instance is None:
            cls._instance = cls()
        return cls._instance

    async def line(self) -> str:
        loop = asyncio.get_running_loop()
        typed: asyncio.Future[str] = loop.create_future()

        def take(text: str) -> None:
            if not typed.done():
                typed.set_result(text)

        self._waiting = lambda text: loop.call_soon_threadsafe(take, text)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._read, name="prompt", daemon=True)
            self._thread.start()
        try:
            return await typed
        finally:
            self._waiting = None

    def _read(self) -> None:
        with contextlib.suppress(EOFError, KeyboardInterrupt):
            text = builtins.input()
            if self._waiting is not None:
                self._waiting(text)


def _in_a_kernel() -> bool:
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module is not None else None
    return getattr(shell, "kernel", None) is not None
