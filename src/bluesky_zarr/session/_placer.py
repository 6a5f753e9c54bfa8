"""The preprocessor that says, before each point of any plan, where the point's data belong."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bluesky.run_engine import RunEngine
from bluesky.utils import Msg, MsgGenerator, RequestStop, ensure_generator

from bluesky_zarr.devices import Cursor, Placement, WritableDevice

from ._open_run import OpenRun
from ._recorder import RunRecorder
from ._room import check_room, needed_bytes
from ._stream_places import PlacementError

__all__ = ["Placer"]

_Handler = Callable[[Msg], Generator[Msg, Any, Any]]


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
    begin
        Called when a plan begins, before its first message.
    detach
        Ends the session's part in a RunEngine, when another session takes its place.
    """

    def __init__(
        self,
        cursor: Cursor,
        devices: Callable[[], set[WritableDevice]],
        recorder: Callable[[str], RunRecorder],
        begin: Callable[[], None],
        detach: Callable[[RunEngine], None],
    ) -> None:
        self._cursor = cursor
        self._devices = devices
        self._recorder = recorder
        self._begin = begin
        self.detach = detach
        self.active = False
        self._thread = 0

    def __call__(self, plan: Any) -> MsgGenerator[Any]:
        """The same plan, with its positions said aloud."""
        if self.active:
            if self._thread != threading.get_ident():
                raise RuntimeError(
                    "Another plan of this Storage is under way in another RunEngine, perhaps "
                    "paused: resume or abort it first, or give each RunEngine a Storage of its own."
                )
            # Wrapped inside of an attached session: once is enough.
            return (yield from ensure_generator(plan))
        self.active = True
        self._thread = threading.get_ident()
        try:
            self._begin()
            return (yield from _Placing(self._cursor, self._devices(), self._recorder).drive(plan))
        finally:
            self.active = False


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
        self._runs: dict[Any, OpenRun] = {}
        self._commanded: dict[str, Any] = {}
        self._rewindable = False
        self._moved: set[str] = set()
        self._acquired = False
        self._last_said: Placement | None = None
        self._handlers: Mapping[str, _Handler] = {
            "open_run": self._open_run,
            "close_run": self._close_run,
            "set": self._set,
            "null": self._null,
            "trigger": self._trigger,
            "prepare": self._prepare,
            "kickoff": self._kickoff,
            "collect": self._collect,
            "declare_stream": self._declare_stream,
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
        recorder = self._recorder(uid)
        self._runs[msg.run] = OpenRun(recorder)
        yield from self._check_room(recorder)
        return uid

    def _check_room(self, recorder: RunRecorder) -> Generator[Msg, Any, None]:
        """Refuse a scan that the disk has no room for before anything moves."""
        named = recorder.start.get("detectors")
        frames = recorder.places("primary").geometry.size
        taking = [d for d in self._devices if isinstance(named, list) and d.name in named]
        if not taking or not frames:
            return
        needed: list[int] = []

        async def ask() -> None:
            # A camera that cannot say it now says what is wrong with it when it is prepared.
            with suppress(Exception):
                needed.append(await needed_bytes(taking, frames))

        yield Msg("wait_for", None, [ask])
        if needed:
            check_room(recorder.path.parent, needed[-1], recorder.config.codec)

    def _close_run(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and not run.drained:
            run.drained = True
            yield from self._drain(run.recorder)
        if self._rewindable and not any(r.bundle for r in self._runs.values()):
            # Without it, a pause after the run would repeat the last points of a closed run.
            yield from self._checkpoint(Msg("checkpoint"))
        reply = yield msg
        self._runs.pop(msg.run, None)
        return reply

    @staticmethod
    def _drain(recorder: RunRecorder) -> Generator[Msg, Any, None]:
        errors: list[Exception] = []

        async def drain() -> None:
            errors.clear()
            try:
                await asyncio.to_thread(recorder.flush)
            except Exception as error:
                errors.append(error)

        # The reply would tell as well, but after a pause it does not come.
        yield Msg("wait_for", None, [drain])
        if errors:
            raise errors[0]

    def _checkpoint(self, msg: Msg) -> Generator[Msg, Any, Any]:
        reply = yield msg
        # Not before it is done: a pause until then goes back to the checkpoint before.
        self._rewindable = msg.command == "checkpoint"
        self._moved.clear()
        self._cursor.restore.clear()
        self._acquired = False
        return reply

    # -- where points are ----------------------------------------------------------------------

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
        if run is not None:
            if "geometry" in msg.kwargs:
                stream, geometry = msg.kwargs["geometry"]
                run.recorder.declare(stream, geometry, msg.kwargs.get("merged"))
            if "place" in msg.kwargs:
                run.asked = run.recorder.placement(*msg.kwargs["place"])
        return (yield msg)

    def _is_said(self, run: OpenRun, placement: Placement) -> bool:
        said = run.said
        return (
            said is not None
            and said is self._last_said  # no other run, and no flown row, has spoken since
            and (said.stream, said.index) == (placement.stream, placement.index)
        )

    def _say_to_device(
        self, run: OpenRun, msg: Msg, placement: Placement, device: WritableDevice
    ) -> Generator[Msg, Any, None]:
        """Say where a device's next frame belongs: one message for all that take part.

        A device that something triggers unseen is never told, and refuses.
        """
        said = self._is_said(run, placement)
        if said and run.said and device.name in run.said.devices and device not in run.exposed:
            return
        known = run.known.get(placement.stream, frozenset()) | {device.name}
        run.known[placement.stream] = known
        # Exposures under way, which another point waits for, keep the place that they have.
        busy = {other.name for other in (*run.exposed, *run.flying)}
        free = frozenset() if said else known - busy
        yield from self._say(run, msg, replace(placement, devices=free | {device.name}))

    def _say(self, run: OpenRun, msg: Msg, placement: Placement) -> Generator[Msg, Any, None]:
        run.said = self._last_said = placement
        self._acquired = True
        yield Msg("set", self._cursor, placement, run=msg.run)

    # -- events ------------------------------------------------------------------------------

    def _trigger(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in self._devices:
            # The stream is not named before `create`; nearly always it is this one.
            stream = "primary" if run.asked is None else run.asked.stream
            placement = run.next_point(stream, self._commanded, anew=msg.obj in run.exposed)
            yield from self._say_to_device(run, msg, placement, msg.obj)
            run.exposed[msg.obj] = placement
        return (yield msg)

    def _create(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is None:
            return (yield msg)
        stream = msg.kwargs.get("name") or (msg.args[0] if msg.args else "primary")
        placement = run.next_point(stream, self._commanded)
        if not self._is_said(run, placement):
            yield from self._say(run, msg, placement)
        run.bundle = placement  # before: the error of a status may come in place of the reply
        reply = yield msg
        yield Msg("read", self._cursor, run=msg.run)
        return reply

    def _read(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and run.bundle is not None and msg.obj in run.exposed:
            exposed, bundle = run.exposed[msg.obj], run.bundle
            if (exposed.stream, exposed.index) != (bundle.stream, bundle.index):
                run.refuse(msg.obj, bundle.stream)
        return (yield msg)

    def _save(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        reply = yield msg
        if run is not None and run.bundle is not None:
            stream = run.bundle.stream
            run.counts[stream] = run.bundle.index + 1
            run.flying = {d: p for d, p in run.flying.items() if p.stream != stream}
            run.end_event()
        return reply

    def _drop(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None:
            run.end_event()
        return (yield msg)

    def _declare_stream(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and not msg.kwargs.get("collect"):
            # Its events will have the cursor's reading.
            msg = msg._replace(args=(*msg.args, self._cursor))
        return (yield msg)

    # -- flown rows --------------------------------------------------------------------------

    def _prepare(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in self._devices:
            placement = run.next_row(msg.obj)
            if placement is not None:
                run.flying[msg.obj] = placement
                run.started.discard(msg.obj)
                told = replace(placement, devices=frozenset({msg.obj.name}))
                yield from self._say(run, msg, told)
                run.said = None  # triggers that follow are told for themselves
        return (yield msg)

    def _kickoff(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is not None and msg.obj in run.flying:
            # All that fly together are prepared by now; what is triggered meanwhile is elsewhere.
            run.asked = None
            if not msg.obj.armed_by_prepare:
                # Said once more, for a checkpoint may lie between prepare and here.
                placement = run.flying[msg.obj]
                if msg.obj in run.started:  # another part of the row that was prepared for
                    index = msg.obj.flown_to(run.recorder.run_uid, placement.stream)
                    placement = run.recorder.placement(placement.stream, index or 0)
                run.started.add(msg.obj)
                told = replace(placement, devices=frozenset({msg.obj.name}))
                yield from self._say(run, msg, told)
                run.said = None
        return (yield msg)

    def _collect(self, msg: Msg) -> Generator[Msg, Any, Any]:
        run = self._runs.get(msg.run)
        if run is None:
            return (yield msg)
        flying = {d: run.flying[d] for d in (msg.obj, *msg.args) if d in run.flying}
        # Without a name it is the stream that was declared for these devices.
        stream = msg.kwargs.get("name") or next((p.stream for p in flying.values()), None)
        if stream is None:
            return (yield msg)
        for device, flown in flying.items():
            if flown.stream != stream:
                raise PlacementError(
                    f"Frames of '{device.name}' that were flown into stream '{flown.stream}' are "
                    f"collected into stream '{stream}'. Say before prepare where they belong: "
                    f"yield from bluesky_zarr.plans.place('{stream}', index), index from 0."
                )
        reply = yield from self._collected(msg)
        for device in flying:
            end = device.flown_to(run.recorder.run_uid, stream)
            run.counts[stream] = max(run.counts.get(stream, 0), end or 0)
        return reply

    def _collected(self, msg: Msg) -> Generator[Msg, Any, Any]:
        """Collect all that can be read now.

        A StreamDatum is one range of positions, and one collect takes one from each device: frames
        of several rows that turn round, or of which one is not beside the next, need as many.
        """
        devices = [d for d in dict.fromkeys((msg.obj, *msg.args)) if d in self._devices]
        target = min((device.readable for device in devices), default=0)
        while True:
            before = [device.collected for device in devices]
            reply = yield msg
            after = [device.collected for device in devices]
            if before == after or min(after) >= target:
                return reply
            msg = msg._replace()  # a new one: preprocessors let what they have seen pass
