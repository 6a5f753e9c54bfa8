"""Each rule of schema 2.0 is checked: a store that breaks just one of them is refused for that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
import zarr
from pyarrow import parquet
from typer.testing import CliRunner

from bluesky_zarr.cli import app
from bluesky_zarr.ingest import InvalidStoreError, ingest_spectra
from bluesky_zarr.ingest.spectra import _ingest, check_spectra, is_spectral
from bluesky_zarr.store import Report, ZarrWriter
from tests.ingest import files

N_SPEC, N_PIX = 6, 40


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("inputs")
    normalized = {"NORM_FLUX": (np.ones(N_PIX, "f4"), None)}
    for n in range(N_SPEC):
        files.eso(
            directory / f"s{n}.fits",
            flux=files.flux_of(n, N_PIX),
            columns=normalized,
            header={"TEFF": 5000.0 + n},
        )
    return directory


@pytest.fixture(scope="module")
def good(inputs: Path) -> Path:
    return ingest_spectra([inputs], inputs.parent / "good.zarr").path


@pytest.fixture
def store(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "copy.zarr"))


def check(store: Path) -> Report:
    report = Report(store, "validate")
    check_spectra(store, report)
    return report


def group(store: Path) -> zarr.Group:
    return zarr.open_group(store, mode="r+", use_consolidated=False)


def replace(store: Path, key: str, values: Any, **kwargs: Any) -> None:
    """Put other values, of another shape or type, in an array's place; its attributes stay."""
    root = group(store)
    old: Any = root[key]
    attributes = dict(old.attrs)
    kept = {"chunks": old.chunks, "compressors": old.compressors}
    if np.shape(values) != old.shape:
        kept = {}
    del root[key]
    made = root.create_array(
        key,
        data=values,
        dimension_names=[f"d{n}" for n in range(np.ndim(values))],
        **{**kept, **kwargs},
    )
    made.attrs.update(attributes)


def set_row(store: Path, key: str, row: int, value: Any) -> None:
    array: Any = group(store)[key]
    array[row] = value


def attribute(store: Path, key: str, name: str, value: Any) -> None:
    node: Any = group(store)[key] if key else group(store)
    attributes = dict(node.attrs)
    attributes[name] = value
    if value is None:
        del attributes[name]
    node.attrs.put(attributes)


def rewrite_index(store: Path, change: Callable[[pyarrow.Table], pyarrow.Table]) -> None:
    path = store / "index.parquet"
    parquet.write_table(change(parquet.read_table(path)), path)


def delete(store: Path, key: str) -> None:
    shutil.rmtree(store / key)


def flux(store: Path) -> np.ndarray:
    array: Any = group(store)["signal/flux_raw"]
    return array[...]


