"""Internally triggered exposures as an asyncio task: what cameras made of Python have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import numpy as np
from ophyd_async.core import DetectorAcquireLogic

from ._source import FrameSource

__all__ = ["ExposureLogic", "in_a_thread"]

T = TypeVar("T")


async def in_a_thread(function: Callable[..., T], *args: object) -> T:
    """Like `asyncio.to_thread`, but when cancelled wait until the function is done.

    A cancelled `to_thread` leaves the function running: the next exposure would start beside it.
    """
    running = asyncio.ensure_future(asyncio.to_thread(function, *args))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        if not running.cancelled():
            running.exception()  # retrieved: whoever cancelled does not want to know
        raise


class ExposureLogic(DetectorAcquireLogic):
    """Take frames one after the other, and hand each one to its source.

    Parameters
    ----------
    source
        Whose `deliver` gets the frames.
    expose
        Takes one frame; awaited `number` times after each start.
    on_ready
        Called when the detector is staged.
    """

    def __init__(
        self,
        source: FrameSource,
        expose: Callable[[], Awaitable[np.ndarray]],
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self.number = 1
        self.deadtime = 0.0
        self._source = source
        self._expose = expose
        self._on_ready = on_ready
        self._task: asyncio.Task[None] | None = None

    async def ensure_ready(self) -> None:
        """Stop what may still be going on."""
        await self.ensure_stopped()
        if self._on_ready is not None:
            self._on_ready()

    async def start_acquiring(self) -> None:
        """Start; frames come from now on."""
        await self.ensure_stopped()
        self._task = asyncio.create_task(self._acquire())

    async def _acquire(self) -> None:
        for n in range(self.number):
            if n and self.deadtime:
                await asyncio.sleep(self.deadtime)
            try:
                frame = await self._expose()
            except Exception as error:
                self._source.fail(error)
                raise
            # In a thread: it blocks while storage is behind.
            await in_a_thread(self._source.deliver, frame)

    async def wait_for_idle(self) -> None:
        """Wait for the last frame; raise what went wrong with any."""
        if self._task is not None:
            await self._task

    async def ensure_stopped(self) -> None:
        """End the exposure under way; no frame comes after this returns."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.exception()
