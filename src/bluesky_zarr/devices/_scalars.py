"""Numbers computed from each frame, which plans decide by and live tables show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["DEFAULT_SCALARS", "LiveScalar", "region"]


@dataclass(frozen=True)
class LiveScalar:
    """One number of a frame, read as ``<device>-<suffix>``.

    `compute` takes the frame, of shape (..., y, x), and gives a float; it runs once a frame, so it
    had better be quick.

    >>> import numpy as np
    >>> mean = LiveScalar("mean", lambda frame: float(frame.mean()), units="counts")
    >>> mean.compute(np.array([[1, 3]], dtype="uint16"))
    2.0
    """

    suffix: str
    compute: Callable[[np.ndarray], float]
    units: str = ""

    def __post_init__(self) -> None:
        if not self.suffix or "/" in self.suffix:
            raise ValueError(
                f"A live scalar cannot be called {self.suffix!r}; it becomes part of the name of "
                "a reading, such as 'cam-sum': use letters, digits, '-' and '_'"
            )


def _total(frame: np.ndarray) -> float:
    # numpy adds small integers up in 64 bits, but single precision in single precision.
    return float(frame.sum(dtype="float64" if frame.dtype.kind == "f" else None))


def _maximum(frame: np.ndarray) -> float:
    return float(frame.max())


def _centroid(frame: np.ndarray, axis: int) -> float:
    if frame.ndim < -axis:
        return float("nan")
    others = tuple(n for n in range(frame.ndim) if n != frame.ndim + axis)
    profile = frame.sum(axis=others, dtype="float64")
    total = profile.sum()
    return float(profile @ np.arange(profile.size) / total) if total else float("nan")


def _centroid_x(frame: np.ndarray) -> float:
    return _centroid(frame, -1)


def _centroid_y(frame: np.ndarray) -> float:
    return _centroid(frame, -2)


DEFAULT_SCALARS = (
    LiveScalar("sum", _total, units="counts"),
    LiveScalar("max", _maximum, units="counts"),
    LiveScalar("centroid_x", _centroid_x, units="pixel"),
    LiveScalar("centroid_y", _centroid_y, units="pixel"),
)
"""What a camera gives unless it is told otherwise. Centroids are weighted by the pixels' values, in
pixels from the centre of pixel (0, 0), and NaN for an empty frame."""


def region(name: str, y: slice, x: slice) -> LiveScalar:
    """Sum the pixels of one region of interest: ``<device>-<name>-sum``.

    Raises
    ------
    ValueError
        With each frame that has no pixel in the region.

    Examples
    --------
    >>> import numpy as np
    >>> peak = region("peak", slice(0, 2), slice(1, 3))
    >>> peak.suffix, peak.compute(np.ones((4, 6), dtype="uint16"))
    ('peak-sum', 4.0)
    """
    if not name:
        raise ValueError("A region needs a name; it becomes part of the reading's, 'cam-peak-sum'")

    def total(frame: np.ndarray) -> float:
        pixels = frame[..., y, x]
        if not pixels.size:
            raise ValueError(
                f"The region {name!r} (y {y.start}:{y.stop}, x {x.start}:{x.stop}) has no pixel "
                f"of a frame of shape {frame.shape}; give rows and columns inside of it"
            )
        return _total(pixels)

    return LiveScalar(f"{name}-sum", total, units="counts")
