"""What a plan sees of its own run: the readings of its events, from the documents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from bluesky.protocols import Readable
from bluesky.utils import Msg, MsgGenerator, maybe_await

__all__ = ["Observer", "awaited", "positions_of", "reading_names"]


class Observer:
    """Takes a run's documents, and knows the readings of each event.

    The replies to a plan's own ``read`` messages would not do: after a pause the RunEngine repeats
    a point without the plan, and only the documents say what was measured then.
    """

    def __init__(self) -> None:
        self._run = ""
        self._streams: dict[str, str] = {}
        self._latest: dict[str, tuple[int, dict[str, Any]]] = {}

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document; those of other runs are passed over."""
        if name == "start" and not self._run:
            self._run = doc["uid"]
        elif name == "descriptor" and doc["run_start"] == self._run:
            self._streams[doc["uid"]] = doc["name"]
        elif name == "event" and doc["descriptor"] in self._streams:
            self._latest[self._streams[doc["descriptor"]]] = doc["seq_num"], doc["data"]

    @property
    def run_uid(self) -> str:
        """The uid of the run that began first."""
        return self._run

    def take(self, stream: str, number: int) -> dict[str, Any]:
        """Give the readings of event `number` of a stream, from 0, which is its latest one."""
        seq_num, data = self._latest.get(stream, (0, {}))
        return data if seq_num == number + 1 else {}


def reading_names(devices: Iterable[Any], found: dict[str, set[str]]) -> MsgGenerator[None]:
    """Fill `found` with the names of single numbers that devices give, by the devices' names.

    A detector that cannot say before it is prepared names its hinted readings.

    Raises
    ------
    ValueError
        For a device that cannot be read.
    Exception
        What a device raises that does not answer.
    """

    async def names(device: Any) -> set[str]:
        if not isinstance(device, Readable):
            raise ValueError(
                f"'{getattr(device, 'name', device)}' cannot be read in events: an adaptive scan "
                "needs devices with read and describe."
            )
        try:
            keys = await maybe_await(device.describe())
        except RuntimeError:
            hints = getattr(device, "hints", {})
            return set(hints.get("fields", ()))
        numbers = ("number", "integer", "boolean")
        return {n for n, key in keys.items() if not key["shape"] and key["dtype"] in numbers}

    async def ask() -> None:
        for device in devices:
            found[device.name] = await names(device)

    yield from awaited(ask)


def positions_of(motors: Mapping[str, Any], found: dict[str, float]) -> MsgGenerator[None]:
    """Fill `found` with where motors are, by the same names: the setpoint where they have one.

    Raises
    ------
    Exception
        What a motor raises that does not answer.
    """

    async def ask() -> None:
        for name, motor in motors.items():
            if hasattr(motor, "locate"):
                found[name] = float((await maybe_await(motor.locate()))["setpoint"])
            else:
                readings = await maybe_await(motor.read())
                found[name] = float(next(iter(readings.values()))["value"])

    yield from awaited(ask)


def awaited(function: Callable[[], Awaitable[None]]) -> MsgGenerator[None]:
    """Await a function in the RunEngine's event loop; what it raises is raised in the plan."""
    errors: list[Exception] = []

    async def run() -> None:
        errors.clear()
        try:
            await function()
        except Exception as error:
            errors.append(error)

    # The RunEngine itself looks at no result of what it waits for.
    yield Msg("wait_for", None, [run])
    if errors:
        raise errors[0]
