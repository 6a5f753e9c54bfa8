"""An adaptive scan under way: passes, decisions, and what follows from them."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from bluesky.protocols import Movable, Readable
from bluesky.utils import Msg, MsgGenerator, RunEngineControlException

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.peaks import Peak

from ._actions import Action
from ._approval import Approval
from ._hand import AtPeaks, ScanHand
from ._joining import Trigger
from ._observer import Observer, positions_of
from ._place import declare_geometry, place
from ._point import Exposure, Mover
from ._search import SearchState, checked_pass, pass_geometry
from ._strategy import NOT_REFINED, Field, Found, Measure, Outcome, Strategy
from ._tables import Row, decision_row, peak_rows, units_of, write_row
from ._watch import Watch
from ._zoom_result import ZoomResult

__all__ = ["ZoomRun"]

logger = logging.getLogger("bluesky_zarr.plans")

MERGED = "merged"
RAGGED = "zoom"


class ZoomRun:
    """What `zoom_scan` does between open_run and close_run.

    Parameters
    ----------
    detectors, signal, movers, settle, strategy, when, actions, approval, outer
        As the plan's, checked.
    field
        The axes of the search, and its limits.
    """

    def __init__(
        self,
        *,
        detectors: Sequence[Readable],
        signal: str,
        field: Field,
        movers: Mapping[str, Movable],
        settle: Mapping[str, float],
        strategy: Strategy,
        when: Trigger | None,
        actions: tuple[Action, ...],
        approval: Approval | None,
        outer: ScanGeometry | None,
    ) -> None:
        self.signal = signal
        self.field = field
        self.strategy = strategy
        self.actions = actions
        self.approval = approval
        self.outer = outer
        self.observer = Observer()
        self._axes = tuple(axis.name for axis in field.axes)
        self._movers = movers
        self._move = Mover(movers, settle)
        self._origin = Row("origin", {"parent": 0, "pass": 0})
        self._expose = Exposure(
            [*detectors, *movers.values(), *([self._origin] if outer is not None else [])]
        )
        self._watch = Watch(when, signal, field)
        self._coarse: Measure | None = None
        self._declared: set[str] = set()
        self._counts: dict[str, int] = {}
        self._rows: dict[str, Row] = {}
        self._before: dict[str, float] = {}
        self._peaks: list[Peak] = []
        self._parents: list[int] = []
        self._whys: list[str] = []
        self._at_peaks = AtPeaks()
        self._points = 0
        self._passes = 0
        self._rejected = False

    def result(self) -> ZoomResult:
        """What was found so far."""
        return ZoomResult(
            run_uid=self.observer.run_uid,
            axes=self._axes,
            peaks=tuple(self._peaks),
            points=self._points + self._at_peaks.taken,
            passes=self._passes,
            why="\n".join(self._whys),
            parents=tuple(self._parents),
        )

    # -- the whole -----------------------------------------------------------------------------

    def take(self) -> MsgGenerator[None]:
        """Search, at each point of the outer axes if there are any."""
        yield from positions_of({name: self._movers[name] for name in self._axes}, self._before)
        if self.outer is None:
            yield from self._search(SearchState(None, {}, len(self._axes)))
            return
        yield from declare_geometry(
            RAGGED, ScanGeometry.events(), merged=MERGED, axes=tuple(self._movers)
        )
        for parent, point in enumerate(self.outer.points()):
            yield from self._search(SearchState(parent, point, len(self._axes)))
            if self._rejected:
                return

    def _search(self, search: SearchState) -> MsgGenerator[None]:
        outcome = yield from self._ask_strategy(search)
        peaks = outcome.peaks
        why = search.why or outcome.why
        if not peaks and not why:
            why = "No peak was found."
        for row in peak_rows(self._axes, peaks):
            yield from self._write("peaks", row, search)
        if why:
            where = "" if search.parent is None else f"Outer point {search.parent}: "
            self._whys.append(where + why)
            row = decision_row(
                self._axes,
                None,
                signal=self.signal,
                passes=search.made,
                fired="",
                action="end",
                approved=True,
                by="",
                why=why,
            )
            yield from self._write("decisions", row, search)
        self._peaks += peaks
        if search.parent is not None:
            self._parents += [search.parent] * len(peaks)
        if self._rejected:
            return
        hand = ScanHand(
            self.field.axes,
            self._move,
            self._expose,
            None if search.parent is None else search.outer,
            self._before,
            self._at_peaks,
            self.observer.take,
        )
        acted_on = search.to_act_on(peaks, self.field)
        for action in self.actions:
            if search.approved or action.text == "return":
                yield from action.finish(hand, acted_on)

    def _ask_strategy(self, search: SearchState) -> MsgGenerator[Outcome]:
        self._watch.begin()
        strategy = self.strategy.search(self.field)
        answer: Any = None
        found: list[Peak] = []
        while True:
            try:
                request = strategy.send(answer)
            except StopIteration as stop:
                if not isinstance(stop.value, Outcome):
                    raise TypeError(
                        f"{self.strategy!r} returned {stop.value!r}: a search ends with "
                        "`return Outcome(peaks, why)`."
                    ) from None
                if self._rejected:
                    return replace(stop.value, peaks=self._noted(search, stop.value.peaks))
                return stop.value
            if self._rejected:  # and it wants to go on
                strategy.close()
                return Outcome(self._noted(search, found))
            if isinstance(request, Measure):
                wanted = checked_pass(request, self.field, self.strategy)
                room = min(self.field.max_points - search.taken, len(wanted.points))
                if room <= 0 or search.made >= self.field.max_passes:
                    limit = (
                        f"max_points={self.field.max_points}"
                        if room <= 0
                        else f"max_passes={self.field.max_passes}"
                    )
                    search.why = f"{limit} reached: the search ended there."
                    strategy.close()
                    return Outcome(tuple(found))
                yield from self._pass(search, wanted, room)
                answer = search.measured()
            elif isinstance(request, Found):
                found += request.peaks
                answer = yield from self._decide(search, request.peaks)
            else:
                raise TypeError(
                    f"{self.strategy!r} asks for {request!r}: yield Measure(points) or "
                    "Found(peaks)."
                )

    def _noted(self, search: SearchState, peaks: Sequence[Peak]) -> tuple[Peak, ...]:
        """The peaks of a search that was ended; those that nobody approved say so."""
        approved = search.to_act_on(peaks, self.field)
        return tuple(p if p in approved else replace(p, note=p.note or NOT_REFINED) for p in peaks)

    # -- passes --------------------------------------------------------------------------------

    def _pass(self, search: SearchState, wanted: Measure, room: int) -> MsgGenerator[None]:
        stream, geometry, first = self._stream(search, wanted, room)
        self._origin.values = {"parent": search.parent or 0, "pass": search.made}
        if geometry is not None and stream not in self._declared:
            self._declared.add(stream)
            yield from declare_geometry(stream, geometry, merged=MERGED, axes=tuple(self._movers))
        values: list[float] = []
        self._watch.begin_pass()
        for k in range(room):
            point = dict(zip(self._axes, map(float, wanted.points[k]), strict=True))
            if geometry is not None and stream == "primary":
                # The order of travel over a grid is the geometry's: rows inside of outer axes too.
                setpoints = geometry.setpoints(first + k)
                point = {axis: setpoints[axis] for axis in self._axes}
            value = yield from self._point(search, stream, first + k, point)
            values.append(value)
        self._counts[stream] = first + room
        search.made += 1
        self._passes += 1
        self._check(values, wanted, search)
        logger.info("%s: %d points, %s", stream, room, wanted.label)

    def _stream(
        self, search: SearchState, wanted: Measure, room: int
    ) -> tuple[str, ScanGeometry | None, int]:
        """Name, geometry and number of the first point of a pass; None if it has been declared."""
        whole = room == len(wanted.points)
        if search.parent is None:
            stream = f"zoom_{search.made}" if search.made else "primary"
            return stream, pass_geometry(self._axes, wanted, room), 0
        assert self.outer is not None
        if self._coarse is None and whole:
            self._coarse = wanted
        coarse = self._coarse
        if not search.made and whole and coarse is not None and _same(wanted, coarse):
            inner = pass_geometry(self._axes, wanted, room)
            geometry = ScanGeometry((*self.outer.dims, *inner.dims))
            return "primary", geometry, search.parent * len(wanted.points)
        return RAGGED, None, self._counts.get(RAGGED, 0)

    def _point(
        self, search: SearchState, stream: str, k: int, point: Mapping[str, float]
    ) -> MsgGenerator[float]:
        try:
            yield Msg("checkpoint")
            yield from place(stream, k)
            yield from self._move({**search.outer, **point})
            yield from self._expose(stream)
        except RunEngineControlException:
            raise
        except Exception as error:
            at = ", ".join(f"{name} = {value:.6g}" for name, value in point.items())
            error.add_note(
                f"In pass {search.made + 1} of the search (stream '{stream}', point {k}), at {at}. "
                "What was measured before is stored."
            )
            raise
        self._points += 1
        readings = self.observer.take(stream, k)
        value = _number(readings, self.signal)
        position = tuple(point.values())
        search.add(position, value)
        self._watch.look(readings, position, search.measured)
        return value

    def _check(self, values: Sequence[float], wanted: Measure, search: SearchState) -> None:
        bad = sum(not math.isfinite(value) for value in values)
        if bad and not len(search.measured().values):
            raise ValueError(
                f"'{self.signal}' was not a number at each of the {len(values)} points of the "
                f"{wanted.label} pass: there is nothing to decide by. Look at the detector (is its "
                "shutter open?), or give another signal."
            )
        if bad:
            logger.warning(
                "%r was not a number at %d of %d points: they are stored, and not decided by.",
                *(self.signal, bad, len(values)),
            )

    # -- decisions -----------------------------------------------------------------------------

    def _decide(self, search: SearchState, peaks: Sequence[Peak]) -> MsgGenerator[tuple[Peak, ...]]:
        fired = {peak: self._watch.fired_at(peak) for peak in peaks}
        let_through = [peak for peak in peaks if fired[peak] is not None]
        action = ", ".join(one.text for one in self.actions)
        accepted, by = True, "nobody asked"
        if let_through and self.approval is not None:
            accepted, by = yield from self._approve(let_through, action)
        for peak in peaks:
            through = fired[peak] is not None
            row = decision_row(
                self._axes,
                peak,
                signal=self.signal,
                passes=search.made,
                fired=fired[peak] or "",
                action=action if through else "none",
                approved=through and accepted,
                by=by if through else "condition",
                why="" if through else f"the condition did not fire there: {self._watch.when}",
            )
            yield from self._write("decisions", row, search)
        if not accepted:
            self._rejected = True
            search.refused += peaks
            search.why = f"The scan ended: '{action}' was rejected by {by}."
            return ()
        search.approved += let_through
        search.refused += [peak for peak in peaks if fired[peak] is None]
        if any(one.refines for one in self.actions):
            return tuple(let_through)
        return ()

    def _approve(self, peaks: Sequence[Peak], action: str) -> MsgGenerator[tuple[bool, str]]:
        assert self.approval is not None
        where = "; ".join(
            ", ".join(f"{a} = {c:.6g}" for a, c in zip(self._axes, peak.centers, strict=True))
            for peak in peaks
        )
        count = "a peak" if len(peaks) == 1 else f"{len(peaks)} peaks"
        self.approval.forget()  # the last answer; this one is kept if a pause repeats the question
        yield Msg("checkpoint")
        yield Msg("set", self.approval, f"Found {count} at {where}: {action}?", group="approval")
        yield Msg("wait", None, group="approval")
        answer = self.approval.answer
        assert answer is not None
        return bool(answer.accepted), str(answer.by)

    def _write(
        self, stream: str, values: Mapping[str, Any], search: SearchState
    ) -> MsgGenerator[None]:
        parent = {} if search.parent is None else {"parent": search.parent}
        row = self._rows.get(stream)
        if row is None:
            row = self._rows[stream] = Row(stream, {}, units_of(self._axes, self._movers))
        row.values = {**parent, **values}
        number = self._counts.get(stream, 0)
        yield from write_row(row, number)
        self._counts[stream] = number + 1


def _same(one: Measure, other: Measure) -> bool:
    return (one.grid is None) == (other.grid is None) and np.array_equal(one.points, other.points)


def _number(readings: Mapping[str, Any], name: str) -> float:
    if name not in readings:
        raise ValueError(
            f"No device of this scan gives the reading '{name}'. "
            f"Readings: {', '.join(sorted(readings)) or 'none'}."
        )
    try:
        return float(readings[name])
    except (TypeError, ValueError):
        raise ValueError(
            f"The signal '{name}' reads {readings[name]!r}: give the name of a number."
        ) from None