BREAKS: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "no group": (lambda s: delete(s, "params"), "params", "the group is missing"),
    "no empty group": (
        lambda s: delete(s, "representations"), "representations", "the group is missing",
    ),
    "a group is an array": (
        lambda s: (delete(s, "params"), group(s).create_array("params", data=np.ones(3))),
        "params", "it is an array, not a group",
    ),
    "no flux": (lambda s: delete(s, "signal/flux_raw"), "signal/flux_raw", "the array is missing"),
    "no uncertainty": (
        lambda s: delete(s, "signal/uncertainty_raw"), "signal/uncertainty_raw", "is missing",
    ),
    "no wavelength": (
        lambda s: delete(s, "signal/wavelength"), "signal/wavelength", "is missing",
    ),
    "no continuum": (
        lambda s: delete(s, "continuum/continuum_model"), "continuum/continuum_model", "is missing",
    ),
    "no method": (lambda s: delete(s, "continuum/method"), "continuum/method", "is missing"),
    "no metadata": (lambda s: delete(s, "metadata/snr"), "metadata/snr", "is missing"),
    "half of the normalized": (
        lambda s: delete(s, "representations/normalized_uncertainty"),
        "representations/normalized_uncertainty",
        "is missing, but representations/normalized_flux is there",
    ),
    "flux of one dim": (
        lambda s: replace(s, "signal/flux_raw", np.ones(9, "f4")),
        "signal/flux_raw", r"its shape is (9,), not (spectra, pixels)",
    ),
    "empty flux": (
        lambda s: replace(s, "signal/flux_raw", np.ones((0, N_PIX), "f4")),
        "signal/flux_raw", "its shape is (0, 40): it is empty",
    ),
    "flux of float64": (
        lambda s: replace(s, "signal/flux_raw", flux(s).astype("f8")),
        "signal/flux_raw", "its type is float64, not float32",
    ),
    "wavelength of another length": (
        lambda s: replace(s, "signal/wavelength", np.ones(N_PIX + 1)),
        "signal/wavelength", "its shape is (41,), neither (40,) nor (6, 40)",
    ),
    "uncertainty of another shape": (
        lambda s: replace(s, "signal/uncertainty_raw", np.ones((N_SPEC - 1, N_PIX), "f4")),
        "signal/uncertainty_raw", "its shape is (5, 40), that of signal/flux_raw is (6, 40)",
    ),
    "a parameter of another length": (
        lambda s: replace(s, "params/teff", np.ones(N_SPEC + 1)),
        "params/teff", "its shape is (7,), there are 6 spectra",
    ),
    "metadata of another length": (
        lambda s: replace(s, "metadata/snr", np.ones(N_SPEC - 1)),
        "metadata/snr", "its shape is (5,), there are 6 spectra",
    ),
    "a header field of another length": (
        lambda s: replace(s, "metadata/h0_object", np.array(["a", "b"], np.dtypes.StringDType())),
        "metadata/h0_object", "its shape is (2,), there are 6 spectra",
    ),
    "a parameter without NaN": (
        lambda s: replace(s, "params/teff", np.ones(N_SPEC, "i4")),
        "params/teff", "its type is int32, not a float with NaN",
    ),
    "a sentinel": (
        lambda s: set_row(s, "params/teff", 2, -9999),
        "params/teff row 2", "it is -9999.0, which stands for nothing",
    ),
    "text as numbers": (
        lambda s: replace(s, "metadata/gaia_id", np.arange(N_SPEC)),
        "metadata/gaia_id", "its type is int64, not text of any length",
    ),
    "a dead row of NaN": (
        lambda s: set_row(s, "signal/flux_raw", 4, np.nan),
        "signal/flux_raw row 4", "40 pixels are NaN and 0 are 0, of 40",
    ),
    "a dead row of zeros": (
        lambda s: set_row(s, "signal/flux_raw", 5, 0),
        "signal/flux_raw row 5", "0 pixels are NaN and 40 are 0, of 40",
    ),
    "a word that is none": (
        lambda s: set_row(s, "metadata/source_type", 3, "observe"),
        "metadata/source_type row 3", "it is 'observe'",
    ),
    "another word that is none": (
        lambda s: set_row(s, "metadata/flux_type", 0, "counts"),
        "metadata/flux_type row 0", "it is 'counts'",
    ),
    "no word for the continuum": (
        lambda s: set_row(s, "continuum/method", 1, ""), "continuum/method row 1", "it is ''",
    ),
    "no units": (
        lambda s: attribute(s, "signal/flux_raw", "units", None),
        "signal/flux_raw", "its attribute 'units' is None",
    ),
    "blank units": (
        lambda s: attribute(s, "signal/wavelength", "units", " "),
        "signal/wavelength", "its attribute 'units' is ' '",
    ),
    "no version": (
        lambda s: attribute(s, "", "schema_version", "1.0"),
        "root attributes", "schema_version is '1.0', not '2.0'",
    ),
    "no pipeline": (
        lambda s: attribute(s, "", "ingest_pipeline", None),
        "root attributes", "ingest_pipeline is None",
    ),
    "no commit": (
        lambda s: attribute(s, "", "git_commit", None), "root attributes", "git_commit is None",
    ),
    "no time": (
        lambda s: attribute(s, "", "created_at", "yesterday"),
        "root attributes", "created_at is 'yesterday', no time in UTC",
    ),
    "local time": (
        lambda s: attribute(s, "", "created_at", "2026-11-21T10:00:00+01:00"),
        "root attributes", "no time in UTC",
    ),
    "no index": (
        lambda s: (s / "index.parquet").unlink(), "index.parquet", "the file is missing",
    ),
    "an index that is none": (
        lambda s: (s / "index.parquet").write_bytes(b"PAR1"), "index.parquet", "no Parquet file",
    ),
    "a short index": (
        lambda s: rewrite_index(s, lambda table: table.slice(0, 4)),
        "index.parquet", "it has 4 rows, there are 6 spectra",
    ),
    "an index without a column": (
        lambda s: rewrite_index(s, lambda table: table.drop_columns(["snr"])),
        "index.parquet", "it has no column snr",
    ),
    "an index in another order": (
        lambda s: rewrite_index(s, lambda table: table.take([1, 0, 2, 3, 4, 5])),
        "index.parquet row 0", "spec_id is 's1', in metadata/spec_id it is 's0'",
    ),
    "other chunks": (
        lambda s: replace(s, "signal/flux_raw", flux(s), chunks=(2, N_PIX)),
        "signal/flux_raw", "its chunks are (2, 40), not (6, 40)",
    ),
    "another codec": (
        lambda s: replace(s, "signal/flux_raw", flux(s), compressors=None),
        "signal/flux_raw", "its codecs lack Blosc zstd with bitshuffle at a level of 5 to 7 and",
    ),
}  # fmt: skip


