"""Adaptive scans: find peaks, and measure where it helps."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import bluesky.preprocessors as bpp
import numpy as np
from bluesky.protocols import Checkable, Movable, Readable
from bluesky.utils import CustomPlanMetadata, Msg, MsgGenerator, maybe_await
from scanspec.specs import Spec

from bluesky_zarr.geometry import Dim, ScanGeometry, check_depth

from ._actions import Action, actions_of
from ._approval import Approval, approval_of
from ._conditions import condition_of
from ._joining import Trigger
from ._nested import motors_of
from ._observer import awaited, reading_names
from ._point import settle_times
from ._search import checked_pass
from ._strategies import strategy_of
from ._strategy import Field, Measure, ScanAxis, Strategy
from ._zoom_result import ZoomResult
from ._zoom_run import ZoomRun

__all__ = ["zoom_scan"]

#: Names of arrays that an adaptive scan writes beside readings and axes.
KEPT_NAMES = {"parent", "pass", "event"}


def zoom_scan(
    detectors: Sequence[Readable],
    signal: str,
    motor: Movable | Sequence[Movable],
    start: float | Sequence[float],
    stop: float | Sequence[float],
    *,
    narrowest: float | Sequence[float],
    when: Trigger | str | None = None,
    strategy: Strategy | str = "resolve",
    action: Action | str | Iterable[Action | str] = "refine",
    approve: Approval | str | None = None,
    min_step: float | Sequence[float] | None = None,
    max_points: int | None = None,
    max_passes: int = 50,
    outer: Spec[Any] | Mapping[str, Any] | None = None,
    motors: Sequence[Movable] = (),
    settle: Mapping[str, float] | None = None,
    md: CustomPlanMetadata | None = None,
) -> MsgGenerator[ZoomResult]:
    """Find the peaks of a signal, and measure each one until it is resolved.

    A coarse pass goes over the range; further passes go where the strategy wants them. Each pass is
    a stream of the run (``primary``, ``zoom_1``, ...) with arrays of its own, and the store holds
    the readings of all of them together as ``merged``, what was decided and why as ``decisions``,
    and the peaks as ``peaks``. Works with any detector that gives a number in its readings.

    Parameters
    ----------
    detectors
        What is triggered and read at each point.
    signal
        The reading that is looked at: ``"diode"``, ``"cam-sum"``.
    motor, start, stop
        What is scanned, from where to where, in the motor's units; several of each, the slowest
        first, for a scan over several axes. Nothing is measured outside of this range.
    narrowest
        The FWHM of the narrowest peak that must be found, in the motor's units; for each axis.
    when
        A condition on the readings and the peaks found so far, evaluated after each acquisition:
        a trigger, or its text, ``"diode > 1000 and peak(prominence=500)"``. Peaks where it has
        fired are acted on; without it, all that the strategy finds.
    strategy
        Where to measure: ``"resolve"`` (points where they help the fit most), ``"zoom 2"`` (passes
        around each peak, each twice as fine), or an object with `search`.
    action
        What is done with a peak: ``"refine"`` (the strategy measures it further), ``"mark"``,
        ``"move"`` (leave the motor there), ``"acquire 5"`` (exposures at each peak), ``"return"``
        (to where the motor was before), an `Action`, or several in a list.
    approve
        Who says yes before that: ``"none"``, ``"prompt"``, ``"countdown 3"``, an `Approval`.
    min_step
        Points closer than this are one point, in the motor's units; for each axis.
    max_points, max_passes
        Where the search ends in any case. By default max_points is five times the number of points
        that are one `narrowest` apart, and 200 more.
    outer
        The axes around this scan, slowest first: the search is made anew at each of their points.
        A scanspec `Spec` as in `nested_scan`, or its ``serialize()`` output with `motors`.
        Passes of different length are then stored one after the other in stream ``zoom``, each row
        with the number of its outer point as ``parent``.
    motors
        The motors of `outer`, where its axes are names.
    settle
        Seconds to wait after a motor moved, by the motor's name.
    md
        Metadata for the start document.

    Returns
    -------
    ZoomResult
        The peaks; it prints as a table.

    Raises
    ------
    ValueError
        Before anything moves: for a signal that no detector gives, a condition that cannot be read,
        limits or steps that make no sense, positions that a motor refuses. Afterwards: for a signal
        that was NaN at each point of the first pass.

    Examples
    --------
    >>> from ophyd_async.sim import SimMotor
    >>> plan = zoom_scan([], "diode", SimMotor(name="x"), 0, 100, narrowest=1)
    >>> next(plan).command
    'stage'
    """
    axes, movers = _axes(motor, start, stop, narrowest, min_step)
    around, outer_motors = _outer(outer, motors, axes)
    movers = {**outer_motors, **movers}
    limit = _max_points(max_points, axes)
    max_passes = _whole("max_passes", max_passes)
    if max_passes < 1:
        raise ValueError(f"max_passes={max_passes}: a scan makes one pass at least.")
    field = Field(axes, limit, max_passes)
    chosen = strategy_of(strategy)
    _check_coarse(chosen, field)
    trigger = condition_of(when)
    approval = approval_of(approve)
    run = ZoomRun(
        detectors=detectors,
        signal=signal,
        field=field,
        movers=movers,
        settle=settle_times(settle, movers),
        strategy=chosen,
        when=trigger,
        actions=actions_of(action),
        approval=approval,
        outer=around,
    )
    metadata: dict[str, Any] = {
        "plan_name": "zoom_scan",
        "plan_args": {
            "detectors": [repr(d) for d in detectors],
            "signal": signal,
            "motor": [axis.name for axis in axes],
            "start": [axis.start for axis in axes],
            "stop": [axis.stop for axis in axes],
            "narrowest": [axis.narrowest for axis in axes],
            "min_step": [axis.step_floor for axis in axes],
            "max_points": limit,
            "max_passes": max_passes,
            "when": None if trigger is None else str(trigger),
            "strategy": repr(chosen),
            "action": [one.text for one in run.actions],
            "approve": None if approval is None else type(approval).__name__,
            "outer": outer.serialize() if isinstance(outer, Spec) else outer,
        },
        "detectors": [d.name for d in detectors],
        "motors": list(movers),
        "hints": {},
        **(md or {}),
    }
    fields = {a: getattr(m, "hints", {}).get("fields", [a]) for a, m in movers.items()}
    hints = dict(metadata["hints"])
    hints.setdefault("dimensions", [(fields[name], "primary") for name in movers])
    metadata["hints"] = hints

    @bpp.stage_decorator([*detectors, *movers.values()])
    def staged() -> MsgGenerator[Any]:
        yield from _check_devices(detectors, signal, when, axes, around, movers)
        yield Msg("subscribe", None, run.observer, "all")
        yield from bpp.run_wrapper(run.take(), md=metadata)

    yield from staged()
    print(run.result())
    return run.result()


# -- what is wrong before anything moves -------------------------------------------------------


def _axes(
    motor: Any, start: Any, stop: Any, narrowest: Any, min_step: Any
) -> tuple[tuple[ScanAxis, ...], dict[str, Movable]]:
    several = isinstance(motor, Sequence) and not isinstance(motor, str)
    devices: list[Any] = list(motor) if several else [motor]
    if not devices:
        raise ValueError("zoom_scan needs a motor to scan.")
    for device in devices:
        if not isinstance(device, Movable):
            raise ValueError(f"{device!r} is no motor: give a device that can be set.")
    names = [str(getattr(device, "name", "")) for device in devices]
    for name in names:
        if not name or names.count(name) > 1:
            raise ValueError(f"The motors are called {names}: each needs a name of its own.")

    def each(what: str, given: Any) -> list[float]:
        listed = isinstance(given, Sequence | np.ndarray) and not isinstance(given, str)
        values: list[Any] = list(np.atleast_1d(given)) if listed else [given]
        if len(values) == 1 and what in ("narrowest", "min_step"):
            values *= len(devices)
        if len(values) != len(devices):
            raise ValueError(
                f"{what}={given!r} for {len(devices)} motors: give one number for each of them."
            )
        if any(isinstance(value, str) or not hasattr(value, "__float__") for value in values):
            raise ValueError(f"{what}={given!r}: give numbers.")
        numbers = [float(value) for value in values]
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"{what}={given!r}: give finite numbers.")
        return numbers

    axes = []
    for name, first, last, width, floor in zip(
        names,
        each("start", start),
        each("stop", stop),
        each("narrowest", narrowest),
        each("min_step", 0.0 if min_step is None else min_step),
        strict=True,
    ):
        span = abs(last - first)
        if not span:
            raise ValueError(f"start and stop of '{name}' are both {first:g}: there is no range.")
        if not width > 0:
            raise ValueError(
                f"narrowest={width:g} for '{name}': give the FWHM of the narrowest peak that must "
                "be found, a positive number."
            )
        if width > span:
            raise ValueError(
                f"narrowest={width:g} for '{name}' is wider than the range from {first:g} to "
                f"{last:g}: no such peak can be resolved in it. Give a wider range."
            )
        if floor < 0 or (min_step is not None and floor == 0):
            raise ValueError(f"min_step={floor:g} for '{name}': give a positive number.")
        if floor > span:
            raise ValueError(
                f"min_step={floor:g} for '{name}' is more than the range from {first:g} to "
                f"{last:g}: give a smaller one, or a wider range."
            )
        axes.append(ScanAxis(name, first, last, width, floor))
    return tuple(axes), dict(zip(names, devices, strict=True))


def _whole(what: str, given: Any) -> int:
    # A float may be what JSON made of a whole number.
    if isinstance(given, float) and given.is_integer():
        return int(given)
    try:
        return operator.index(given)  # pyright: ignore[reportArgumentType] it says so
    except TypeError:
        raise ValueError(f"{what}={given!r}: give a whole number.") from None


def _max_points(given: int | None, axes: Sequence[ScanAxis]) -> int:
    if given is None:
        return 200 + 5 * math.ceil(math.prod((a.high - a.low) / a.narrowest for a in axes))
    given = _whole("max_points", given)
    if given < 1:
        raise ValueError(f"max_points={given}: a scan takes one point at least.")
    return given


def _check_coarse(strategy: Strategy, field: Field) -> None:
    first = next(strategy.search(field), None)
    if not isinstance(first, Measure) or not len(first.points):
        raise ValueError(
            f"{strategy!r} asks for {first!r} first: a strategy begins with a pass, Measure(...)."
        )
    checked_pass(first, field, strategy)
    if len(first.points) > field.max_points:
        raise ValueError(
            f"The coarse pass alone takes {len(first.points)} points, and max_points="
            f"{field.max_points}: allow more points, or give a larger narrowest."
        )


def _outer(
    spec: Spec[Any] | Mapping[str, Any] | None,
    motors: Sequence[Movable],
    axes: Sequence[ScanAxis],
) -> tuple[ScanGeometry | None, dict[str, Movable]]:
    if spec is None:
        return None, {}
    geometry = ScanGeometry.from_spec(spec)
    twice = [axis.name for axis in axes if axis.name in geometry.axes]
    if twice:
        raise ValueError(
            f"'{twice[0]}' is scanned, and an axis of outer as well: scan it in one of them."
        )
    inner = tuple(Dim(axis.name, 1) for axis in axes)
    check_depth(ScanGeometry((*geometry.dims, *inner)))  # which refuses what is too deep
    return geometry, motors_of(spec, motors, geometry)


def _check_devices(
    detectors: Sequence[Readable],
    signal: str,
    when: Trigger | str | None,
    axes: Sequence[ScanAxis],
    outer: ScanGeometry | None,
    movers: Mapping[str, Movable],
) -> MsgGenerator[None]:
    names: dict[str, set[str]] = {}
    readable: list[Any] = [*detectors, *movers.values()]
    yield from reading_names(readable, names)
    for name in {*names, *movers, *set().union(*names.values())} & KEPT_NAMES:
        raise ValueError(
            f"A device, axis or reading of this scan is called '{name}': an adaptive scan keeps "
            "that name for itself. Rename it: device.set_name(...)."
        )
    known = sorted(set().union(*names.values()))
    if signal not in known:
        raise ValueError(
            f"No device of this scan gives the reading '{signal}', which the scan is to decide by. "
            f"Readings: {', '.join(known) or 'none'}."
        )
    trigger = condition_of(when, known)  # a text once more, now that the names are known
    for name in () if trigger is None else trigger.names:
        if name not in known:
            raise ValueError(
                f"The condition '{when}' names the reading '{name}', which no device of this scan "
                f"gives. Readings: {', '.join(known)}."
            )
    ends = [(axis.name, position) for axis in axes for position in (axis.start, axis.stop)]
    for _, line in () if outer is None else outer.coordinates:
        ends += [(line.name, float(line.values.min())), (line.name, float(line.values.max()))]

    async def check() -> None:
        for name, position in ends:
            motor = movers[name]
            if isinstance(motor, Checkable):
                try:
                    await maybe_await(motor.check_value(position))
                except Exception as error:
                    raise ValueError(
                        f"'{name}' cannot go to {position:g} ({error}): choose another range."
                    ) from error

    yield from awaited(check)
