"""Around a camera's own acquire logic."""

from __future__ import annotations

import asyncio

from ophyd_async.core import DetectorAcquireLogic

from ._frames import FrameDataLogic

__all__ = ["AcquireGuard"]


class AcquireGuard(DetectorAcquireLogic):
    """Around a camera's own acquire logic: the store is open before frames come, and an error of
    storage fails the point at once.

    ophyd-async ends each wait for frames with `wait_for_idle`: that is where errors are raised.
    """

    def __init__(self, logic: FrameDataLogic, camera: DetectorAcquireLogic | None) -> None:
        self._logic = logic
        self._camera = camera
        self._pauses = 0

    async def ensure_ready(self) -> None:
        if self._camera is not None:
            await self._camera.ensure_ready()

    async def start_acquiring(self) -> None:
        if self._logic.pausing:  # triggered just before the pause: it will be triggered again
            self._pauses = -1
            return
        self._pauses = self._logic.pauses
        await self._logic.start()
        if self._camera is not None:
            await self._camera.start_acquiring()

    async def wait_for_idle(self) -> None:
        if self._pauses != self._logic.pauses:
            return  # a pause stopped this exposure, and the camera with it
        await self._logic.finish()
        if self._camera is not None:
            try:
                await self._camera.wait_for_idle()
            except asyncio.CancelledError:
                if self._pauses == self._logic.pauses:
                    raise

    async def ensure_stopped(self) -> None:
        if self._camera is not None:
            await self._camera.ensure_stopped()
