"""A directory of stores is listed, a line for each, and what crashed in it is recovered at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import zarr

from bluesky_zarr.store import ZarrWriter, recover_all, status, validate
from bluesky_zarr.store._identity import process_identity
from bluesky_zarr.store._metadata import read_document, write_document
from tests.store.crashed import made
from tests.store.reading import files_of


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made(tmp_path / "2026-11-01" / "done.zarr", publish=True)
    made(tmp_path / "2026-11-02" / "crashed.zarr", process_start="1")
    made(tmp_path / "2026-11-02" / "running.zarr")
    made(tmp_path / "elsewhere.zarr", host="beamline-7")
    zarr.create_group(str(tmp_path / "other"))
    damaged = made(tmp_path / "damaged.zarr", publish=True)
    (damaged / "zarr.json").write_text("{")
    (tmp_path / "begun.zarr").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "link.zarr").symlink_to(damaged)
    return tmp_path


def test_each_store_has_a_line_that_says_how_it_stands(directory: Path) -> None:
    listing = status(directory)
    states = {str(s.path.relative_to(directory)): (s.state, s.details) for s in listing.stores}
    me = process_identity()
    assert states.keys() == {
        "2026-11-01/done.zarr",
        "2026-11-02/crashed.zarr",
        "2026-11-02/running.zarr",
        "elsewhere.zarr",
        "other",
        "damaged.zarr",
        "begun.zarr",
    }
    state, details = states["2026-11-01/done.zarr"]
    assert (state, details[:12]) == ("published", "complete, 20")
    state, details = states["2026-11-02/crashed.zarr"]
    assert state == "crashed"
    assert details.startswith(f"process {me['pid']} on {me['host']} since 20")
    assert details.endswith(
        f"and is gone: bluesky-zarr recover {directory}/2026-11-02/crashed.zarr"
    )
    state, details = states["2026-11-02/running.zarr"]
    assert state == "running"
    assert details.startswith(f"by process {me['pid']} on {me['host']} since 20")
    state, details = states["elsewhere.zarr"]
    assert state == "unknown"
    assert "on beamline-7" in details
    assert states["other"] == ("unknown", "it was not written by bluesky-zarr")
    assert states["damaged.zarr"][0] == states["begun.zarr"][0] == "damaged"
    assert len(str(listing).splitlines()) == 2 + len(states)


def test_the_newest_stores_alone_are_looked_at_when_that_is_asked(directory: Path) -> None:
    (directory / "begun.zarr" / "new").touch()
    assert [s.path.name for s in status(directory, newest=1).stores] == ["begun.zarr"]


def test_what_crashed_beneath_a_directory_is_recovered_and_the_rest_is_left(
    directory: Path,
) -> None:
    before = files_of(directory)
    (looked,) = recover_all(directory, dry_run=True)
    assert "dry run" in str(looked)
    assert before == files_of(directory)
    (report,) = recover_all(directory)
    assert report
    assert report.path == directory / "2026-11-02" / "crashed.zarr"
    assert validate(report.path, deep=True)
    after = files_of(directory)
    changed = {directory / name for name in before if after[name] != before[name]}
    assert changed
    assert all(p.is_relative_to(report.path) for p in changed)
    assert recover_all(directory) == []


def test_a_store_that_cannot_be_recovered_keeps_no_other_from_it(tmp_path: Path) -> None:
    for name in ("a.zarr", "b.zarr"):
        made(tmp_path / name, process_start="1")
    (tmp_path / "a.zarr.journal").mkdir()
    stopped, recovered = recover_all(tmp_path)
    assert "Is a directory" in stopped.problems[0].what
    assert recovered


@pytest.mark.parametrize("writer", ["somebody", 5, None, {"pid": "none"}, {"host": 5}])
def test_whatever_a_document_says_of_its_writer_each_store_has_a_line(
    tmp_path: Path, writer: object
) -> None:
    document = read_document(made(tmp_path / "a.zarr"))
    document["attributes"] |= {"writer": writer, "created_at": 5}
    write_document(tmp_path / "a.zarr", document)
    made(tmp_path / "b.zarr", process_start="1")
    assert [store.path.name for store in status(tmp_path).stores] == ["a.zarr", "b.zarr"]
    assert [report.path.name for report in recover_all(tmp_path)][-1] == "b.zarr"


def test_an_empty_store_of_a_writer_that_nobody_can_name_is_recovered(tmp_path: Path) -> None:
    document = read_document(ZarrWriter(tmp_path / "a.zarr").path)
    document["attributes"]["writer"] = "somebody"
    write_document(tmp_path / "a.zarr", document)
    (report,) = recover_all(tmp_path)
    assert report


def test_a_document_nested_too_deep_to_be_read_is_damage(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text("[" * 200_000)
    (store,) = status(tmp_path).stores
    assert store.state == "damaged"


def test_an_empty_directory_says_so_and_one_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert str(status(tmp_path)) == f"no stores in {tmp_path}"
    with pytest.raises(FileNotFoundError):
        status(tmp_path / "nowhere")
