"""xradio, which was written by others, reads the same images and finds the same cube."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray

from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube
from tests.ingest.cubes.images import MHZ, TIMES, header, name_of, night, truth, write

xradio = pytest.importorskip(
    "xradio.image",
    reason="an independent reader of radio images, to compare with: pip install 'xradio[zarr]'",
    exc_type=ImportError,
)

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def ours(directory: Path) -> xarray.Dataset:
    config = CubesConfig(input_dir=directory, output_dir=directory.parent / "out", chunk_lm=16)
    return xarray.open_zarr(ingest_cube(config).path)


def compare(found: xarray.Dataset, right: xarray.Dataset) -> None:
    """One image, as both have it: values to the last bit, coordinates to rounding."""
    assert found["SKY"].dims == right["SKY"].dims
    np.testing.assert_array_equal(found["SKY"], right["SKY"])
    assert found["SKY"].attrs["units"] == right["SKY"].attrs["units"]
    assert found["polarization"].to_numpy().tolist() == right["polarization"].to_numpy().tolist()
    np.testing.assert_array_equal(found["frequency"], right["frequency"])
    for name in ("l", "m"):
        np.testing.assert_allclose(found[name], right[name], rtol=1e-12, atol=1e-15)
        assert found[name].attrs["units"] == "rad"
    for name in ("right_ascension", "declination"):  # theirs are in rad
        there = np.degrees(right[name])
        np.testing.assert_allclose(found[name], there, rtol=0, atol=1e-10)
    beam = right["BEAM_FIT_PARAMS_SKY"]
    for ours, theirs in (("major", "major"), ("minor", "minor"), ("position_angle", "pa")):
        there = np.degrees(beam.sel(beam_params_label=theirs).to_numpy()[..., 0])
        np.testing.assert_allclose(found[f"beam_{ours}"], there, rtol=1e-12)


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CDELT1": 0.125},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"},
        {"CTYPE1": "RA---ZEA", "CTYPE2": "DEC--ZEA"},
        {"CRPIX1": -3.5, "CRPIX2": 40.25},
        {"CRVAL3": 0.041, "CUNIT3": "GHz", "CDELT3": 24e-6},
        {"CRVAL4": 4.0},
    ],
    ids=["SIN", "west", "TAN", "ZEA", "aside", "GHz", "V"],
)
def test_an_image_is_as_xradio_reads_it(tmp_path: Path, cards: Mapping[str, Any]) -> None:
    path = tmp_path / "in" / "sky.fits"
    write(path, truth(0, 0), header(41, **cards))
    right = xradio.open_image(str(path))
    found = ours(tmp_path / "in")
    compare(found, right)
    assert right["time"].attrs["scale"] == found["time"].attrs["scale"]
    # Microseconds, in which DATE-OBS is written, in days.
    np.testing.assert_allclose(found["time"], right["time"], rtol=0, atol=1e-6 / 86400)


def test_every_image_of_a_night_is_as_xradio_reads_it(tmp_path: Path) -> None:
    directory = night(tmp_path / "in")
    cube = ours(directory)
    for t, time in enumerate(TIMES):
        for f, mhz in enumerate(MHZ):
            there = xradio.open_image(str(directory / name_of(time, mhz)))
            compare(cube.isel(time=[t], frequency=[f]), there)
