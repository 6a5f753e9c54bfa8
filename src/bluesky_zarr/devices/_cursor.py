"""The cursor: a message says where the next frame belongs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bluesky.protocols import Movable, Reading, Status
from event_model import DataKey

__all__ = ["Cursor", "Placement"]


@dataclass(frozen=True)
class Placement:
    """Where the next frame, or the next flown row of frames, belongs.

    `index` is the point's number in order of acquisition, `cell` the C-order position of that
    point in the stored array: they differ where a scan is snaked. `setpoints` are what the motors
    were last commanded to; they are kept for streams that have no geometry of their own. `devices`
    are the names of those whose next frame it is.

    >>> Placement(run_uid="b1946ac9", stream="primary", index=3, cell=5).cell
    5
    """

    run_uid: str
    stream: str
    index: int
    cell: int
    setpoints: Mapping[str, float] | None = None
    devices: frozenset[str] = frozenset()


class _Done:
    """A status that was done before it was asked for."""

    done = True
    success = True

    def add_callback(self, callback: Callable[[Status], None]) -> None:
        callback(self)

    def exception(self, timeout: float | None = 0.0) -> BaseException | None:
        return None


async def _done(status: Status) -> None:
    """Wait for any library's status, and raise what made it fail."""
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()

    def finish(_: Status) -> None:
        loop.call_soon_threadsafe(finished.set)

    status.add_callback(finish)
    await finished.wait()
    error = status.exception(0.0)
    if error is not None:
        raise error


class Cursor:
    """Hands each point's position to the devices, as a message of the plan.

    ``Msg("set", cursor, placement)`` is in the RunEngine's message cache like any other message, so
    that after a pause it is replayed, and a repeated point lands where it belongs. Reading the
    cursor gives ``scan_index``, the C-order position, so that rows of an event table and cells of
    an array can be joined.

    Parameters
    ----------
    place
        Called with each placement, before the point's devices are triggered.

    Attributes
    ----------
    restore
        Motors, and the positions to which they go back before a replay; kept by the preprocessor.
    """

    name = "scan_index"
    parent = None

    def __init__(self, place: Callable[[Placement], None]) -> None:
        self._place = place
        self._placement: Placement | None = None
        self._time = 0.0
        self.restore: dict[Movable[Any], Any] = {}

    @property
    def placement(self) -> Placement | None:
        """The placement last set, None before the first."""
        return self._placement

    def set(self, value: Placement) -> Status:
        """Make `value` the place of the next frame; done when it returns."""
        self._placement = value
        self._time = time.time()
        self._place(value)
        return _Done()

    async def pause(self) -> None:
        """Nothing to do: the next placement is a message of the replay."""

    async def resume(self) -> None:
        """Bring motors back to where they stood at the last checkpoint.

        A replay begins there, but a plan moves only what changes: where several points lie between
        two checkpoints, the first of them would be repeated at the place of the last.
        """
        for motor, position in list(self.restore.items()):
            await _done(motor.set(position))

    def describe(self) -> dict[str, DataKey]:
        """One integer: the C-order position of the event's point in the stored arrays."""
        return {
            self.name: DataKey(
                source="bluesky-zarr:cursor", dtype="integer", shape=[], dtype_numpy="<i8"
            )
        }

    def read(self) -> dict[str, Reading]:
        """The C-order position last set."""
        cell = -1 if self._placement is None else self._placement.cell
        return {self.name: Reading(value=cell, timestamp=self._time)}

    def __repr__(self) -> str:
        return f"Cursor(name={self.name!r})"
