"""A strategy that does as it is told, and the signal that it is told of."""

from __future__ import annotations

import bluesky.plan_stubs as bps
import numpy as np
from bluesky.run_engine import RunEngine

from bluesky_zarr.peaks import Peak
from bluesky_zarr.plans import Found, Measure, Outcome


def hill(x: float) -> float:
    """A peak of FWHM 2 at 4, and a smaller one at 8."""
    return 5 + 100 * 2 ** (-((x - 4) ** 2)) + 40 * 2 ** (-((x - 8) ** 2))


FIRST = Peak(4.0, 2.0, 100.0, prominence=100.0, background=5.0)
SECOND = Peak(8.0, 2.0, 40.0, prominence=40.0, background=5.0)


class Told:
    """Measures 0..10, then around each peak that it may go on with."""

    def __init__(self, *peaks: Peak, around: tuple[float, ...] = (-0.5, 0.5)) -> None:
        self.peaks = peaks or (FIRST, SECOND)
        self.around = around
        self.seen: list[object] = []

    def search(self, field):
        axis = field.axes[0]
        line = np.linspace(axis.start, axis.stop, 11)
        self.seen.append((yield Measure(line[:, None], "coarse")))
        wanted = yield Found(self.peaks)
        self.seen.append(wanted)
        for peak in wanted:
            points = np.array([[peak.centers[0] + d] for d in self.around])
            self.seen.append((yield Measure(points, "zoom", peaks=(peak,))))
        peaks = tuple(
            Peak(p.center, p.fwhm, p.height, 0.01, 0.02, 0.5, resolved=p in wanted)
            for p in self.peaks
        )
        return Outcome(peaks)


def position(RE: RunEngine, motor) -> float:
    return RE(bps.rd(motor)).plan_result
