"""The command line, in a process of its own: from files to a cube that is found and read."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from bluesky_zarr.ingest.cubes import CubesConfig
from bluesky_zarr.store import validate
from tests.ingest.cubes.images import MHZ, TIMES, content, header, name_of, night, truth, write

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-c", "from bluesky_zarr.cli import app; app()", "ingest"]


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join(filter(None, [f"{ROOT}/src", os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "COLUMNS": "100", **more}


def run(*arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment(**more))


def end_to_end(tmp_path: Path, times: int, frequencies: int, shape: tuple[int, int]) -> None:
    from bluesky_zarr.catalog import announce, serve

    steps = [f"20240524_05{n:02}00" for n in range(times)]
    mhz = [27 + 5 * n for n in range(frequencies)]
    night(tmp_path / "in", steps, mhz, shape)
    done = run("cubes", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    cube = tmp_path / "out" / "in.zarr"
    assert done.stdout == (
        f"{cube}: {times * frequencies} images, {times} time steps x {frequencies} subbands of "
        f"{shape[1]} x {shape[0]} pixels\n"
    )
    assert validate(cube, deep=True)
    sky = zarr.open_array(str(cube), path="SKY", mode="r")
    for t in range(times):
        for f in range(frequencies):
            np.testing.assert_array_equal(np.asarray(sky[t, f, 0]).T, truth(t, f, shape))
    with serve(tmp_path / "catalog", readable_storage=tmp_path) as server:
        client = server.client()
        uid = announce(cube, client)
        start = client[uid].metadata["start"]
        assert (start["plan_name"], start["kind"]) == ("ingest", "cube")
        assert start["instrument"] == "LWA-352"
        assert (start["frequency_min"], start["frequency_max"]) == (27e6, mhz[-1] * 1e6)
        assert start["counts"]["image"] == times * frequencies
        stored = client[uid]["primary"]["SKY"]
        assert stored.shape == (times, frequencies, 1, shape[1], shape[0])
        read = np.asarray(stored[times - 1, 1])
        np.testing.assert_array_equal(read[0].T, truth(times - 1, 1, shape))


def test_from_files_to_the_catalog(tmp_path: Path) -> None:
    end_to_end(tmp_path, 3, 4, (96, 128))


@pytest.mark.slow
def test_12_subbands_of_10_times_of_1024_x_1024(tmp_path: Path) -> None:
    end_to_end(tmp_path, 10, 12, (1024, 1024))


def test_every_option_is_also_read_from_the_environment(tmp_path: Path) -> None:
    night(tmp_path / "in", TIMES[:1], MHZ[:2])
    done = run(
        "cubes",
        BLUESKY_ZARR_CUBES_INPUT_DIR=str(tmp_path / "in"),
        BLUESKY_ZARR_CUBES_OUTPUT_DIR=str(tmp_path / "out"),
        BLUESKY_ZARR_CUBES_NAME="mine",
        BLUESKY_ZARR_CUBES_CHUNK_LM="8",
    )
    assert done.returncode == 0, done.stderr
    array = zarr.open_array(str(tmp_path / "out" / "mine.zarr"), path="SKY", mode="r")
    assert array.chunks[3:] == (8, 8)


def test_no_option_is_left_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "input_dir": "/in", "output_dir": "/out", "name": "mine", "fixed_dir": "/fixed",
        "chunk_lm": "8", "codec": "none", "rebuild": "true", "skip_header_fixing": "true",
        "on_duplicate": "fail", "workers": "3", "prefect": "true", "log_level": "INFO",
        "tiled": "http://tiled",
    }  # fmt: skip
    others = {"resume": "true", "scheduler": "tcp://head:8786"}  # these exclude some
    assert {*said, *others} == set(CubesConfig.model_fields)
    for settings in (said, {**others, "input_dir": "/in", "output_dir": "/out"}):
        with monkeypatch.context() as environ:
            for name, text in settings.items():
                environ.setenv(f"BLUESKY_ZARR_CUBES_{name.upper()}", text)
            config = CubesConfig()  # pyright: ignore[reportCallIssue] (all are set)
        for name, text in settings.items():
            assert str(getattr(config, name)).lower() == text.lower()


def test_output_that_exists_is_status_2_and_both_options(tmp_path: Path) -> None:
    night(tmp_path / "in", TIMES[:1], MHZ[:2])
    assert run("cubes", tmp_path / "in", tmp_path / "out").returncode == 0
    before = content(tmp_path / "out" / "in.zarr")
    done = run("cubes", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "--rebuild" in done.stderr
    assert "--resume" in done.stderr
    again = run("cubes", tmp_path / "in", tmp_path / "out", "--rebuild")
    assert again.returncode == 0, again.stderr
    assert content(tmp_path / "out" / "in.zarr") == before


@pytest.mark.parametrize(("answer", "status"), [("rebuild", 0), ("stop", 2)])
def test_in_a_terminal_it_asks(tmp_path: Path, answer: str, status: int) -> None:
    night(tmp_path / "in", TIMES[:1], MHZ[:2])
    assert run("cubes", tmp_path / "in", tmp_path / "out").returncode == 0
    command = [*COMMAND, "cubes", str(tmp_path / "in"), str(tmp_path / "out")]
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment(TERM="xterm")
    )
    os.close(theirs)
    os.write(ours, f"{answer}\n".encode())
    told = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        told += part
    os.close(ours)
    assert child.wait() == status, told
    assert b"resume, rebuild or stop?" in told


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("cubes", "nowhere", "out"), 2, "nowhere' is missing; check the path"),
        (("cubes", "in"), 2, "Error: OUTPUT_DIR is not given; see --help"),
        (("cubes", "in", "s3://bucket/cubes"), 2, "'s3:/bucket/cubes': it is a URI; give the path"),
        (("cubes", "in", "in/a_file"), 2, "the output directory "),
        (("cubes", "in", "out", "--chunk-lm", "-3"), 2, "--chunk-lm"),
        (("cubes", "in", "out", "--on-duplicate", "last"), 2, "--on-duplicate"),
        (
            ("cubes", "in", "out", "--rebuild", "--resume"),
            2,
            "Error: --rebuild and --resume are both given; choose",
        ),
        (("cubes", "bad", "out"), 1, "BMAJ is 0.0: a beam is finite and above 0 deg"),
        (("fix-headers", "bad", "out"), 1, "BMAJ is 0.0: a beam is finite and above 0 deg"),
        (("fix-headers", "nowhere", "out"), 2, "nowhere' is missing; check the path"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    tmp_path: Path, monkeypatch, arguments: tuple[str, ...], status: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    night(tmp_path / "in", TIMES[:1], MHZ[:1])
    write(tmp_path / "bad" / name_of(TIMES[0], 41), truth(0, 0), header(41, BMAJ=0.0))
    (tmp_path / "in" / "a_file").touch()
    done = run(*arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "out").glob("*")) if (tmp_path / "out").exists() else True


def test_a_missing_subband_and_a_duplicate_are_reported(tmp_path: Path) -> None:
    night(tmp_path / "in", leave_out=[(1, 2)])
    write(tmp_path / "in" / name_of(TIMES[0], 41, "_fixed"), truth(2, 2), header(41))
    done = run("cubes", tmp_path / "in", tmp_path / "out")
    assert done.returncode == 0
    assert "8 images, 3 time steps x 3 subbands of 20 x 24 pixels, 1 missing (NaN)" in done.stdout
    assert "1 of 9 images are missing" in done.stderr
    assert "_fixed.fits is left out" in done.stderr
    quiet = run("cubes", tmp_path / "in", tmp_path / "quiet", "--log-level", "error")
    assert quiet.stderr == ""


def test_a_warning_has_a_line_of_its_own_above_the_progress_bar(tmp_path: Path) -> None:
    night(tmp_path / "in", leave_out=[(1, 2)])
    done = run("cubes", tmp_path / "in", tmp_path / "out", FORCE_COLOR="1")  # as in a terminal
    assert "headers" in done.stderr
    before = done.stderr.split("WARNING")[0]
    assert before.endswith(("\n", "\x1b[2K")), (
        f"the line of the warning begins with {before[-90:]!r}"
    )


def test_fix_headers_says_what_it_changed(tmp_path: Path) -> None:
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41, BUNIT=None))
    done = run("fix-headers", tmp_path / "in", tmp_path / "fixed")
    assert done.returncode == 0
    copy = tmp_path / "fixed" / name_of(TIMES[0], 41, "_fixed")
    assert done.stdout == f"{copy}: BUNIT set to Jy/beam\n"


def test_fix_headers_knows_no_resume(tmp_path: Path) -> None:
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41))
    (tmp_path / "fixed").touch()
    done = run("fix-headers", tmp_path / "in", tmp_path / "fixed" / "deeper")
    assert done.returncode == 1
    assert "/fixed/deeper); the copies that were written stay" in done.stderr


@pytest.mark.parametrize("command", ["cubes", "fix-headers"])
def test_help_is_for_newcomers(command: str) -> None:
    done = run(command, "--help")
    assert done.returncode == 0
    assert "INPUT_DIR" in done.stdout
