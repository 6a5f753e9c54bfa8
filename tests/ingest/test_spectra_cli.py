"""`bluesky-zarr ingest spectra`, from files to a published data set, in a process of its own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from astropy.io import fits
from typer.testing import CliRunner

from bluesky_zarr.ingest._cli import make_app
from bluesky_zarr.store import validate
from tests.ingest import files
from tests.ingest.conftest import COMMAND
from tests.machine import SmallDisk

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def write_archive(directory: Path, count: int, n_pix: int) -> None:
    directory.mkdir()
    for n in range(count):
        files.eso(
            directory / f"s{n:04}.fits",
            wavelength=files.wavelength_of(n_pix, step=0.01),
            flux=(n + np.linspace(1, 2, n_pix)).astype("f4"),
            error=False,
        )


def check_against_astropy(store: Path, archive: Path) -> None:
    root: Any = zarr.open_group(store, mode="r")
    flux = root["signal/flux_raw"][...]
    for row, name in enumerate(root["metadata/file_name"][...]):
        with fits.open(archive / name) as hdus:
            np.testing.assert_array_equal(flux[row], hdus[1].data["FLUX"][0])
            if row == 0:
                np.testing.assert_array_equal(
                    root["signal/wavelength"][...], hdus[1].data["WAVE"][0]
                )
    assert validate(store, deep=True)


def left(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if "zarr" in name)


@pytest.mark.parametrize(("count", "n_pix"), [(100, 5000), (30, 60_000)])
def test_files_become_a_data_set_with_their_values(
    bluesky_zarr: Run, tmp_path: Path, count: int, n_pix: int
) -> None:
    write_archive(tmp_path / "in", count, n_pix)
    result = bluesky_zarr("ingest", "spectra", tmp_path / "in", tmp_path / "out.zarr")
    assert result.returncode == 0, result.stderr
    assert f"{count} spectra of {n_pix} pixels" in result.stdout
    check_against_astropy(tmp_path / "out.zarr", tmp_path / "in")
    assert bluesky_zarr("validate", tmp_path / "out.zarr", "--deep").returncode == 0
    assert left(tmp_path) == ["out.zarr"]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "n_pix"), [(1000, 5000), (300, 60_000)])
@pytest.mark.parametrize("workers", [1, 2])
def test_end_to_end_at_full_size(
    bluesky_zarr: Run, tmp_path: Path, count: int, n_pix: int, workers: int
) -> None:
    write_archive(tmp_path / "in", count, n_pix)
    result = bluesky_zarr(
        "ingest", "spectra", tmp_path / "in", tmp_path / "out.zarr", "--workers", workers
    )
    assert result.returncode == 0, result.stderr
    check_against_astropy(tmp_path / "out.zarr", tmp_path / "in")
    assert left(tmp_path) == ["out.zarr"]


def test_files_left_out_are_named_and_the_rest_is_published(
    bluesky_zarr: Run, tmp_path: Path
) -> None:
    files.eso(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(b"no")
    arguments = ("ingest", "spectra", f"{tmp_path}/*.fits", tmp_path / "x.zarr")
    result = bluesky_zarr(*arguments)
    assert result.returncode == 0
    assert f"skipped {tmp_path}/b.fits: it is not a FITS file" in result.stderr
    assert "1 spectra of 50 pixels, 1 files left out" in result.stdout


def test_exit_status_1_where_it_failed_and_nothing_is_left(
    bluesky_zarr: Run, tmp_path: Path
) -> None:
    files.eso(tmp_path / "a.fits")
    (tmp_path / "b.fits").write_bytes(b"no")
    arguments = ("ingest", "spectra", f"{tmp_path}/*.fits", tmp_path / "x.zarr")
    # an option, and the same from the environment
    for result in (
        bluesky_zarr(*arguments, "--on-error", "fail"),
        bluesky_zarr(*arguments, BLUESKY_ZARR_INGEST_ON_ERROR="fail"),
    ):
        assert result.returncode == 1
        assert f"Error: {tmp_path}/b.fits: it is not a FITS file" in result.stderr
        assert left(tmp_path) == []


def test_exit_status_1_where_the_data_set_fails_its_validation(tmp_path: Path) -> None:
    for n in range(3):
        files.eso(tmp_path / f"{n}.fits")
    # A file with a dead spectrum would have been left out: it is the data set that is damaged.
    script = (
        "import zarr\n"
        "from bluesky_zarr.ingest.spectra import _ingest\n"
        "from bluesky_zarr.cli import app\n"
        "write = _ingest._write\n"
        "def write_and_break(store, *arguments):\n"
        "    write(store, *arguments)\n"
        "    zarr.open_array(store, path='signal/flux_raw', mode='r+')[1] = 0\n"
        "_ingest._write = write_and_break\n"
        "app(prog_name='bluesky-zarr')\n"
    )
    arguments = ["ingest", "spectra", str(tmp_path), str(tmp_path / "x.zarr")]
    command = [sys.executable, "-c", script, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    words = " ".join(result.stderr.split())
    assert "x.zarr.tmp' is not published, as it is not whole" in words
    assert "signal/flux_raw row 1 0 pixels are NaN and 50 are 0, of 50" in words
    assert "Traceback" not in words
    assert left(tmp_path) == []


def test_on_a_full_disk_it_says_so_and_leaves_nothing(
    bluesky_zarr: Run, tmp_path: Path, small_disk: Callable[[str], SmallDisk]
) -> None:
    for n in range(8):
        files.eso(tmp_path / f"{n}.fits", flux=files.flux_of(n, 100_000), error=False)
    disk = small_disk("size=2M")
    arguments = ("ingest", "spectra", f"{tmp_path}/*.fits", disk.path / "x.zarr")
    result = bluesky_zarr(*arguments)
    assert result.returncode == 1
    words = " ".join(result.stderr.split())
    assert "Error: No space left on device (" in words
    assert "nothing is left of the data set" in words
    assert "Traceback" not in words
    assert os.listdir(disk.path) == []
    disk.remount("size=40M")
    assert bluesky_zarr(*arguments).returncode == 0
    assert validate(disk.path / "x.zarr", deep=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{0}/nothing", "{0}/x.zarr"], "no file or directory '{0}/nothing'; check the path"),
        (["{0}/empty", "{0}/x.zarr"], "no FITS file in the directory '{0}/empty"),
        (["{0}/*.gz", "{0}/x.zarr"], "no file matches '{0}/*.gz'; check the pattern"),
        (["{0}/a.fits", "{0}/there.zarr"], "/there.zarr' exists and is not over"),
        (["{0}/a.fits", "{0}/a.fits"], "does not end with .zarr; give the data set's path last"),
        (["{0}/a.fits", "{0}/x.zarr", "--on-error", "ask"], "--on-error 'ask': Input should"),
        (["{0}/a.fits", "{0}/x.zarr", "--workers", "0"], "--workers 0: Input should be greater"),
        (["{0}/a.fits", "{0}/x.zarr", "--flux-unit", "ducks"], "'ducks' is no unit that astropy"),
        (["{0}/a.fits", "{0}/x.zarr", "--wavelength-unit", "s"], "'s' is no unit of length; write"),
        (["{0}/a.fits", "s3://bucket/x.zarr"], "s3:// stores are not supported yet"),
        (["{0}/a.fits", "{0}/x.zarr", "--colour", "red"], "--colour"),
    ],
)  # fmt: skip
def test_exit_status_2_where_it_was_not_begun(
    bluesky_zarr: Run, tmp_path: Path, arguments: list[str], words: str
) -> None:
    files.eso(tmp_path / "a.fits")
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.zarr").mkdir()
    result = bluesky_zarr("ingest", "spectra", *(a.format(tmp_path) for a in arguments))
    assert result.returncode == 2
    assert words.format(tmp_path) in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert left(tmp_path) == ["there.zarr"]


@pytest.mark.parametrize("said", ["as an option", "in the environment"])
def test_a_catalog_that_does_not_answer_costs_no_data_set(tmp_path: Path, said: str) -> None:
    def nobody_there(path: Path, uri: str) -> str:
        raise ConnectionError("nobody answers")

    path, store = files.eso(tmp_path / "a.fits"), tmp_path / "x.zarr"
    arguments = ["spectra", str(path), str(store)]
    if said == "as an option":
        result = CliRunner().invoke(make_app(nobody_there), [*arguments, "--tiled", "http://tiled"])
    else:
        settings = {"BLUESKY_ZARR_INGEST_TILED": "http://tiled"}
        result = CliRunner().invoke(make_app(nobody_there), arguments, env=settings)
    assert result.exit_code == 1
    assert f"{store} is not in the catalog at http://tiled (ConnectionError: " in result.output
    assert f"use: bluesky-zarr ingest announce {store} http://tiled" in result.output
    assert validate(store)


def test_help_tells_a_newcomer_what_to_type(bluesky_zarr: Run) -> None:
    text = " ".join(bluesky_zarr("ingest", "spectra", "--help").stdout.split())
    for word in (
        "INPUT", "OUTPUT", "NAME.zarr", "--on-error skip|fail", "--workers", "--scratch DIR",
        "--flux-unit", "Example: bluesky-zarr ingest spectra", "BLUESKY_ZARR_INGEST_WORKERS=4",
        "Exit status: 0 published", "ESO", "SDSS", "IRAF",
    ):  # fmt: skip
        assert word in text


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_and_done_again(tmp_path: Path, seed: int) -> None:
    write_archive(tmp_path / "in", 20, 500)
    target = tmp_path / "out.zarr"
    arguments = ["ingest", "spectra", str(tmp_path / "in"), str(target)]
    arguments += ["--workers", "2"] * (seed % 2)
    process = subprocess.Popen([*COMMAND, *arguments], stderr=subprocess.DEVNULL)
    time.sleep(random.Random(seed).uniform(0.3, 4.0 if seed % 2 else 2.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not target.exists():  # or it was faster
        again = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=60)
        assert again.returncode == 0, again.stderr
    check_against_astropy(target, tmp_path / "in")
    assert left(tmp_path) == ["out.zarr"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_files(tmp_path: Path) -> None:
    """A chunk of 1024 spectra is read at a time; here there are one and three of them."""
    files.eso(tmp_path / "a.fits", flux=files.flux_of(1, 4000), error=False, checksum=False)
    script = (
        "import resource, sys\n"
        "from bluesky_zarr.ingest import ingest_spectra\n"
        "ingest_spectra([sys.argv[1]], sys.argv[2])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    peaks = []
    for count in (1024, 3072):
        directory = tmp_path / str(count)
        directory.mkdir()
        for n in range(count):
            os.link(tmp_path / "a.fits", directory / f"s{n:04}.fits")
        arguments = [sys.executable, "-c", script, str(directory), f"{directory}.zarr"]
        result = subprocess.run(arguments, capture_output=True, text=True, timeout=100, check=True)
        peaks.append(int(result.stdout))
    assert peaks[1] < 1.1 * peaks[0]
