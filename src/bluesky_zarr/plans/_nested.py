"""Nested scans of any depth, from a scanspec `Spec`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import bluesky.preprocessors as bpp
from bluesky.protocols import Movable, Readable
from bluesky.utils import CustomPlanMetadata, Msg, MsgGenerator
from scanspec.specs import Spec

from bluesky_zarr.geometry import ScanGeometry, check_depth

from ._flown import FlownLines
from ._point import Exposure, Mover, settle_times

__all__ = ["nested_scan"]

PerStep = Callable[[Sequence[Any], Mapping[Any, float], dict[Any, float | None]], Generator]


def nested_scan(
    detectors: Sequence[Readable],
    spec: Spec[Any] | Mapping[str, Any],
    *,
    motors: Sequence[Movable] = (),
    settle: Mapping[str, float] | None = None,
    per_step: PerStep | None = None,
    fly: bool = False,
    exposure: float | None = None,
    md: CustomPlanMetadata | None = None,
) -> MsgGenerator[str]:
    """Scan over nested axes, slowest first, and take one event at each point.

    Points are made one by one while the scan runs: a million of them cost nothing before the
    first move. Each point begins with a checkpoint.

    Parameters
    ----------
    detectors
        What is triggered and read at each point.
    spec
        A scanspec `Spec` whose axes are motors, or whose axes are names; or its ``serialize()``
        output, which always has names.
    motors
        The motors, where the axes of `spec` are names.
    settle
        Seconds to wait after a motor moved, by the motor's name.
    per_step
        Takes the place of one point: ``per_step(detectors, step, pos_cache)`` as in bluesky's own
        scans. It takes exactly one event in stream ``primary``.
    fly
        Fly the innermost axis: its motors move with constant speed through each line, and the
        detectors take the frames of a line by themselves. The line begins and ends half a step
        outside of its positions, and what the motors need to get to their speed.
    exposure
        Seconds for each point of a flown line.
    md
        Metadata for the start document.

    Returns
    -------
    str
        The run's uid.

    Raises
    ------
    ValueError
        For more than 10 dims, a motor used twice, an axis without a motor, a negative time; for
        devices or positions that cannot be flown.

    Examples
    --------
    >>> from ophyd_async.core import init_devices
    >>> from ophyd_async.sim import SimMotor
    >>> from scanspec.specs import Linspace
    >>> x, y = SimMotor(name="x"), SimMotor(name="y")
    >>> plan = nested_scan([], Linspace(y, 0, 1, 3) * ~Linspace(x, 0, 1, 4))
    >>> next(plan).command
    'stage'
    """
    geometry = ScanGeometry.from_spec(spec)
    check_depth(geometry)
    movers = motors_of(spec, motors, geometry)
    waits = settle_times(settle, movers)
    if exposure is not None and not fly:
        raise ValueError(f"exposure={exposure} is that of flown lines: give fly=True as well.")
    if fly and per_step is not None:
        raise ValueError("per_step is the plan of one point: a flown line has none. Give one.")
    lines = FlownLines(detectors, geometry, movers, waits, exposure) if fly else None
    step_plan = per_step
    metadata = _metadata(detectors, spec, geometry, movers, per_step, md)

    @bpp.stage_decorator([*detectors, *movers.values()])
    @bpp.run_decorator(md=metadata)
    def inner() -> MsgGenerator[Any]:
        if lines is not None:
            yield from lines()
        elif step_plan is None:
            yield from _points(detectors, geometry, movers, waits)
        else:
            position_cache: dict[Any, float | None] = dict.fromkeys(movers.values())
            for point in geometry.points():
                step = {movers[axis]: value for axis, value in point.items()}
                yield from step_plan(detectors, step, position_cache)

    return (yield from inner())


def motors_of(
    spec: Spec[Any] | Mapping[str, Any], motors: Sequence[Movable], geometry: ScanGeometry
) -> dict[str, Movable]:
    """Give the motors of a scan by the names of its axes: those in `spec`, or those of `motors`.

    Raises
    ------
    ValueError
        For an axis without a motor.
    """
    by_name = {str(getattr(motor, "name", motor)): motor for motor in motors}
    if isinstance(spec, Spec):
        movable = [axis for axis in spec.axes() if isinstance(axis, Movable)]
        by_name |= {str(getattr(axis, "name", axis)): axis for axis in movable}
    missing = [axis for axis in geometry.axes if axis not in by_name]
    if missing:
        raise ValueError(
            f"No motor is called {', '.join(map(repr, missing))}: give the motors of the scan as "
            f"motors=[...]. Known names: {', '.join(by_name) or 'none'}."
        )
    return {axis: by_name[axis] for axis in geometry.axes}


def _metadata(
    detectors: Sequence[Any],
    spec: Spec[Any] | Mapping[str, Any],
    geometry: ScanGeometry,
    movers: Mapping[str, Any],
    per_step: PerStep | None,
    md: CustomPlanMetadata | None,
) -> dict[str, Any]:
    serialized = spec.serialize() if isinstance(spec, Spec) else spec
    # Per dim what bluesky's grid plans say per motor: its ends, and whether it is snaked.
    extents = [
        [float(dim.coordinates[0].values[0]), float(dim.coordinates[0].values[-1])]
        for dim in geometry.dims
        if dim.coordinates
    ]
    metadata: dict[str, Any] = {
        "plan_name": "nested_scan",
        "plan_args": {
            "detectors": [repr(d) for d in detectors],
            "spec": serialized,
            "per_step": repr(per_step),
        },
        "scanspec": serialized,
        "detectors": [d.name for d in detectors],
        "motors": list(movers),
        "shape": list(geometry.shape),
        "extents": extents,
        "snaking": [dim.snaked for dim in geometry.dims],
        "num_points": geometry.size,
        "num_intervals": geometry.size - 1,
        "hints": {},
        **(md or {}),
    }
    hints = dict(metadata["hints"])
    fields = {axis: getattr(m, "hints", {}).get("fields", [axis]) for axis, m in movers.items()}
    hints.setdefault(
        "dimensions",
        [
            ([f for c in dim.coordinates for f in fields[c.name]], "primary")
            for dim in geometry.dims
            if dim.coordinates
        ],
    )
    if all(len(dim.coordinates) == 1 for dim in geometry.dims):
        hints.setdefault("gridding", "rectilinear")
    metadata["hints"] = hints
    return metadata


def _points(
    detectors: Sequence[Any],
    geometry: ScanGeometry,
    movers: Mapping[str, Any],
    waits: Mapping[str, float],
) -> MsgGenerator[None]:
    move = Mover(movers, waits)
    expose = Exposure([*detectors, *movers.values()])
    for point in geometry.points():
        yield Msg("checkpoint")
        yield from move(point)
        yield from expose("primary")
