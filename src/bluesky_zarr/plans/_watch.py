"""Holds a condition against each acquisition, and says for which peaks it fired."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bluesky_zarr.peaks import Peak, find_peaks, find_peaks_nd

from ._joining import Trigger, fired
from ._readings import Readings
from ._strategy import Field, Measured
from ._triggers import PeakFound

__all__ = ["Watch"]

#: How many widths from a peak's centre an acquisition still belongs to it.
_REACH = 1.5
#: How many times the points of the last look for peaks there are at the next one: what a condition
#: on peaks costs per point goes with the inverse of it, less one.
_MORE = 2.0

logger = logging.getLogger("bluesky_zarr.plans")


class Watch:
    """Evaluates a condition after each acquisition of a search.

    Parameters
    ----------
    when
        The condition; None lets every peak through that the strategy finds.
    signal
        The reading that peaks are looked for in.
    field
        The axes of the search.
    """

    def __init__(self, when: Trigger | None, signal: str, field: Field) -> None:
        self.when = when
        self._signal = signal
        self._field = field
        self._seen: list[Readings] = []
        self._before: Readings | None = None
        self._held = False
        self._peaks: Sequence[Peak] = ()
        self._looked_at = 0

    def begin(self) -> None:
        """Forget everything: another search begins."""
        self._seen.clear()
        self._before = None
        self._held = False
        self._peaks = ()
        self._looked_at = 0

    def begin_pass(self) -> None:
        """Forget the last acquisition: the next one is far from it."""
        self._before = None

    def look(
        self,
        values: Mapping[str, Any],
        position: tuple[float, ...],
        measured: Callable[[], Measured],
    ) -> None:
        """Evaluate the condition on one acquisition; `measured` gives all so far, it included."""
        if self.when is None:
            return
        before = self._before
        now = Readings(
            values,
            position,
            None if before is None else before.values,
            None if before is None else before.position,
            self._signal,
            lambda: self._find(measured),
        )
        self._before = now
        self._seen.append(now)
        holds = self.when.evaluate(now)
        if holds and not self._held:
            logger.info("At %s: %s", position, fired(self.when, now))
        self._held = holds

    def _find(self, measured: Callable[[], Measured]) -> Sequence[Peak]:
        # Looking at all points after each one would cost more than the points: a peak becomes known
        # when twice as many have been measured as at the last look. A decision looks again.
        if len(self._seen) >= self._looked_at * _MORE:
            self._looked_at = len(self._seen)
            self._peaks = self._look_at_all(measured())
        return self._peaks

    def _look_at_all(self, measured: Measured) -> Sequence[Peak]:
        if len(self._field.axes) == 1:
            return find_peaks(measured.points[:, 0], measured.values, at_limits=False)
        return find_peaks_nd(measured.points, measured.values)

    def fired_at(self, peak: Peak) -> str | None:
        """What fired at a peak, in words; None where nothing did.

        A condition on readings has to hold at an acquisition on the peak, one on peaks alone has to
        hold for it. A peak is known only when it has been passed: the condition is looked at once
        more, with this peak as the one that was found, at each acquisition on it.
        """
        one = _known(peak)
        if self.when is None:
            return PeakFound().fired(Readings({}, find=lambda: [one]))
        looked = range(len(self._seen))
        if self.when.names:
            looked = [n for n in looked if self._belongs(self._seen[n].position, peak)]
        else:
            looked = looked[-1:]
        for n in looked:
            here = replace(self._seen[n], find=lambda: [one])
            if self.when.evaluate(here):
                return fired(self.when, here)
        return None

    def _belongs(self, position: Sequence[float], peak: Peak) -> bool:
        return all(
            abs(at - center) <= _REACH * max(width, axis.narrowest)
            for at, center, width, axis in zip(
                position, peak.centers, peak.fwhms, self._field.axes, strict=True
            )
        )


def _known(peak: Peak) -> Peak:
    # A peak that a fit gave may have no prominence: it stands above its background by its height.
    return peak if np.isfinite(peak.prominence) else replace(peak, prominence=peak.height)
