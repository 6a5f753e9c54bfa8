"""An ingested data set is found and read in a catalog as an acquired one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray
from tiled.queries import Contains, Key
from typer.testing import CliRunner

from bluesky_zarr.catalog import TiledServer, announce, dataset, documents
from bluesky_zarr.cli import app
from bluesky_zarr.ingest import CubesConfig, ingest_cube, ingest_spectra
from bluesky_zarr.store import ZarrWriter
from tests.ingest import files
from tests.ingest.cubes import images

same = np.testing.assert_array_equal


@pytest.fixture
def spectra(store: Path, tmp_path: Path) -> Path:
    """A data set of 4 spectra on one grid."""
    for n in range(4):
        files.eso(
            tmp_path / f"{n}.fits",
            flux=files.flux_of(n, 30),
            header={"MJD-OBS": 57000.0 + n, "EXPTIME": 86400.0, "INSTRUME": "HARPS"},
        )
    return ingest_spectra([f"{tmp_path}/*.fits"], store).path


def test_it_is_read_as_any_run_is(server: TiledServer, spectra: Path) -> None:
    uid = announce(spectra, server.client())
    run = server.client()[uid]
    assert run.metadata["start"]["plan_name"] == "ingest"
    assert run.metadata["stop"]["exit_status"] == "success"
    stream = run["primary"]
    flux = np.stack([files.flux_of(n, 30) for n in range(4)])
    same(stream["flux_raw"].read(), flux)
    same(stream["flux_raw"][2, 3:5], flux[2, 3:5])
    read = stream.read()
    assert read["flux_raw"].dims == ("scan_spectrum", "pixel")
    same(read["wavelength"], files.wavelength_of(30))
    labelled = dataset(stream)
    assert labelled["flux_raw"].dims == ("spectrum", "pixel")
    same(labelled["flux_raw"], flux)
    same(dataset(stream, ["flux_raw"])["flux_raw"], flux)


def test_grids_of_their_own(server: TiledServer, store: Path, tmp_path: Path) -> None:
    for n in (0, 1):
        files.eso(tmp_path / f"{n}.fits", flux=files.flux_of(n, 30 + n))
    announce(ingest_spectra([f"{tmp_path}/*.fits"], store).path, server.client())
    stream = server.client().values().last()["primary"]
    assert dataset(stream)["wavelength"].shape == (2, 31)


def test_it_is_found_by_what_it_says_of_itself(server: TiledServer, spectra: Path) -> None:
    uid = announce(spectra, server.client())
    found = [
        Key("start.plan_name") == "ingest",
        Key("start.kind") == "spectra",
        Key("start.instrument") == "HARPS",
        Contains("start.instruments", "HARPS"),
        Key("start.mjd_start") == 57000.0,
        Key("start.mjd_end") == 57004.0,
        Key("start.frequency_min") > 7e14,
        Key("start.frequency_max") < 8e14,
        Key("start.counts.spectrum") == 4,
        Key("start.counts.pixel") == 30,
        Key("start.source.files") == 4,
        Key("start.store") == f"file://{spectra}",
    ]
    for query in found:
        assert uid in server.client().search(query), query
    for query in (Key("start.mjd_end") < 57000, Key("start.instrument") == "UVES"):
        assert uid not in server.client().search(query)


def test_a_cube_is_found_and_read_likewise(
    server: TiledServer, store: Path, tmp_path: Path
) -> None:
    directory = images.night(tmp_path / "in", leave_out=[(1, 2)])
    config = CubesConfig(input_dir=directory, output_dir=store.parent, name=store.stem, chunk_lm=16)
    made = ingest_cube(config)
    uid = announce(made.path, server.client())
    mjd = [60454.208553, 60454.208785]
    found = [
        Key("start.plan_name") == "ingest",
        Key("start.kind") == "cube",
        Key("start.instrument") == "LWA-352",
        Contains("start.instruments", "LWA-352"),
        Key("start.mjd_start") >= mjd[0],
        Key("start.mjd_end") <= mjd[1],
        Key("start.frequency_min") == 41e6,
        Key("start.frequency_max") == 50e6,
        Key("start.counts.time") == 3,
        Key("start.counts.image") == 8,
        Key("start.counts.missing") == 1,
        Key("start.source.telescope") == "OVRO-LWA",
        Key("start.source.directory") == str(directory),
        Key("start.store") == f"file://{made.path}",
    ]
    for query in found:
        assert uid in server.client().search(query), query
    assert uid not in server.client().search(Key("start.frequency_min") > 41e6)
    sky = dataset(server.client()[uid]["primary"])["SKY"]
    with xarray.open_zarr(made.path) as cube:
        assert sky.dims == cube["SKY"].dims
        same(sky, cube["SKY"])
    assert np.isnan(sky[1, 2]).all()
    same(sky[2, 1, 0].T, images.truth(2, 1))


def test_a_data_set_is_one_run(server: TiledServer, spectra: Path) -> None:
    uid = announce(spectra, server.client())
    with pytest.raises(
        ValueError, match=f"in the catalog already: read it there, as the run {uid}"
    ):
        announce(spectra, server.client())
    (start, *_), (again, *_) = ([doc for _, doc in documents(spectra)] for _ in "12")
    assert start == again


def test_the_store_of_a_run_is_refused(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    with pytest.raises(ValueError, match="no published data set of `bluesky-zarr ingest`"):
        list(documents(writer.path))


def test_from_the_command_line(
    server: TiledServer, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TILED_API_KEY", server.api_key)
    path = files.eso(tmp_path / "a.fits")
    run = CliRunner().invoke
    result = run(app, ["ingest", "spectra", str(path), str(store), "--tiled", server.uri])
    assert result.exit_code == 0, result.output
    (uid,) = server.client().search(Key("start.store") == f"file://{store}")
    assert f"run {uid} in the catalog" in result.output
    result = run(app, ["ingest", "announce", str(store), server.uri])
    assert result.exit_code == 1
    assert "in the catalog already" in result.output
