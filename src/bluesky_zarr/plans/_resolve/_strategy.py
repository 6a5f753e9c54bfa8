"""The settings of the efficient strategy, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass

from bluesky_zarr.plans._strategy import Field, Search

from ._line import search_line

__all__ = ["Resolve"]


@dataclass(frozen=True)
class Resolve:
    """Finds all peaks, and measures where it helps their fits most, until their errors are small.

    Along one axis, pass by pass:

    1. A coarse pass, `spacing` times the narrowest FWHM from point to point: a peak half-way
       between two of them still stands out if it is strong.
    2. What stands out is looked for: maxima by their prominence, which a step or a slope does not
       have, and weaker ones by comparing the readings with Gaussians of all widths (the score test
       of a matched filter). As many places are looked at, one of them is always the highest: a
       peak is believed from `significance` standard deviations on (the look-elsewhere effect; E.
       Gross and O. Vitells, Eur. Phys. J. C 70, 525 (2010)). Weaker candidates are measured again
       beside the points that stood out, as long as each time confirms them.
    3. Where nothing is found with few points, the points are doubled: between few of them, a peak
       that is not strong stands out no more than noise.
    4. A peak that is believed is measured at half its FWHM from point to point, and fitted. Counts
       are weighted by Poisson's law (W. Cash, ApJ 228, 939 (1979)); the shape with the lowest
       information criterion is taken, and two peaks where one does not describe the readings; all
       peaks get one shape if that, on a straight background, describes all readings. Otherwise the
       background is a straight line under each group of neighbours, under fewer readings where it
       is bent. A flat top is tried where shapes with tails fail. Counts that no curve describes
       leave a peak unresolved, however small its errors are.
    5. The fit says how well centre and width are known, and how much a reading anywhere would add
       to that (Fisher's information). The next pass takes the points that add most (an A-optimal
       design), as many as the errors asked for need, until they are reached.

    Points of all passes are fitted together, and none is measured again unless the step floor of
    the axis leaves no room for others. A peak wider than half of the range, and than three times
    the narrowest, is background.

    Over more axes than one the same ideas are used on a grid.

    Parameters
    ----------
    center_error, fwhm_error
        The standard deviations that a resolved peak has at most, in units of its FWHM. Peaks that
        take few points are measured to a third of them: errors that few readings give are not well
        known themselves.
    significance
        How many standard deviations a peak has to stand out by.
    spacing
        The distance of coarse points, in units of the narrowest FWHM.

    Raises
    ------
    ValueError
        For a setting that is not above zero.

    Examples
    --------
    >>> import numpy as np
    >>> from bluesky_zarr.plans._strategy import Field, Found, Measured, ScanAxis
    >>> def detector(x):
    ...     return np.rint(10 + 1000 * np.exp(-4 * np.log(2) * ((x - 42.3) / 5) ** 2))
    >>> search = Resolve().search(Field((ScanAxis("x", 0.0, 100.0, narrowest=5.0),)))
    >>> points, answer = np.empty((0, 1)), None
    >>> try:
    ...     while True:
    ...         asked = search.send(answer)
    ...         if isinstance(asked, Found):
    ...             answer = asked.peaks
    ...             continue
    ...         points = np.concatenate((points, asked.points))
    ...         answer = Measured(points, detector(points[:, 0]), np.zeros(len(points), int))
    ... except StopIteration as end:
    ...     (peak,) = end.value.peaks
    >>> round(peak.center, 1), round(peak.fwhm, 1), peak.resolved, len(points) < 25
    (42.3, 5.0, True, True)
    """

    center_error: float = 0.06
    fwhm_error: float = 0.15
    significance: float = 5.0
    spacing: float = 1.8

    def __post_init__(self) -> None:
        for name in ("center_error", "fwhm_error", "significance", "spacing"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above zero.")

    def search(self, field: Field) -> Search:
        """Begin one search."""
        if len(field.axes) > 1:
            from bluesky_zarr.plans._resolve_nd import search_nd

            return (yield from search_nd(self, field))
        return (yield from search_line(self, field))
