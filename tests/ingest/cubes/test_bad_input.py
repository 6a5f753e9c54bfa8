"""Bad input is refused by name, with why and what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes import CubesConfig, discover, ingest_cube
from tests.ingest.cubes.images import MHZ, SHAPE, TIMES, header, name_of, night, truth, write
from tests.machine import SmallDisk

BAD = name_of(TIMES[2], 50)


def refused(directory: Path, words: str, file: str = BAD, **options) -> None:
    """The file is named, and nothing is left."""
    output = directory.parent / "out"
    config = CubesConfig(input_dir=directory, output_dir=output, **options)
    with pytest.raises(FitsError) as caught:
        ingest_cube(config)
    assert re.search(f"^{directory / file}: {words}", str(caught.value)), caught.value
    assert not (output / "in.zarr").exists()


def images(tmp_path: Path, **cards) -> Path:
    """Eight good images, and one with these cards."""
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    write(directory / BAD, truth(2, 2), header(50, **cards))
    return directory


def test_an_empty_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"the input directory '{tmp_path}' is empty; check the"):
        discover(tmp_path)


def test_a_directory_without_fits_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no images")
    with pytest.raises(ValueError, match=r"has 1 files, and the name of none ends with \.fits, "):
        discover(tmp_path)


def test_a_file_instead_of_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_text("")
    with pytest.raises(ValueError, match=r"a\.fits' is a file; check the path"):
        discover(tmp_path / "a.fits")


def test_an_image_of_another_grid_is_refused(tmp_path: Path) -> None:
    directory = images(tmp_path, CRVAL1=181.5)
    first = name_of(TIMES[0], 41)
    words = (
        r"its grid is 20 x 24 pixels around \(181\.5, 37\.25\) deg in steps of \(-0\.125, 0\.125\)"
        rf" deg, that of {re.escape(first)} is 20 x 24 pixels around \(180\.5, 37\.25\) deg .*: "
        r"CRVAL1 181\.5 and 180\.5; a cube has one grid; convert the files of each grid on their"
    )
    refused(directory, words)


def test_an_image_of_another_size_is_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    write(directory / BAD, truth(2, 2, (24, 32)), header(50, (24, 32)))
    refused(directory, r"its grid is 32 x 24 pixels .*NAXIS1 32 and 20; a cube has one grid")


def test_a_rounding_is_no_other_grid(tmp_path: Path) -> None:
    assert discover(images(tmp_path, CRVAL1=180.5 + 1e-12)).shape == (3, 3, 1, 20, 24)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX"}, "Unrecognized projection code"),
        ({"CTYPE2": "DEC--TAN"}, "Inconsistent projection types"),
        ({"CDELT1": 0.0}, "matrix is singular"),
        ({"RADESYS": "GALACTIC"}, "Could not determine celestial frame"),
        ({"CUNIT1": "furlong"}, "furlong"),
        ({"CUNIT1": "m"}, "m"),
    ],
)
def test_a_grid_that_has_no_place_in_the_sky(tmp_path: Path, cards, words: str) -> None:
    write(tmp_path / "in" / BAD, truth(2, 2), header(50, **cards))
    refused(tmp_path / "in", rf"nothing says where in the sky its pixels lie \(.*{words}.*; put it")


def test_a_grid_that_is_no_number(tmp_path: Path) -> None:
    write(tmp_path / "in" / BAD, truth(2, 2), header(50, CDELT1="-0.1 deg"))
    refused(tmp_path / "in", "CDELT1 is '-0.1 deg', not a number; put it right in a copy")


def test_an_image_without_pixels_is_refused(tmp_path: Path) -> None:
    head = header(50)
    head["NAXIS1"] = 0
    image = fits.PrimaryHDU(truth(2, 2)[np.newaxis, np.newaxis], head)
    image.header["NAXIS1"] = 0
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / BAD).write_bytes(image.header.tostring().encode())
    refused(tmp_path / "in", "its axis 1 has no pixels; move it out of the input directory")


def test_an_image_of_another_unit_is_refused(tmp_path: Path) -> None:
    refused(images(tmp_path, BUNIT="K"), "its unit is K, that of .* is Jy/beam; convert them on")


def test_an_image_of_another_polarization_is_refused(tmp_path: Path) -> None:
    refused(images(tmp_path, CRVAL4=4.0), "its polarization is V, that of .* is I; convert them")


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"BMAJ": 0.0}, "BMAJ is 0.0: a beam is finite and above 0 deg, and without it Jy/beam "),
        ({"BMIN": None}, "it has no BMIN: a beam is .*; put BMAJ and BMIN right in a copy, or mov"),
        ({"CRVAL4": 9.0}, "the STOKES axis says 9, which is no polarization"),
        ({"CTYPE1": "GLON-SIN", "CTYPE2": "GLAT-SIN"}, "CTYPE1 is 'GLON-SIN'; each axis has to be"),
    ],
)
def test_a_header_that_cannot_be_put_right(tmp_path: Path, cards, words: str) -> None:
    refused(images(tmp_path, **cards), words)


def test_a_truncated_file_before_anything_is_converted(tmp_path: Path) -> None:
    directory = images(tmp_path)
    size = (directory / BAD).stat().st_size
    os.truncate(directory / BAD, size - 2880)
    refused(directory, rf"it is truncated: {size - 2880} bytes of at least \d+; copy it again")


def test_a_truncated_gzip_file_is_refused(tmp_path: Path) -> None:
    directory, shape = tmp_path / "in", (128, 128)
    path = write(directory / BAD, truth(2, 2, shape), header(50, shape), kind="gzip")
    os.truncate(path, path.stat().st_size - 100)
    refused(directory, "its gzip compression is damaged", path.name)


def test_a_file_that_is_not_fits(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    (directory / BAD).write_bytes(b"\x89PNG" * 1000)
    refused(directory, "it is not FITS, or damaged .*; copy it again")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    (directory / BAD).write_bytes(b"")
    refused(directory, "it is not FITS, or damaged")


def test_what_only_looks_like_a_file_is_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    os.mkfifo(directory / BAD)
    refused(directory, "it is no regular file; move it away")
    (directory / BAD).unlink()
    (directory / BAD).symlink_to("elsewhere.fits")
    refused(directory, r"it is a link to nothing \(elsewhere.fits\)")


def test_a_table_instead_of_an_image_is_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    column = fits.Column("flux", "E", array=np.zeros(3))
    fits.BinTableHDU.from_columns([column]).writeto(directory / BAD)
    refused(directory, "it has no image, only tables or headers; move it out of the input dir")


def test_several_channels_are_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(2, 2)])
    write(directory / BAD, np.stack([truth(2, 2)] * 2)[np.newaxis], header(50))
    refused(directory, "it has 2 channels along FREQ; split it into files of one channel each")


def test_an_image_of_which_nothing_says_when_is_refused(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    write(directory / "sky.fits", truth(2, 2), header(60, DATE_OBS=None))
    refused(directory, "nothing says when it was taken: neither YYYYMMDD_HHMMSS in .*", "sky.fits")


def test_a_date_that_is_none(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    write(directory / "sky.fits", truth(2, 2), header(60, DATE_OBS="24/05/24"))
    refused(directory, "DATE-OBS '24/05/24' is no time as FITS writes it", "sky.fits")


def test_a_time_of_another_scale_than_astropy_knows(tmp_path: Path) -> None:
    directory = tmp_path / "in"
    write(directory / "sky.fits", truth(0, 0), header(41, TIMESYS="LOCAL"))
    refused(directory, "TIMESYS is 'LOCAL', which is not converted to UTC", "sky.fits")


def test_a_duplicate_where_that_is_not_wanted(tmp_path: Path) -> None:
    directory = images(tmp_path)
    again = name_of(TIMES[2], 50, "_fixed")
    write(directory / again, truth(2, 2), header(50))
    words = rf"it has the time \(MJD 60454\.208785\) and frequency \(50 MHz\) of {BAD}; move one"
    refused(directory, words, again, on_duplicate="fail")


def test_a_header_that_has_to_be_corrected_and_is_not(tmp_path: Path) -> None:
    directory = tmp_path / "in"
    write(directory / BAD, truth(2, 2), header(50), ndim=2)
    words = "its header has to be corrected: it has 2 axes of 4; leave out --skip-header-fixing"
    refused(directory, words, skip_header_fixing=True)
    words = r"it has no corrected copy .*; run `bluesky-zarr ingest fix-headers`, or leave out"
    refused(directory, words, skip_header_fixing=True, fixed_dir=tmp_path / "fixed")


def test_a_scheduler_that_does_not_answer_is_named(tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("distributed", reason="needs bluesky-zarr[ingest], which brings Dask")
    monkeypatch.setattr("bluesky_zarr.ingest.cubes._cluster._SCHEDULER_SECONDS", 0.5)
    config = CubesConfig(
        input_dir=night(tmp_path / "in"),
        output_dir=tmp_path / "out",
        scheduler="tcp://127.0.0.1:9",
    )
    words = r"the Dask scheduler 'tcp://127\.0\.0\.1:9' does not answer .*; start it with `dask sch"
    with pytest.raises(ValueError, match=words):
        ingest_cube(config)
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rebuild": True, "resume": True}, "--rebuild and --resume are both given; choose one"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "--workers and --scheduler are both given"),
        ({"name": "a/b"}, "the name 'a/b' is a path; give the directory as output_dir"),
        ({"codec": "zip"}, "'zip' is not a codec; choose one of"),
        ({"chunk_lm": -1}, "greater than or equal to 0"),
        ({"nmae": "cube"}, "Extra inputs are not permitted"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        CubesConfig(input_dir=Path("in"), output_dir=Path("out"), **options)


def test_on_a_full_disk_what_was_done_stays_and_is_gone_on_with(
    tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    shape = (512, 512)
    directory = night(tmp_path / "in", TIMES, MHZ, shape)
    disk = small_disk("size=12M")
    config = CubesConfig(input_dir=directory, output_dir=disk.path, codec="none")
    with pytest.raises(OSError, match="No space left on device"):
        ingest_cube(config)
    assert sorted(os.listdir(disk.path)) == ["in.zarr.state.json", "in.zarr.tmp"]
    disk.remount("size=40M")
    made = ingest_cube(config.model_copy(update={"resume": True}))
    assert made.files == 9


def test_times_and_frequencies_come_from_headers_where_names_say_nothing(tmp_path: Path) -> None:
    for n, cards in enumerate(
        [
            {"DATE_OBS": "2024-05-24T12:00:00.0"},
            {"DATE_OBS": "2024-05-24", "TIME_OBS": "12:00:10"},
            {"DATE_OBS": "2024-05-24T12:00:57", "TIMESYS": "TAI"},
        ]
    ):
        frequency = {"RESTFREQ": None, "RESTFRQ": None, "CRVAL3": 41.0, "CUNIT3": "MHz"}
        write(tmp_path / f"{n}.fits", truth(0, 0), header(41, SHAPE, **frequency, **cards))
    found = discover(tmp_path)
    seconds = (found.times - 60454.5) * 86400
    np.testing.assert_allclose(seconds, [0, 10, 20], atol=1e-5)
    assert found.frequencies.tolist() == [41e6]
