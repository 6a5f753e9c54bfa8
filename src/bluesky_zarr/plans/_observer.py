"""What a plan sees of its own run: the readings of its events, from the documents."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bluesky.protocols import Readable
from bluesky.utils import Msg, MsgGenerator, maybe_await

__all__ = ["Observer", "positions_of", "reading_names"]


class Observer:
    """Takes a run's documents, and knows the readings of each event.

    The replies to a plan's own ``read`` messages would not do: after a pause the RunEngine repeats
    a point without the plan, and only the documents say what was measured then.
    """

    def __init__(self) -> None:
        self._run = ""
        self._streams: dict[str, str] = {}
        self._events: dict[tuple[str, int], dict[str, Any]] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document; those of other runs are passed over."""
        if name == "start" and not self._run:
            self._run = doc["uid"]
        elif name == "descriptor" and doc["run_start"] == self._run:
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event" and doc["descriptor"] in self._streams:
            stream = self._streams[doc["descriptor"]]
            self._events[stream, doc["seq_num"]] = doc["data"]

    @property
    def run_uid(self) -> str:
        """The uid of the run that began first."""
        return self._run

    def take(self, stream: str, number: int) -> dict[str, Any]:
        """Give the readings of event `number` of a stream, from 0, and forget them."""
        return self._events.pop((stream, number + 1), {})


def reading_names(devices: Iterable[Readable], found: dict[str, set[str]]) -> MsgGenerator[None]:
    """Fill `found` with the names of single numbers that devices give, by the devices' names.

    A detector that cannot say before it is prepared names its hinted readings.
    """

    async def ask() -> None:
        for device in devices:
            try:
                keys = await maybe_await(device.describe())
            except RuntimeError:
                hints = getattr(device, "hints", {})
                found[device.name] = set(hints.get("fields", ()))
            else:
                found[device.name] = {name for name, key in keys.items() if not key["shape"]}

    yield Msg("wait_for", None, [ask])


def positions_of(motors: Mapping[str, Any], found: dict[str, float]) -> MsgGenerator[None]:
    """Fill `found` with where motors are, by the same names: the setpoint where they have one."""

    async def ask() -> None:
        for name, motor in motors.items():
            if hasattr(motor, "locate"):
                found[name] = float((await maybe_await(motor.locate()))["setpoint"])
            else:
                readings = await maybe_await(motor.read())
                found[name] = float(next(iter(readings.values()))["value"])

    yield Msg("wait_for", None, [ask])
