"""What actions do with the motors and detectors of a scan, at one point of its outer axes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from bluesky.utils import Msg, MsgGenerator

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.peaks import Peak

from ._place import declare_geometry, place
from ._point import Exposure, Mover
from ._strategy import ScanAxis

__all__ = ["AtPeaks", "ScanHand"]


@dataclass
class AtPeaks:
    """The exposures at peaks of a whole scan: how many in each stream, and in all."""

    counts: dict[str, int] = field(default_factory=dict)
    taken: int = 0

    def stream(self, nested: bool) -> str:
        """Where the next exposures go: inside of a nested scan all into one stream."""
        if nested or not self.counts:
            return "at_peaks"
        return f"at_peaks_{len(self.counts)}"


@dataclass(frozen=True)
class ScanHand:
    """The `Hand` of a scan.

    `outer` are the positions of the outer axes, None without any; `before` says where the axes were
    before the scan; `seen` is told of each exposure.
    """

    axes: tuple[ScanAxis, ...]
    move_to: Mover
    expose: Exposure
    outer: Mapping[str, float] | None
    before: Mapping[str, float]
    at_peaks: AtPeaks
    seen: Callable[[str, int], object]

    def move(self, position: Sequence[float]) -> MsgGenerator[None]:
        """Move the axes of the search, not beyond their ends."""
        yield Msg("checkpoint")
        yield from self.move_to({**(self.outer or {}), **self._inside(position)})

    def acquire(self, peaks: Sequence[Peak], exposures: int) -> MsgGenerator[None]:
        """Take events at each peak, into stream ``at_peaks``, or ``at_peaks_1`` the next time."""
        stream = self.at_peaks.stream(self.outer is not None)
        points = [self._inside(peak.centers) for peak in peaks]
        k = self.at_peaks.counts.get(stream, 0)
        if stream not in self.at_peaks.counts:
            yield from declare_geometry(stream, self._geometry(points, exposures))
        for point in points:
            for _ in range(exposures):
                yield Msg("checkpoint")
                yield from place(stream, k)
                yield from self.move_to({**(self.outer or {}), **point})
                yield from self.expose(stream)
                self.seen(stream, k)
                k += 1
                self.at_peaks.counts[stream] = k
                self.at_peaks.taken += 1

    def _geometry(self, points: Sequence[Mapping[str, float]], exposures: int) -> ScanGeometry:
        if self.outer is not None:
            return ScanGeometry.events()
        names = [axis.name for axis in self.axes]
        line = tuple(Coordinate(n, np.array([point[n] for point in points])) for n in names)
        dims = [Dim("_".join(names), len(points), False, line)]
        if exposures > 1:
            repeat = "exposure"
            while repeat in (*names, dims[0].name):
                repeat += "_"
            dims.append(Dim(repeat, exposures))
        return ScanGeometry(tuple(dims))

    def go_back(self) -> MsgGenerator[None]:
        """Move the axes to where they were before the scan."""
        yield Msg("checkpoint")
        yield from self.move_to(self.before)

    def _inside(self, position: Sequence[float]) -> dict[str, float]:
        pairs = zip(self.axes, position, strict=True)
        return {axis.name: min(max(float(at), axis.low), axis.high) for axis, at in pairs}
