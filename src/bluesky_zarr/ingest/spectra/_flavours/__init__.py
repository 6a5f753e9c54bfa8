"""The flavours of FITS files that a spectrum is read from. A new one is a module here with `NAME`,
`find` and `read`, and a place in `FLAVOURS`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.spectra._flavours import _image_wcs, _row_of_arrays, _row_per_pixel
from bluesky_zarr.ingest.spectra._spectrum import Spectrum


@dataclass(frozen=True)
class DefaultUnits:
    """The units of files that do not say; "" where nobody knows."""

    wavelength: str = ""
    flux: str = ""

    def or_else(self, *, flux: str) -> DefaultUnits:
        """These, and another unit of the flux where there is none."""
        return DefaultUnits(self.wavelength, self.flux or flux)


class Flavour(Protocol):
    """A flavour of file."""

    @property
    def NAME(self) -> str:
        """What a file of this flavour is, for messages."""
        ...

    def find(self, hdus: Any) -> int | None:
        """The number of the HDU that holds a spectrum of this flavour, if one does."""
        ...

    def read(self, path: Path, hdus: Any, number: int, units: DefaultUnits) -> Spectrum:
        """The spectrum in this HDU; raises `FitsError`."""
        ...


FLAVOURS: tuple[Flavour, ...] = (_row_of_arrays, _row_per_pixel, _image_wcs)
"""In the order in which they are asked: a file is of the first flavour that finds itself in it."""


def read_spectrum(path: Path, hdus: Any, units: DefaultUnits) -> Spectrum:
    """The spectrum in an open file, checked.

    Raises
    ------
    FitsError
        There is none, or it cannot be used.
    """
    for flavour in FLAVOURS:
        number = flavour.find(hdus)
        if number is not None:
            spectrum = flavour.read(path, hdus, number, units)
            spectrum.check(path)
            return spectrum
    raise FitsError(
        path,
        f"there is no spectrum in it: {'; '.join(_what(n, hdu) for n, hdu in enumerate(hdus))}",
        f"a spectrum is {', or '.join(flavour.NAME for flavour in FLAVOURS)}; leave the file out",
    )


def _what(number: int, hdu: Any) -> str:
    if getattr(hdu, "columns", None) is not None:
        return f"HDU {number} is a table of {', '.join(hdu.columns.names) or 'nothing'}"
    shape = " x ".join(map(str, hdu.shape or ())) if hdu.is_image else ""
    return f"HDU {number} is an image of {shape}" if shape else f"HDU {number} is empty"