def test_a_good_store_passes(good: Path) -> None:
    report = check(good)
    assert report, str(report)
    assert "looked at 6 spectra of 40 pixels" in str(report)


@pytest.mark.parametrize("name", BREAKS)
def test_a_store_broken_in_one_way_is_refused_for_that(store: Path, name: str) -> None:
    breaking, where, what = BREAKS[name]
    breaking(store)
    problems = check(store).problems
    assert any(p.where == where and what in p.what and p.advice for p in problems), problems
    assert {p.where.partition(" row")[0] for p in problems} == {where.partition(" row")[0]}


@pytest.mark.parametrize(
    "name", ["a dead row of NaN", "no units", "a short index", "uncertainty of another shape"]
)
def test_an_ingest_that_made_such_a_store_publishes_nothing(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    breaking, where, what = BREAKS[name]
    write = _ingest._write

    def write_and_break(store: Path, *args: Any) -> None:
        write(store, *args)
        breaking(store)

    monkeypatch.setattr(_ingest, "_write", write_and_break)
    with pytest.raises(InvalidStoreError, match=r"is not published") as caught:
        ingest_spectra([inputs], tmp_path / "x.zarr")
    assert where in str(caught.value)
    assert what in str(caught.value)
    assert list(tmp_path.glob("x.zarr*")) == []


def test_every_row_is_looked_at_and_many_bad_ones_are_counted(tmp_path: Path) -> None:
    values = np.ones((2100, 4), "f4")
    values[1030:1060] = 0
    root = zarr.create_group(tmp_path / "x.zarr")
    root.create_array("signal/flux_raw", data=values, chunks=(1024, 4))
    problems = [p for p in check(tmp_path / "x.zarr").problems if "are 0, of 4" in p.what]
    assert [p.where for p in problems] == [f"signal/flux_raw row {n}" for n in range(1030, 1050)]
    assert any(p.what == "so are 10 more rows" for p in check(tmp_path / "x.zarr").problems)


def test_validate_knows_the_schema_of_anyones_store(store: Path, tmp_path: Path) -> None:
    run = CliRunner().invoke
    passed = run(app, ["validate", str(store)])
    assert passed.exit_code == 0, passed.output
    assert "schema 2.0: looked at 6 spectra of 40 pixels" in passed.output
    set_row(store, "signal/flux_raw", 4, np.nan)
    failed = run(app, ["validate", str(store)])
    assert failed.exit_code == 1
    assert "signal/flux_raw row 4" in failed.output
    foreign = zarr.create_group(tmp_path / "foreign.zarr", attributes={"schema_version": "2.0"})
    foreign.create_array("signal/flux_raw", data=np.zeros((2, 3), "f4"), dimension_names=["s", "p"])
    result = run(app, ["validate", str(tmp_path / "foreign.zarr")])
    assert result.exit_code == 1
    assert "metadata/spec_id" in result.output
    assert "signal/flux_raw row 1" in result.output


def test_a_store_of_a_run_is_not_taken_for_one_of_spectra(tmp_path: Path, good: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    assert not is_spectral(writer.path)
    assert not is_spectral(tmp_path / "nothing")
    assert is_spectral(good)
