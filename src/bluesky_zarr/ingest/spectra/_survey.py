"""The first look at the files: which can be used, and everything of them but their pixels.

How many spectra there are has to be known before the first is written, and that is the number of
files that can be read whole. So each is read twice; what is kept in between is small.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.ingest._files import SourceFile
from bluesky_zarr.ingest._fits import FitsError, open_fits
from bluesky_zarr.ingest._headers import HeaderProjection
from bluesky_zarr.ingest.spectra._config import SpectraConfig
from bluesky_zarr.ingest.spectra._flavours import DefaultUnits, read_spectrum
from bluesky_zarr.ingest.spectra._metadata import Cards, metadata, params
from bluesky_zarr.ingest.spectra._spectrum import Spectrum


@dataclass(frozen=True)
class Surveyed:
    """A file that can be used, and what is in it.

    `grid` is a digest of its wavelengths, `limits` their least and greatest finite one, both in
    `wavelength_unit`; `present` names the arrays over pixels; `row` is its `metadata`, `params` and
    `headers` are by name.
    """

    file: SourceFile
    n_pix: int
    grid: bytes
    limits: tuple[float, float]
    wavelength_unit: str
    flux_unit: str
    medium: str
    method: str
    present: tuple[str, ...]
    row: dict[str, Any] = field(repr=False)
    params: dict[str, float] = field(repr=False)
    headers: dict[str, str] = field(repr=False)


@dataclass(frozen=True)
class Skipped:
    """A file that is not in the data set, and why."""

    path: Path
    reason: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.advice}"


def default_units(config: SpectraConfig) -> DefaultUnits:
    """The units of files that do not say."""
    return DefaultUnits(config.wavelength_unit, config.flux_unit)


@cache
def _projection(exclude: tuple[str, ...]) -> HeaderProjection:
    return HeaderProjection(exclude)


def survey(path: Path, config: SpectraConfig) -> Surveyed | Skipped:
    """Look at one file."""
    try:
        file = SourceFile.of(path)
        with open_fits(path) as hdus:
            each: Any = hdus
            headers = [hdu.header for hdu in each]
            spectrum = read_spectrum(path, hdus, default_units(config))
        file.check_unchanged()
    except FitsError as error:
        return Skipped(error.path, error.reason, error.advice)
    cards = Cards(headers)
    finite = spectrum.wavelength[np.isfinite(spectrum.wavelength)]
    return Surveyed(
        file=file,
        n_pix=spectrum.wavelength.size,
        grid=hashlib.sha256(spectrum.wavelength.tobytes()).digest(),
        limits=(float(finite.min()), float(finite.max())),
        wavelength_unit=spectrum.wavelength_unit,
        flux_unit=spectrum.flux_unit,
        medium=spectrum.medium,
        method=spectrum.method,
        present=spectrum.present,
        row=metadata(path, cards, config, spectrum.flux_type),
        params=params(cards),
        headers=_projection(config.exclude_header).of(headers),
    )


def read_again(file: SourceFile, config: SpectraConfig) -> Spectrum:
    """The spectrum of a file that was looked at.

    Raises
    ------
    FitsError
        It was changed since.
    """
    with open_fits(file.path, checksum=False) as hdus:
        spectrum = read_spectrum(file.path, hdus, default_units(config))
    file.check_unchanged()
    return spectrum
