"""specutils, which was written by others, reads the same files and finds the same spectra."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.ingest._fits import open_fits
from bluesky_zarr.ingest.spectra._flavours import DefaultUnits, read_spectrum
from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from tests.ingest import files

specutils = pytest.importorskip(
    "specutils", reason="an independent reader of spectra, to compare with: pip install specutils"
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def ours(path: Path) -> Spectrum:
    with open_fits(path) as hdus:
        return read_spectrum(path, hdus, DefaultUnits())


def theirs(path: Path, kind: str) -> Any:
    made = getattr(specutils, "Spectrum", None) or specutils.Spectrum1D
    return made.read(path, format=kind)


def compare(found: Spectrum, right: Any, rtol: float = 1e-12) -> None:
    wavelength = right.spectral_axis.to_value(found.wavelength_unit)
    np.testing.assert_allclose(found.wavelength, wavelength, rtol=rtol)
    np.testing.assert_array_equal(found.flux_raw, np.squeeze(right.flux.to_value(found.flux_unit)))


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CRPIX1": 20.5, "CDELT1": -1.25},
        {"CUNIT1": "nm", "CRVAL1": 500.0},
        {"CTYPE1": "WAVE", "CD1_1": 0.5, "CDELT1": None},
        {"CTYPE1": "WAVE-LOG"},
    ],
)
def test_a_1d_image_is_as_specutils_reads_it(tmp_path: Path, cards: dict[str, Any]) -> None:
    path = files.iraf(tmp_path / "a.fits", **{"CTYPE1": "WAVE", **cards})
    compare(ours(path), theirs(path, "wcs1d-fits"))


def test_a_row_per_pixel_of_sdss(tmp_path: Path) -> None:
    path = files.sdss(tmp_path / "spec-0001-51630-0001.fits")
    found, right = ours(path), theirs(path, "SDSS-III/IV spec")
    # It takes 10 ** loglam in float32.
    compare(found, right, rtol=1e-7)
    weights = right.uncertainty.array
    known = weights > 0
    assert found.uncertainty_raw is not None
    np.testing.assert_allclose(found.uncertainty_raw[known], weights[known] ** -0.5, rtol=1e-6)
    assert np.isnan(found.uncertainty_raw[~known]).all()
