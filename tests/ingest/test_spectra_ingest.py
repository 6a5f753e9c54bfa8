"""Files become one data set that keeps schema 2.0, whole or not at all."""

from __future__ import annotations

import datetime
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr
from pyarrow import parquet

import bluesky_zarr as bz
from bluesky_zarr.ingest import FitsError, IngestError, SpectraConfig, ingest_spectra
from bluesky_zarr.ingest.spectra import _ingest
from bluesky_zarr.store import BatchStore, InvalidStoreError, validate
from tests.ingest import files
from tests.ingest.cubes.images import content
from tests.store.reading import zarr_python

same = np.testing.assert_array_equal


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A directory of 7 spectra on one grid."""
    directory = tmp_path / "archive"
    directory.mkdir()
    for n in range(7):
        files.eso(
            directory / f"s{n}.fits",
            flux=files.flux_of(n, 50),
            header={"OBJECT": f"HD {n}", "EXPTIME": 10.0 * n, "MJD-OBS": 57000.0 + n},
        )
    return directory


def arrays(path: Path) -> zarr.Group:
    return zarr.open_group(path, mode="r")


def values(path: Path, key: str) -> Any:
    return zarr_python(path, key)


def names(path: Path, key: str) -> list[str]:
    """Of the arrays in a group."""
    return sorted(zarr.open_group(path, path=key, mode="r").array_keys())


def beside(target: Path) -> list[str]:
    """What is left beside a target."""
    return sorted(name for name in os.listdir(target.parent) if name.startswith(target.stem))


def many(directory: Path, count: int, n_pix: int) -> list[np.ndarray]:
    """Spectra s0000, s0001, ..., of two files in turn; returns the two."""
    flux = [files.flux_of(n, n_pix) for n in (0, 1)]
    made = [
        files.eso(directory / f"{n}.fits", flux=each, error=False, checksum=False)
        for n, each in enumerate(flux)
    ]
    for n in range(count):
        os.link(made[n % 2], directory / f"s{n:04}.fits")
    return flux


# ------------------ what is in it


def test_a_data_set_of_one_grid(archive: Path, tmp_path: Path) -> None:
    made = ingest_spectra([archive], tmp_path / "uves.zarr")
    assert (made.n_spec, made.n_pix, made.skipped) == (7, 50, ())
    path = made.path
    same(values(path, "signal/wavelength"), files.wavelength_of(50))
    flux = np.stack([files.flux_of(n, 50) for n in range(7)])
    same(values(path, "signal/flux_raw"), flux)
    same(values(path, "signal/uncertainty_raw"), np.sqrt(np.abs(flux)))
    for name in ("continuum_model", "continuum_uncertainty"):
        assert np.isnan(values(path, f"continuum/{name}")).all()
    assert list(values(path, "continuum/method")) == ["none"] * 7
    assert names(path, "representations") == names(path, "params") == []
    assert list(values(path, "metadata/spec_id")) == [f"s{n}" for n in range(7)]
    assert list(values(path, "metadata/object_name")) == [f"HD {n}" for n in range(7)]
    same(values(path, "metadata/exptime"), 10.0 * np.arange(7))
    same(values(path, "metadata/mjdate"), 57000.0 + np.arange(7))
    same(values(path, "metadata/ra_deg"), np.full(7, 83.633))
    assert list(values(path, "metadata/h0_eso_tel_airm_start")) == ["1.234"] * 7
    assert "h0_eso_ins_sens1_val" not in names(path, "metadata")
    assert beside(path) == ["uves.zarr"]


def test_it_validates_and_opens_as_any_store_does(archive: Path, tmp_path: Path) -> None:
    path = ingest_spectra([archive], tmp_path / "uves.zarr").path
    assert validate(path, deep=True)
    signal = bz.open(path)["signal"]
    assert signal["flux_raw"].dims == ("spectrum", "pixel")
    assert signal["flux_raw"].attrs["units"] == "erg / (Angstrom s cm2)"
    assert xr.open_zarr(path, group="metadata")["exptime"].attrs["units"] == "s"


def test_the_root_says_where_it_is_from(archive: Path, tmp_path: Path) -> None:
    before = datetime.datetime.now(datetime.UTC)
    path = ingest_spectra([archive], tmp_path / "uves.zarr").path
    found: dict[str, Any] = dict(arrays(path).attrs)
    assert found["schema_version"] == "2.0"
    assert found["status"] == "complete"
    assert "bluesky-zarr" in found["ingest_pipeline"]
    created = datetime.datetime.fromisoformat(found["created_at"])
    assert created.utcoffset() == datetime.timedelta(0)
    assert abs((created - before).total_seconds()) < 120
    assert 7 <= len(found["git_commit"]) <= 12
    for n, name in enumerate(values(path, "metadata/file_name")):
        content = (archive / name).read_bytes()
        assert values(path, "metadata/source_bytes")[n] == len(content)
        assert values(path, "metadata/source_sha256")[n] == hashlib.sha256(content).hexdigest()
        assert values(path, "metadata/source_path")[n] == str(archive / name)
    assert found["ingest"]["counts"] == {"spectrum": 7, "pixel": 50}
    assert found["ingest"]["time_range"] == [57000.0, 57006.0 + 60 / 86400]
    assert found["ingest"]["instruments"] == ["UVES"]


def test_grids_of_their_own_are_kept_and_padded(tmp_path: Path) -> None:
    lengths = (30, 50, 41)
    for n, length in enumerate(lengths):
        files.eso(
            tmp_path / f"{n}.fits",
            flux=files.flux_of(n, length),
            wavelength=files.wavelength_of(length, start=4000.0 + n),
        )
    path = ingest_spectra([f"{tmp_path}/*.fits"], tmp_path / "x.zarr").path
    wavelength, flux = values(path, "signal/wavelength"), values(path, "signal/flux_raw")
    assert wavelength.shape == flux.shape == (3, 50)
    for n, length in enumerate(lengths):
        same(wavelength[n, :length], files.wavelength_of(length, start=4000.0 + n))
        same(flux[n, :length], files.flux_of(n, length))
        assert np.isnan(wavelength[n, length:]).all()
        assert np.isnan(flux[n, length:]).all()


def test_flavours_and_units_meet_in_one_data_set(tmp_path: Path) -> None:
    nanometres = files.wavelength_of(50) / 10
    unit = "1e-17 erg/(s cm2 Angstrom)"
    inputs = [
        files.sdss(tmp_path / "a.fits", n_pix=60),
        files.eso(tmp_path / "b.fits", wavelength=nanometres, units=("nm", unit)),
        files.iraf(tmp_path / "c.fits", BUNIT=unit),
    ]
    path = ingest_spectra(inputs, tmp_path / "x.zarr").path
    found = values(path, "signal/wavelength")
    assert arrays(path)["signal/wavelength"].attrs["units"] == "Angstrom"
    np.testing.assert_allclose(found[1, :50], files.wavelength_of(50), rtol=1e-15)
    same(found[2, :40], 5000 + 1.25 * np.arange(40))
    same(values(path, "signal/flux_raw")[0], files.flux_of(1, 60))
    ra = values(path, "metadata/ra_deg")
    np.testing.assert_allclose(ra, [146.714, 83.633, (18 + 36 / 60 + 56.3 / 3600) * 15])


def test_continuum_normalized_flux_and_parameters(tmp_path: Path) -> None:
    ones = np.ones(50, "f4")
    given = {"CONTINUUM": (2 * ones, None), "NORM_FLUX": (0.5 * ones, None)}
    inputs = [
        files.eso(tmp_path / "a.fits", columns=given, header={"TEFF": 5777.0, "FEH": -9999.0}),
        files.eso(tmp_path / "b.fits", header={"TEFF": -9999, "LOGG": 4.4, "FEH": 0.1}),
    ]
    path = ingest_spectra(inputs, tmp_path / "x.zarr", SpectraConfig(source_type="stacked")).path
    nothing = np.full(50, np.nan)
    same(values(path, "continuum/continuum_model"), [2 * ones, nothing])
    assert list(values(path, "continuum/method")) == ["column:CONTINUUM", "none"]
    same(values(path, "representations/normalized_flux"), [0.5 * ones, nothing])
    same(values(path, "representations/normalized_uncertainty"), [nothing, nothing])
    same(values(path, "params/teff"), [5777.0, np.nan])
    same(values(path, "params/feh"), [np.nan, 0.1])
    index = parquet.read_table(path / "index.parquet").to_pydict()
    assert list(index) == [
        "spec_id", "source_type", "teff", "logg", "feh", "instrument", "simulator", "snr",
    ]  # fmt: skip
    same(index["logg"], [np.nan, 4.4])
    assert index["source_type"] == ["stacked", "stacked"]
    assert index["spec_id"] == ["a", "b"]
    same(index["snr"], [88.5, 88.5])


def test_spectra_of_files_with_one_name_have_ids_of_their_own(tmp_path: Path) -> None:
    inputs = []
    for folder in ("x", "y", "z"):
        (tmp_path / folder).mkdir()
        inputs.append(files.eso(tmp_path / folder / "a.fits"))
    path = ingest_spectra(inputs, tmp_path / "x.zarr").path
    assert list(values(path, "metadata/spec_id")) == ["a", "a_2", "a_3"]


@pytest.mark.parametrize(
    ("n_spec", "n_pix", "chunks"),
    [(3, 40, (3, 40)), (3, 10_001, (3, 4096)), (1100, 20, (1024, 20)), (300, 10_001, (256, 4096))],
)
def test_chunks_and_codecs(tmp_path: Path, n_spec: int, n_pix: int, chunks: Any) -> None:
    flux = many(tmp_path, n_spec, n_pix)
    path = ingest_spectra([f"{tmp_path}/s*.fits"], tmp_path / "x.zarr").path
    array: Any = arrays(path)["signal/flux_raw"]
    assert array.chunks == chunks
    blosc, crc = array.compressors
    assert blosc.to_dict()["configuration"] == {
        "typesize": 4, "cname": "zstd", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0,
    }  # fmt: skip
    assert crc.to_dict()["name"] == "crc32c"
    found = array[...]
    for n in (0, 1, 2, n_spec - 1):
        same(found[n], flux[n % 2])


# ------------------ files that cannot be used


def test_files_that_cannot_be_used_are_left_out_with_their_reason(
    archive: Path, tmp_path: Path
) -> None:
    whole = (archive / "s1.fits").read_bytes()
    (archive / "s1.fits").write_bytes(whole[: len(whole) // 2])
    files.eso(archive / "dark.fits", flux=np.zeros(50, "f4"))
    made = ingest_spectra([archive], tmp_path / "x.zarr")
    assert list(values(made.path, "metadata/spec_id")) == ["s0", "s2", "s3", "s4", "s5", "s6"]
    dark, cut = made.skipped
    assert str(dark).startswith(f"{archive}/dark.fits: its flux is NaN or 0 in each of its 50 pix")
    assert str(cut).startswith(f"{archive}/s1.fits: it is cut off or damaged")
    said = dict(arrays(made.path).attrs)["skipped"]
    assert [file["path"] for file in said] == [str(dark.path), str(cut.path)]


@pytest.mark.parametrize(
    ("units", "words"),
    [
        (("angstrom", "Jy"), r"its flux is in Jy, that of .*/s0.fits in erg / \(Angstrom s cm2\)"),
        (
            ("furlong", files.FLUX_UNIT),
            r"its wavelengths are in furlong, those of .*/s0.fits in Angstrom",
        ),
    ],
)
def test_units_that_do_not_fit_to_the_first_are_fatal(
    archive: Path, tmp_path: Path, units: Any, words: str
) -> None:
    # Left out, one odd file at the front would leave out all the others.
    files.eso(archive / "z.fits", units=units)
    with pytest.raises(FitsError, match=f"z.fits: {words}; ingest it into a data set of its own"):
        ingest_spectra([archive], tmp_path / "x.zarr")
    assert beside(tmp_path / "x.zarr") == []


def test_air_and_vacuum_do_not_mix(tmp_path: Path) -> None:
    inputs = [
        files.iraf(tmp_path / "a.fits", CTYPE1="AWAV"),
        files.iraf(tmp_path / "b.fits", CTYPE1="WAVE"),
    ]
    with pytest.raises(FitsError, match=r"b.fits: its wavelengths are those in vacuum, .*a.fits"):
        ingest_spectra(inputs, tmp_path / "x.zarr")
    made = ingest_spectra(inputs[:1], tmp_path / "x.zarr")
    assert arrays(made.path)["signal/wavelength"].attrs["medium"] == "air"


def test_asked_to_one_bad_file_is_fatal_and_nothing_is_left(archive: Path, tmp_path: Path) -> None:
    (archive / "s3.fits").write_bytes(b"nothing")
    with pytest.raises(FitsError, match=r"s3.fits: .*not a FITS file"):
        ingest_spectra([archive], tmp_path / "x.zarr", SpectraConfig(on_error="fail"))
    assert beside(tmp_path / "x.zarr") == []


def test_no_file_that_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_bytes(b"nothing")
    with pytest.raises(IngestError, match=r"none of 1 files can be used:\n.*a.fits: .*not a FITS"):
        ingest_spectra([tmp_path / "a.fits"], tmp_path / "x.zarr")
    assert beside(tmp_path / "x.zarr") == []


def test_a_file_that_changes_meanwhile_is_fatal(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_columns = _ingest.write_columns

    def change(*args: Any) -> None:
        write_columns(*args)
        files.eso(archive / "new.fits", flux=files.flux_of(99, 60))
        os.replace(archive / "new.fits", archive / "s2.fits")

    monkeypatch.setattr(_ingest, "write_columns", change)
    with pytest.raises(FitsError, match=r"s2.fits: it was changed while it was ingested"):
        ingest_spectra([archive], tmp_path / "x.zarr")
    assert beside(tmp_path / "x.zarr") == []


def test_a_flux_that_float32_does_not_hold_is_no_infinity(tmp_path: Path) -> None:
    path = files.eso(tmp_path / "a.fits", flux=np.full(50, 1e39), error=False)
    with pytest.raises(IngestError, match=r"1e\+39, more than float32 holds"):
        ingest_spectra([path], tmp_path / "x.zarr")


# ------------------ targets


def test_a_target_that_exists_is_left_alone(archive: Path, tmp_path: Path) -> None:
    path = ingest_spectra([archive], tmp_path / "x.zarr").path
    before = content(path)
    with pytest.raises(FileExistsError, match=r"x.zarr' exists and is not overwritten"):
        ingest_spectra([archive], path)
    assert content(path) == before
    with pytest.raises(ValueError, match=r"'.*s0.fits' does not end with .zarr; give the data set"):
        ingest_spectra([archive / "s1.fits"], archive / "s0.fits")


def test_what_a_dead_process_left_is_replaced(archive: Path, tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\n"
        "from bluesky_zarr.ingest import ingest_spectra\n"
        "def die(what, done, of):\n"
        "    if what == 'writing' and done == of: os.kill(os.getpid(), signal.SIGKILL)\n"
        "ingest_spectra([sys.argv[1]], sys.argv[2], progress=die)\n"
    )
    target = tmp_path / "x.zarr"
    subprocess.run([sys.executable, "-c", script, str(archive), str(target)], timeout=60)
    assert beside(target) == ["x.zarr.tmp"]
    assert (tmp_path / "x.zarr.tmp/signal/flux_raw/c/0/0").exists()
    path = ingest_spectra([archive / "s0.fits"], target).path
    assert values(path, "signal/flux_raw").shape == (1, 50)
    assert beside(target) == ["x.zarr"]


def test_a_second_writer_is_told_who_the_first_is(archive: Path, tmp_path: Path) -> None:
    told: list[str] = []

    def another(what: str, done: int, of: int) -> None:
        if what == "writing" and not told:
            with pytest.raises(BlockingIOError) as caught:
                ingest_spectra([archive], tmp_path / "x.zarr")
            told.append(str(caught.value))

    ingest_spectra([archive], tmp_path / "x.zarr", progress=another)
    assert f"is being written by process {os.getpid()} " in told[0]
    assert beside(tmp_path / "x.zarr") == ["x.zarr"]


def test_a_writer_that_was_faster_loses_nothing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.zarr.tmp").mkdir()  # what a dead process left
    discard, others = BatchStore.discard, []

    def discard_and_be_slow(store: BatchStore) -> None:
        discard(store)
        if not others:
            others.append(BatchStore(tmp_path / "x.zarr"))

    monkeypatch.setattr(BatchStore, "discard", discard_and_be_slow)
    with pytest.raises(BlockingIOError, match="is being written by"):
        ingest_spectra([archive], tmp_path / "x.zarr")
    assert (others[0].path / "zarr.json").exists()


def test_a_tmp_directory_of_somebody_elses_is_not_deleted(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zarr.tmp").mkdir()
    (tmp_path / "x.zarr.tmp" / "thesis.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match=r"other things in it \(thesis.txt\)"):
        ingest_spectra([archive], tmp_path / "x.zarr")
    assert (tmp_path / "x.zarr.tmp" / "thesis.txt").read_text() == "years of work"


def test_a_data_set_that_fails_its_validation_is_deleted(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_ingest, "_write", lambda *_: None)
    with pytest.raises(InvalidStoreError) as caught:
        ingest_spectra([archive], tmp_path / "x.zarr")
    problem = caught.value.report.problems[0]
    assert problem.where == "signal/flux_raw row 0"
    assert problem.what == "50 pixels are NaN and 0 are 0, of 50"
    assert beside(tmp_path / "x.zarr") == []


def test_scratch_gives_the_same_data_set_and_is_left_empty(archive: Path, tmp_path: Path) -> None:
    plain = ingest_spectra([archive], tmp_path / "x.zarr").path
    scratch = tmp_path / "scratch"
    config = SpectraConfig(scratch=scratch)
    path = ingest_spectra([archive], tmp_path / "y.zarr", config).path
    assert content(path) == content(plain)
    assert os.listdir(scratch) == []
    assert beside(path) == ["y.zarr"]
    assert validate(path, deep=True)


def test_workers_write_the_same_bytes(tmp_path: Path) -> None:
    many(tmp_path, 1500, 20)
    inputs = [f"{tmp_path}/s*.fits"]
    alone = ingest_spectra(inputs, tmp_path / "x.zarr").path
    together = ingest_spectra(inputs, tmp_path / "y.zarr", SpectraConfig(workers=2)).path
    assert content(alone) == content(together)
    assert sorted(os.listdir(alone / "signal/flux_raw/c")) == ["0", "1"]


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BLUESKY_ZARR_INGEST_WORKERS", "3")
    config = SpectraConfig(on_error="fail")
    assert (config.workers, config.exclude_header, config.tiled) == (3, (), "")
    for text in ('["ESO DET *", "SITE*"]', "ESO DET *, SITE*"):
        monkeypatch.setenv("BLUESKY_ZARR_INGEST_EXCLUDE_HEADER", text)
        assert SpectraConfig().exclude_header == ("ESO DET *", "SITE*")
    with pytest.raises(ValueError, match="'bananas' is no unit that astropy knows; write for ex"):
        SpectraConfig(flux_unit="bananas")
    with pytest.raises(ValueError, match="colour"):
        SpectraConfig(colour="red")  # pyright: ignore[reportCallIssue] (wrong on purpose)
