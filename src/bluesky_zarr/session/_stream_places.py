"""Where the points of one stream sit, and whether the plan is where they should be."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from bluesky_zarr.devices import Placement
from bluesky_zarr.geometry import ScanGeometry

__all__ = ["PlacementError", "StreamPlaces"]

logger = logging.getLogger("bluesky_zarr.session")


class PlacementError(RuntimeError):
    """A frame's place in the scan is not known, or not the one that the plan commanded."""


class StreamPlaces:
    """The geometry of one stream, held against what the plan commands.

    Parameters
    ----------
    run_uid, stream
        Which stream of which run.
    geometry
        What is known of it; ``ScanGeometry.events()`` for a stream in order of events.
    motors
        The names of the motors whose setpoints are kept with each event, where these are stored in
        order.
    believed
        What a start document says is held against the first setpoints, and given up if they differ
        (the name of its plan, for the log; relative positions are made absolute). None for a
        geometry that a plan has declared for just this stream: it is true.
    """

    def __init__(
        self,
        run_uid: str,
        stream: str,
        geometry: ScanGeometry,
        *,
        motors: Sequence[str] = (),
        believed: str | None = None,
    ) -> None:
        self.run_uid = run_uid
        self.stream = stream
        self.geometry = geometry
        self.motors = tuple(motors)
        #: Whether an array was made: its shape is final.
        self.array_open = False
        self._plan_name = believed or ""
        self._relative = self._plan_name.startswith("rel_")
        self._settled = believed is None or geometry.growing
        self._spans = {
            c.name: float(c.values.max() - c.values.min()) if len(c.values) else 0.0
            for _, c in geometry.coordinates
        }

    @property
    def promised(self) -> ScanGeometry:
        """The geometry as far as it is known: where a relative scan is, its first move says."""
        if self._settled or not self._relative:
            return self.geometry
        return ScanGeometry(tuple(replace(dim, coordinates=()) for dim in self.geometry.dims))

    @property
    def kept_names(self) -> set[str]:
        """Names that the stream needs for itself."""
        return {*self.geometry.axes, *self.geometry.names, *self.motors}

    def ends_before(self, index: int) -> bool:
        """Whether the stream has no point of this number."""
        return not self.geometry.growing and index >= self.geometry.size

    def placement(self, index: int, commanded: Mapping[str, Any] | None = None) -> Placement:
        """Where point `index` sits.

        `commanded` are the setpoints last sent to each motor; they are checked against the
        geometry. None where no motor has been commanded yet.

        Raises
        ------
        PlacementError
            When the plan is not where the geometry says, after frames were stored.
        """
        if not self.geometry.growing and commanded is not None:
            self._check(index, commanded)  # which may settle that the order of events is all
        if self.geometry.growing:
            return Placement(
                self.run_uid, self.stream, index, index, self._setpoints(commanded or {})
            )
        if self.ends_before(index):
            raise self._too_many(index)
        return Placement(self.run_uid, self.stream, index, self.geometry.flat(index))

    def _setpoints(self, commanded: Mapping[str, Any]) -> dict[str, float] | None:
        if not self.motors:
            return None
        return {m: float(commanded[m]) for m in self.motors if is_number(commanded.get(m))}

    def _check(self, index: int, commanded: Mapping[str, Any]) -> None:
        if self.ends_before(index):
            raise self._too_many(index)
        expected = self.geometry.setpoints(index)
        if not self._settled:
            self._settle(expected, commanded)
            if self.geometry.growing:
                return
            expected = self.geometry.setpoints(index)
        for axis, value in expected.items():
            if not self._at(axis, commanded.get(axis), value):
                raise PlacementError(
                    f"Point {index} of this scan should be at {axis} = {value:.6g}, but {axis} was "
                    f"last sent to {commanded.get(axis)}: the frame's place is not known, and it "
                    f"is not stored. A per_step must take one event per point in stream "
                    f"'{self.stream}', in the order of the scan; put further events into a stream "
                    "of their own with bluesky_zarr.plans.place(stream, index)."
                )

    def _settle(self, expected: Mapping[str, float], commanded: Mapping[str, Any]) -> None:
        self._settled = True
        if self._relative and all(is_number(commanded.get(axis)) for axis in expected):
            self.geometry = self.geometry.shifted(
                {axis: float(commanded[axis]) - value for axis, value in expected.items()}
            )
        elif not all(self._at(axis, commanded.get(axis), v) for axis, v in expected.items()):
            if self.array_open:
                return  # too late for another shape: the check that follows says what is wrong
            logger.warning(
                "The first point of %r is at %s, its start document says %s: the run is stored in "
                "order of events.",
                self._plan_name,
                {axis: commanded.get(axis) for axis in expected},
                dict(expected),
            )
            self.geometry = ScanGeometry.events(self.geometry.size)

    def _at(self, axis: str, commanded: Any, expected: float) -> bool:
        tolerance = 1e-9 * (self._spans.get(axis, 0.0) + abs(expected)) + 1e-13
        return is_number(commanded) and abs(float(commanded) - expected) <= tolerance

    def _too_many(self, index: int) -> PlacementError:
        return PlacementError(
            f"This scan has {self.geometry.size} points, but the plan takes point number "
            f"{index + 1} in stream '{self.stream}': it is not stored. A per_step must take one "
            "event per point; put further events into a stream of their own with "
            "bluesky_zarr.plans.place(stream, index)."
        )


def is_number(value: Any) -> bool:
    """Whether a setpoint is one number."""
    return isinstance(value, (int, float)) or hasattr(value, "__float__")
