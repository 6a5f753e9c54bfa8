"""A sample to look at: grains of a few substances, each with a spectrum of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["SimSample", "SpectralLine"]


@dataclass(frozen=True)
class SpectralLine:
    """A Lorentzian line of a spectrum: `height` at `center`, half of it at ``center +- fwhm / 2``.

    >>> SpectralLine(center=7.1, fwhm=0.2, height=1.0).at(7.2)
    0.5
    """

    center: float
    fwhm: float
    height: float

    def at(self, wavelength: float) -> float:
        """Give the line's intensity."""
        offset = 2 * (wavelength - self.center) / self.fwhm
        return round(self.height / (1 + offset * offset), 12)


SUBSTANCES = (
    (SpectralLine(7.11, 0.05, 1.0),),
    (SpectralLine(7.21, 0.06, 0.8), SpectralLine(7.37, 0.02, 0.5)),
    (SpectralLine(7.30, 0.04, 0.9),),
)
"""Lines between 7.0 and 7.4 keV, where the simulated monochromator scans."""


class SimSample:
    """A phantom: bright grains on a dark ground, the same for the same `seed`.

    Every grain is of one substance, and shines where that has a line. Lengths are in mm, and the
    sample lies around (0, 0); what is called wavelength is any spectral axis, by default an energy
    in keV.

    Parameters
    ----------
    seed
        Of the grains' places, sizes and substances.
    grains
        How many are tried; those that would lie on another one are left out.
    size
        Edge of the square that has grains [mm].
    substances
        The lines of each substance.
    ground
        Intensity where there is no grain, relative to a line of height 1.
    flux
        Counts a second in a pixel where the intensity is 1.

    Examples
    --------
    >>> rate = SimSample(seed=1).expected(0.1, 0.0, 7.11, shape=(64, 64))
    >>> rate.shape, bool(rate.min() > 0)
    ((64, 64), True)
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        grains: int = 400,
        size: float = 3.0,
        substances: Sequence[Sequence[SpectralLine]] = SUBSTANCES,
        ground: float = 0.02,
        flux: float = 2.0e5,
    ) -> None:
        if not substances:
            raise ValueError("A sample needs at least one substance: substances=[[line, ...]]")
        self.seed = seed
        self.size = size
        self.substances = tuple(tuple(lines) for lines in substances)
        self.ground = ground
        self.flux = flux
        rng = np.random.default_rng(seed)
        places = rng.uniform(-size / 2, size / 2, (grains, 2))
        radii = rng.uniform(0.04, 0.16, grains)
        kept: list[int] = []
        for n in range(grains):
            distance = np.hypot(*(places[kept] - places[n]).T)
            if (distance > 0.9 * (radii[kept] + radii[n])).all():
                kept.append(n)
        self._places = places[kept]
        self._radii = radii[kept]
        self._brightness = rng.uniform(0.5, 1.0, len(kept))
        self._substance = rng.integers(len(self.substances), size=len(kept))

    def spectrum(self, wavelength: float | None) -> np.ndarray:
        """Give the intensity of each substance, (number of substances,); 1 for white light."""
        if wavelength is None:
            return np.ones(len(self.substances))
        return np.array([sum(line.at(wavelength) for line in s) for s in self.substances])

    def expected(
        self,
        x: float,
        y: float,
        wavelength: float | None,
        *,
        shape: tuple[int, int],
        field_of_view: float = 0.5,
    ) -> np.ndarray:
        """Give the counts a second, without noise, that a camera sees: float64 of `shape`.

        Parameters
        ----------
        x, y
            Where the centre of the frame is on the sample [mm]. Columns go with x, rows with y.
        wavelength
            Where in the spectrum; None for white light.
        shape
            Rows and columns of the frame.
        field_of_view
            Width of the frame on the sample [mm]; pixels are square.
        """
        rows, columns = shape
        pixel = field_of_view / columns
        # Where the centres of the first row and the first column are.
        left = x - pixel * (columns - 1) / 2
        top = y - pixel * (rows - 1) / 2
        intensity = np.full(shape, self.ground)
        strength = self._brightness * self.spectrum(wavelength)[self._substance]
        first_x, last_x = self._span(self._places[:, 0], left, pixel, columns)
        first_y, last_y = self._span(self._places[:, 1], top, pixel, rows)
        for n in np.flatnonzero((first_x < last_x) & (first_y < last_y)):
            here = slice(first_y[n], last_y[n]), slice(first_x[n], last_x[n])
            across = left + pixel * np.arange(first_x[n], last_x[n]) - self._places[n, 0]
            along = top + pixel * np.arange(first_y[n], last_y[n]) - self._places[n, 1]
            square = (across**2)[None, :] + (along**2)[:, None]
            square /= self._radii[n] ** 2
            intensity[here] += strength[n] * _dome(square)
        intensity *= self.flux
        return intensity

    def _span(
        self, centers: np.ndarray, start: float, pixel: float, count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Give the first pixel of each grain, and the one after its last."""
        first = np.ceil((centers - self._radii - start) / pixel).astype(int)
        last = np.floor((centers + self._radii - start) / pixel).astype(int) + 1
        return first.clip(0, count), last.clip(0, count)

    def intensity(
        self, x: float, y: float, wavelength: float | None, *, spot: float = 0.1
    ) -> float:
        """Give the counts a second, without noise, that a point detector sees in a square spot.

        It is the mean rate of a pixel in the spot, times 100: a detector is larger than a pixel.
        """
        frame = self.expected(x, y, wavelength, shape=(16, 16), field_of_view=spot)
        return 100 * float(frame.mean())


def _dome(square: np.ndarray) -> np.ndarray:
    """Brightness over squared radius: falls a little, then to 0 at the rim within a few pixels."""
    return np.clip((1 - square) * 8, 0, 1) * (1 - 0.4 * square)
