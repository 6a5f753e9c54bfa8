"""The preprocessor that says, before each point of any plan, where the point's data belong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky.utils import Msg, MsgGenerator, RequestStop, ensure_generator

from bluesky_zarr.devices import Cursor, Placement, WritableDevice

from ._recorder import PlacementError, RunRecorder

__all__ = ["Placer"]

_Handler = Callable[[Msg], Generator[Msg, Any, Any]]


@dataclass
class _Run:
    """What the plan has done so far in one open run."""

    recorder: RunRecorder
    counts: dict[str, int] = field(default_factory=dict)
    placement: Placement | None = None
    by_hand: bool = False
    triggered: set[WritableDevice] = field(default_factory=set)
    misplaced: set[WritableDevice] = field(default_factory=set)
    bundle: str | None = None
    flown: int = 0
    drained: bool = False


class Placer:
    """Inserts ``set(cursor, placement)`` before each point, and checks that the plan is there.

    Parameters
    ----------
    cursor
        The session's cursor.
    devices
        The session's devices, by identity; asked anew for each plan.
    recorder
        Gives the recorder of an open run from its uid.
    """

    def __init__(
        self,
        cursor: Cursor,
        devices: Callable[[], set[WritableDevice]],
        recorder: Callable[[str], RunRecorder],
    ) -> None:
        self._cursor = cursor
        self._devices = devices
        self._recorder = recorder
        self._active = False

    def __call__(self, plan: Any) -> MsgGenerator[Any]:
        """The same plan, with its positions said aloud."""
        if self._active:  # wrapped inside of an attached session: once is enough
            return (yield from ensure_generator(plan))
        self._active = True
        try:
            return (yield from _Placing(self._cursor, self._devices(), self._recorder).drive(plan))
        finally:
            self._active = False


class _Placing:
    """One plan under way."""

    def __init__(
        self,
        cursor: Cursor,
        devices: set[WritableDevice],
        recorder: Callable[[str], RunRecorder],
    ) -> None:
        self._cursor = cursor
        self._devices = devices
        self._recorder = recorder
        self._runs: dict[Any, _Run] = {}
        self._commanded: dict[str, Any] = {}
        self._rewindable = False
        self._moved: set[str] = set()
        self._acquired = False
        self._handlers: Mapping[str, _Handler] = {
            "open_run": self._open_run,
            "close_run": self._close_run,
            "set": self._set,
            "null": self._null,
            "trigger": self._trigger,
            "prepare": self._prepare,
            "complete": self._complete,
            "collect": self._collect,
            "create": self._create,
            "read": self._read,
            "save": self._save,
            "drop": self._drop,
            "checkpoint": self._checkpoint,
            "clear_checkpoint": self._checkpoint,
        }

    def drive(self, plan: Any) -> MsgGenerator[Any]:
        """Pass each message on, after what has to come before it."""
        plan = ensure_generator(plan)
        handlers = self._handlers
        reply: Any = None
        failure: BaseException | None = None
        while True:
            try:
                msg = plan.send(reply) if failure is None else plan.throw(failure)
            except StopIteration as stop:
                return stop.value
            failure = None
            try:
                handler = handlers.get(msg.command)
                reply = (yield msg) if handler is None else (yield from handler(msg))
            except GeneratorExit:  # halt: no plan may say another word
                plan.close()
                raise
            except BaseException as error:
                if isinstance(error, RequestStop):
                    for run in self._runs.values():
                        run.recorder.stopped_by_user = True
                failure = error

    # -- runs --------------------------------------------------------------------------------

    def _open_run(self, msg: Msg) -> Generator[Msg, Any, Any]:
        uid = yield msg
        self._runs[msg.run] = _Run(self._recorder(uid))
        return uid

    def _close_run(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and not run.drained:
            run.drained = True

            async def drain() -> None:
                await asyncio.to_thread(run.recorder.flush)

            for future in (yield Msg("wait_for", None, [drain])):
                future.result()
        if self._rewindable and not any(r.bundle for r in self._runs.values()):
            # Without it, a pause after the run would repeat the last points of a closed run.
            yield from self._checkpoint(Msg("checkpoint"))
        reply = yield msg
        self._runs.pop(msg.run, None)
        return reply

    def _checkpoint(self, msg: Msg) -> Generator[Msg, Any, Any]:
        reply = yield msg
        # Not before it is done: a pause until then goes back to the checkpoint before.
        self._rewindable = msg.command == "checkpoint"
        self._moved.clear()
        self._cursor.restore.clear()
        self._acquired = False
        return reply

    # -- points ------------------------------------------------------------------------------

    def _set(self, msg: Msg) -> Generator[Msg, Any, Any]:
        name = getattr(msg.obj, "name", "")
        if name and msg.args:
            if self._acquired and name not in self._moved and name in self._commanded:
                # A replay begins with points that do not move this motor: it has to stand where
                # it stood at the checkpoint.
                self._cursor.restore[msg.obj] = self._commanded[name]
            self._moved.add(name)
            self._commanded[name] = msg.args[0]
        return (yield msg)

    def _null(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if "place" not in msg.kwargs or run is None:
            return (yield msg)
        stream, index = msg.kwargs["place"]
        yield from self._place(run, msg, run.recorder.placement(stream, index))
        run.by_hand = True
        return None

    def _place(self, run: _Run, msg: Msg, placement: Placement) -> Generator[Msg, Any, None]:
        run.placement = placement
        self._acquired = True
        yield Msg("set", self._cursor, placement, run=msg.run)

    def _place_next(self, run: _Run, msg: Msg, stream: str) -> Generator[Msg, Any, None]:
        index = run.counts.get(stream, 0)
        placement = run.recorder.placement(stream, index, self._commanded)
        yield from self._place(run, msg, placement)

    def _trigger(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in self._devices:
            if run.placement is None:
                # The stream is not named before `create`; nearly always it is this one.
                yield from self._place_next(run, msg, "primary")
            elif msg.obj in run.triggered:  # once more, at the same point: the last one counts
                yield from self._place(run, msg, run.placement)
            run.triggered.add(msg.obj)
        return (yield msg)

    def _create(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is None:
            return (yield msg)
        stream = msg.kwargs.get("name") or (msg.args[0] if msg.args else "primary")
        if run.placement is None or run.placement.stream != stream:
            run.misplaced = set(run.triggered)
            yield from self._place_next(run, msg, stream)
        reply = yield msg
        run.bundle = stream
        yield Msg("read", self._cursor, run=msg.run)
        return reply

    def _read(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in run.misplaced and run.bundle is not None:
            self._refuse(run, msg.obj, run.bundle)
        return (yield msg)

    def _refuse(self, run: _Run, device: WritableDevice, stream: str) -> None:
        device.retract()
        raise PlacementError(
            f"'{device.name}' was triggered without a word on where its frame belongs, and is read "
            f"into stream '{stream}': the frame is not stored. Say it before the trigger: yield "
            f"from bluesky_zarr.plans.place('{stream}', index), with index counting from 0."
        )

    def _save(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        reply = yield msg
        if run is not None and run.bundle is not None:
            placement = run.placement
            if run.by_hand and placement is not None:
                run.counts[run.bundle] = placement.index + 1
            else:
                run.counts[run.bundle] = run.counts.get(run.bundle, 0) + 1
            self._end_bundle(run)
        return reply

    def _drop(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None:
            self._end_bundle(run)
        return (yield msg)

    @staticmethod
    def _end_bundle(run: _Run) -> None:
        run.bundle = run.placement = None
        run.by_hand = False
        run.triggered.clear()
        run.misplaced = set()

    # -- flown rows --------------------------------------------------------------------------

    def _prepare(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in self._devices:
            if run.placement is None:
                index = run.counts.get("primary", 0)
                yield from self._place(run, msg, run.recorder.placement("primary", index))
            events = getattr(msg.args[0], "number_of_events", 1) if msg.args else 1
            if events == 1 and not run.by_hand:
                run.placement = None  # set-up for steps: each trigger is placed for itself
            else:
                run.flown = max(run.flown, events)
        return (yield msg)

    def _complete(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in self._devices and run.placement is not None:
            stream = run.placement.stream
            run.counts[stream] = run.placement.index + run.flown
            run.placement, run.by_hand, run.flown = None, False, 0
        return (yield msg)

    def _collect(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        stream = msg.kwargs.get("name")
        placed = self._cursor.placement
        if (
            run is not None
            and stream is not None
            and placed is not None
            and placed.stream != stream
            and self._devices.intersection((msg.obj, *msg.args))
        ):
            raise PlacementError(
                f"Frames that were flown into stream '{placed.stream}' are collected into stream "
                f"'{stream}'. Say before prepare where they belong: yield from "
                f"bluesky_zarr.plans.place('{stream}', index), with index counting from 0."
            )
        return (yield msg)
