"""One open run as its plan goes on: what was taken in each stream, and where the next point is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from bluesky_zarr.devices import Placement, WritableDevice

from ._recorder import RunRecorder
from ._stream_places import PlacementError

__all__ = ["OpenRun"]


@dataclass
class OpenRun:
    """What the plan has done so far in one open run.

    `counts` are the points taken in each stream; `said` is what the cursor was last told; `asked`
    what `place` asked for, until the next save or flown block; `exposed` where the frames belong
    that were triggered and not yet saved; `flying` where those that were prepared for belong, and
    `started` which of these were kicked off; `known` the names of the devices in each stream;
    `bundle` is the open event.
    """

    recorder: RunRecorder
    counts: dict[str, int] = field(default_factory=dict)
    said: Placement | None = None
    asked: Placement | None = None
    exposed: dict[WritableDevice, Placement] = field(default_factory=dict)
    flying: dict[WritableDevice, Placement] = field(default_factory=dict)
    started: set[WritableDevice] = field(default_factory=set)
    known: dict[str, frozenset[str]] = field(default_factory=dict)
    bundle: Placement | None = None
    drained: bool = False

    def next_point(
        self, stream: str, commanded: Mapping[str, Any], *, anew: bool = False
    ) -> Placement:
        """Where the next point of a stream is: where the plan asked for, or after the last one.

        `anew` checks the motors again: a trigger that failed may have been given up for the next
        point.
        """
        if self.asked is not None and self.asked.stream == stream:
            index = self.asked.index
        else:
            index = self.counts.get(stream, 0)
        # Checked when it was triggered; the motors may have gone on during the exposure.
        for placement in () if anew else self.exposed.values():
            if (placement.stream, placement.index) == (stream, index):
                return placement
        return self.recorder.placement(stream, index, commanded)

    def next_row(self, device: WritableDevice) -> Placement | None:
        """Where the row begins that a device is prepared for; None past the scan's end."""
        if self.asked is not None:
            return self.asked
        before = self.flying.get(device)
        index = self.counts.get("primary", 0)
        if before is not None and before.stream == "primary":
            # Where this device's last row ended: each may be flown in blocks of its own.
            index = device.flown_to(self.recorder.run_uid, "primary") or index
        if self.recorder.places("primary").ends_before(index):
            return None  # set up after the last point, for whatever comes next
        return self.recorder.placement("primary", index)

    def refuse(self, device: WritableDevice, stream: str) -> None:
        """Take back the frames of an exposure that nobody placed, and say what places it."""
        for other, placement in self.exposed.items():
            if placement is self.exposed[device]:
                other.retract()
        raise PlacementError(
            f"'{device.name}' was triggered without a word on where its frame belongs, and is read "
            f"into stream '{stream}': the frame is not stored. Say it before the trigger: yield "
            f"from bluesky_zarr.plans.place('{stream}', index), with index counting from 0."
        )

    def end_event(self) -> None:
        """The open event is saved or dropped: what was exposed for it is done with."""
        bundle, self.bundle = self.bundle, None
        if bundle is None:
            return
        if self.asked is not None and self.asked.stream == bundle.stream:
            self.asked = None
        self.exposed = {
            device: placement
            for device, placement in self.exposed.items()
            if (placement.stream, placement.index) != (bundle.stream, bundle.index)
        }
        self.said = None
