"""A peak while it is being resolved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from bluesky_zarr.peaks._surface import SurfaceFit

__all__ = ["SPARROW", "TOPS", "Spot", "Top"]

Floats = npt.NDArray[np.float64]

#: The square of the distance in FWHMs below which the sum of two equal Gaussians has one maximum
#: (Sparrow's limit, two standard deviations): such are one peak.
SPARROW = 0.72
#: What a top may be: that of a pseudo-Voigt, or flat in one of two ways.
Top = Literal["", "disc", "box"]
TOPS: tuple[Top, ...] = ("", "disc", "box")


@dataclass(eq=False)
class Spot:
    """One place where a peak is believed to be.

    `flat` is what its top is fitted by if that is flat, and `form` how it lies across the axes, as
    `Surface` and `SurfaceFit` have them. `fit` is the fit that it is part of, as peak number
    `index`; errors are larger than those of the
    fit by `inflation` where the points do not follow the formula. `sought` says that points were
    spent on finding out where it is, `done` that it gets no more, `whole` that it is not two;
    `spent` is how many points it got, `seen` what was there when it was fitted last,
    `origin` where it was when it was first believed.
    """

    center: Floats
    fwhm: Floats
    height: float
    asked: bool = False
    approved: bool = False
    sought: bool = False
    spent: int = 0
    done: bool = False
    whole: bool = False
    dropped: str = ""
    note: str = ""
    flat: Top = ""
    form: Floats = field(default_factory=lambda: np.empty(0))
    fit: SurfaceFit | None = None
    index: int = 0
    inflation: float = 1.0
    seen: tuple[int, ...] = ()
    origin: Floats = field(default_factory=lambda: np.empty(0))

    def __post_init__(self) -> None:
        self.origin = self.center
        if not self.form.size:
            self.form = np.eye(len(self.center))

    @property
    def fitted(self) -> SurfaceFit:
        """The fit; there is one as soon as the spot has been explained."""
        assert self.fit is not None
        return self.fit

    @property
    def errors(self) -> tuple[Floats, Floats]:
        """The errors of centre and FWHM on each axis, as the fit has them."""
        return self.fitted.center(self.index)[1], self.fitted.fwhm(self.index)[1]

    @property
    def reach(self) -> Floats:
        """The FWHM between the outermost places along each axis: that of a cut is less across."""
        return self.fwhm * np.sqrt(np.linalg.inv(self.form).diagonal())

    @property
    def located(self) -> bool:
        """Whether the fit says where the peak is and how wide, so that one can rely on it."""
        if self.fit is None:
            return False
        center, fwhm = self.errors
        return bool((center < 0.15 * self.fwhm).all() and (fwhm < 0.3 * self.fwhm).all())
