"""Readings that stick out alone, until they have been repeated."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._noise import Noise
from bluesky_zarr.peaks._surface import SurfaceFit

from ._quality import poor

if TYPE_CHECKING:
    from ._explanation import Explanation
    from ._spot import Spot

__all__ = ["Doubts", "doubtful"]

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: What lies higher than this above the background, in standard deviations, needs others beside it,
#: that together are higher than this; none of them counts for more than `_ONE`.
_HIGH, _SUPPORT, _ONE = 4.5, 5.0, 4.0
#: A reading so many standard deviations off a fit may be why this is bad.
_OFF = 6.0
#: Two readings of one place contradict each other if they differ by so many standard deviations
#: and by this part of the higher one.
_CONTRADICT, _PART = 4.0, 0.3
#: What is nearer than this, in FWHMs of the narrowest, is the same place.
_SAME = 0.05


class Doubts:
    """Which readings are not believed: they are left out until a repetition has confirmed them.

    No detector is free of cosmic rays, and no beam of gaps. A reading that nothing beside it
    confirms is repeated where it was taken: if that gives about the same, both are believed from
    then on, otherwise the first one is left out for good.
    """

    def __init__(self) -> None:
        self.out = np.zeros(0, dtype=bool)
        self.refuted: list[int] = []
        self._sure = np.zeros(0, dtype=bool)
        # Of each that waits for its repetition, how many readings there were when it was asked for.
        self._waiting: dict[int, int] = {}
        # Those to be repeated next, and those that wait for what is beside them.
        self._new: list[int] = []
        self._held: list[int] = []

    def grow(self, size: int) -> None:
        """Take note that there are so many readings."""
        more = np.zeros(size - len(self.out), dtype=bool)
        self.out = np.concatenate([self.out, more])
        self._sure = np.concatenate([self._sure, more])

    @property
    def waiting(self) -> list[int]:
        """Those that are not repeated yet."""
        return [*self._new, *self._held, *self._waiting]

    def settle(self, points: Floats, values: Floats, under: Floats, noise: Noise) -> None:
        """Compare with their repetitions those that have one; `under` is the background there."""
        for k, since in list(self._waiting.items()):
            near = (np.abs(points[since:] - points[k]) < _SAME).all(axis=1)
            if not near.any():
                # No number came back, or there was no room: that refutes nothing.
                del self._waiting[k]
                self.out[k], self._sure[k] = False, True
                continue
            again = since + int(near.argmax())
            del self._waiting[k]
            one, other = values[k], values[again]
            variance = noise.variance(np.array([one, other])).sum()
            apart = abs(one - other)
            higher = max(one, other) - under[k]
            if apart > _CONTRADICT * math.sqrt(variance) and apart > _PART * higher:
                self.refuted.append(k)
            else:
                self.out[k] = False
                self._sure[k] = self._sure[again] = True

    def doubt(self, which: npt.NDArray[np.intp]) -> None:
        """Leave these out until they have been repeated."""
        self.out[which] = True
        self._new += which.tolist()

    def words(self, values: Floats, places: list[str]) -> str:
        """What was left out, `places` being where the refuted ones are."""
        each = zip(self.refuted, places, strict=True)
        few = ", ".join(f"{values[k]:g} at {place}" for k, place in each)
        number = "1 reading is" if len(places) == 1 else f"{len(places)} readings are"
        return f"{number} left out, as measuring there again did not confirm it: {few}"

    def open(self, which: npt.NDArray[np.intp]) -> Mask:
        """Which of these may be doubted: what has been repeated may not."""
        return np.logical_not(self.out[which] | self._sure[which])

    def repetitions(self, points: Floats) -> Floats:
        """Where to measure once more, shape (n, axes)."""
        again, self._new = self._new, []
        self._waiting.update(dict.fromkeys(again, len(points)))
        return points[again]

    def doubt_lone(self, points: Floats, lift: Floats, reach: Floats, among: Mask) -> None:
        """Doubt those among some that stand high above all else while what is near them does not.

        `lift` is by how many standard deviations each reading is above what is expected there,
        `reach` what is near, for each axis.
        """
        self.out[self._held] = False
        self._held = []
        high = np.flatnonzero((lift > _HIGH) & among & self.open(np.arange(len(points))))
        squares = np.clip(lift, 0.0, np.where(self._sure, np.inf, _ONE)) ** 2
        squares[self.out] = 0.0
        near = {k: (np.abs(points - points[k]) <= reach).all(axis=1) for k in high.tolist()}
        lone = [k for k in near if squares[near[k]].sum() - squares[k] < _SUPPORT**2]
        for k in sorted(lone, key=lambda k: -lift[k]):
            # Whether it is alone will be seen when more is known of the higher one beside it.
            if near[k][self._new].any():
                self._held.append(k)
            else:
                self._new.append(k)
        self.out[self._new + self._held] = True


def doubtful(
    known: Explanation,
    cluster: list[Spot],
    fit: SurfaceFit,
    which: npt.NDArray[np.intp],
    values: Floats,
) -> tuple[npt.NDArray[np.intp], SurfaceFit] | None:
    """The few readings without which a bad fit is a good one, and this fit; None if there are none.

    `which` are the readings that were fitted, `values` what of them is to be fitted.
    """
    kept = np.ones(len(which), dtype=bool)
    most = 2 + len(which) // 20
    trial = fit
    for _ in range(most):
        off = np.zeros(len(which))
        off[kept] = np.abs(trial.residuals)
        off[~known.doubts.open(which)] = 0.0
        worst = int(off.argmax())
        if off[worst] < _OFF:
            return None
        kept[worst] = False
        if kept.sum() <= trial.surface.size:
            return None
        trial = known.fit(cluster, known.points[which[kept]], values[kept])
        if not poor(trial):
            return which[~kept], trial
    return None
