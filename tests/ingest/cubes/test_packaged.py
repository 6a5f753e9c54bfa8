"""astropy's own files, of real instruments and damaged ones, as images of a cube: read as astropy
reads them, or refused with a reason.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from bluesky_zarr.ingest import FitsError
from bluesky_zarr.ingest._files import is_fits
from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube
from bluesky_zarr.ingest.cubes._image import read_image
from tests.ingest.test_fits import PACKAGED

pytestmark = pytest.mark.filterwarnings("ignore")

REASONS = (
    "it has no image, only tables or headers",
    "CTYPE1 is ",
    "cut off or damaged",
    "it was changed since it was written: Checksum verification failed",
    "it is compressed by `compress`",
    "its image has no data",
    "it is not FITS, or damaged",
    "each axis has to be",
    "it has no BMAJ",
    "nothing says when it was taken",
    "nothing says at which frequency",
    "is no time as FITS writes it",
)


def image_of(path: Path) -> np.ndarray | None:
    """The first image, as astropy has it."""
    with fits.open(path, memmap=False) as hdus:
        hdu: Any
        for hdu in hdus:
            if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2:
                return hdu.data
    return None


def made_or_refused(function: Callable[[], Any]) -> Any:
    """What a call gives, or the error by which it names a file."""
    try:
        return function()
    except FitsError as error:
        return error


def check_refused(error: FitsError, path: Path) -> None:
    assert error.path == path
    assert any(reason in error.reason for reason in REASONS), error
    assert error.advice


@pytest.mark.parametrize("fix", [False, True])
@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.name)
def test_an_image_is_read_as_astropy_reads_it_or_refused(path: Path, fix: bool) -> None:
    found = made_or_refused(lambda: read_image(path, fix=fix))
    if isinstance(found, FitsError):
        check_refused(found, path)
    else:
        right = image_of(path)
        assert right is not None
        np.testing.assert_array_equal(found.data, right.astype("f4").reshape(found.data.shape))


def test_some_of_them_are_read() -> None:
    found = [made_or_refused(lambda p=path: read_image(p, fix=False).planes) for path in PACKAGED]
    assert sum(isinstance(planes, np.ndarray) and planes.size > 0 for planes in found) >= 5


@pytest.mark.parametrize(
    "path", [path for path in PACKAGED if is_fits(path.name)], ids=lambda path: path.name
)
def test_a_directory_of_one_is_converted_or_refused_by_name(path: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    shutil.copy(path, tmp_path / "in")
    config = CubesConfig(input_dir=tmp_path / "in", output_dir=tmp_path / "out")
    made = made_or_refused(lambda: ingest_cube(config))
    if isinstance(made, FitsError):
        check_refused(made, tmp_path / "in" / path.name)
        assert list((tmp_path / "out").iterdir()) == []
    else:
        assert made.files == 1
