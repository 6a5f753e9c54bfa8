"""A store that is written over another: one of the two is whole at the name, both can be found."""

from __future__ import annotations

import errno
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import zarr

from bluesky_zarr.store import (
    Journal,
    SourceInfo,
    ZarrWriter,
    _files,
    recover,
    status,
    validate,
)
from bluesky_zarr.store._metadata import read_document
from tests.faults.calls import failing, watched
from tests.faults.processes import run
from tests.faults.test_power import Disk
from tests.faults.victims import overwrite, overwrites
from tests.store.reading import zarr_python

OLD, NEW = [1], [2, 3]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A published store with one frame, which says 1."""
    path = tmp_path / "disk" / "scan.zarr"
    path.parent.mkdir()
    return old(path)


def old(path: Path) -> Path:
    writer = ZarrWriter(path)
    writer.prepare(SourceInfo("cam", "uint16", (4, 5))).write(np.ones((4, 5), "uint16"))
    writer.publish()
    return path


def frames(path: Path) -> list[int]:
    return zarr_python(path, "cam")[:, 0, 0].tolist()


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


def both_are_there(path: Path) -> None:
    """One of the two is whole at the name, and the listing finds what is left of the other."""
    assert frames(path) in (OLD, NEW)
    assert read_document(path)["attributes"]["status"] == "complete"
    assert validate(path, deep=True), str(validate(path, deep=True))
    listed = {store.path: store.state for store in status(path.parent).stores}
    assert listed.pop(path) == "published"
    kept = [frames(other) for other, state in listed.items() if state == "published"]
    assert frames(path) == OLD or OLD in kept


def test_the_old_store_stays_until_the_new_one_is_published_and_is_kept(path: Path) -> None:
    writer = ZarrWriter(path, overwrite=True)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 5)))
    sink.write(np.full((4, 5), 2, "uint16"))
    assert writer.path.name == "scan.new-1.zarr"
    assert frames(path) == OLD
    assert frames(writer.path) == [2]
    writer.publish()
    writer.publish()
    assert writer.path == path
    assert frames(path) == [2]
    assert names(path.parent) == ["scan.replaced-1.zarr", "scan.zarr"]
    assert frames(path.with_name("scan.replaced-1.zarr")) == OLD
    overwrite(path)
    assert frames(path) == NEW
    assert frames(path.with_name("scan.replaced-2.zarr")) == [2]


def test_where_there_is_nothing_it_is_an_ordinary_store(tmp_path: Path) -> None:
    assert overwrite(tmp_path / "scan.zarr").path == tmp_path / "scan.zarr"
    assert names(tmp_path) == ["scan.zarr"]


def test_a_store_that_did_not_become_complete_takes_no_place(path: Path) -> None:
    writer = ZarrWriter(path, overwrite=True)
    writer.prepare(SourceInfo("cam", "uint16", (4, 5)))
    writer.publish("failed", reason="no beam")
    assert frames(path) == OLD
    assert writer.path == path.with_name("scan.new-1.zarr")
    assert read_document(writer.path)["attributes"]["status"] == "failed"


def test_the_journal_goes_with_its_store(path: Path) -> None:
    writer = ZarrWriter(path, overwrite=True)
    with Journal(writer.path) as journal:
        journal.append("note", {"n": 1})
    writer.publish()
    assert list(Journal.read(path)) == [("note", {"n": 1})]
    assert not Journal.path_of(path.with_name("scan.new-1.zarr")).exists()


def test_what_may_not_be_overwritten_is_refused_in_words(path: Path, tmp_path: Path) -> None:
    running = ZarrWriter(tmp_path / "running.zarr")
    with pytest.raises(FileExistsError, match="is not published and is not overwritten"):
        ZarrWriter(running.path, overwrite=True)
    of_run = ZarrWriter(tmp_path / "run.zarr", attributes={"run_uid": "abc"})
    of_run.publish()
    with pytest.raises(FileExistsError, match="whose documents would point to other data"):
        ZarrWriter(of_run.path, overwrite=True)
    with_log = old(tmp_path / "log.zarr")
    Journal(with_log).close()
    with pytest.raises(FileExistsError, match="is the log of what was measured at 'log"):
        ZarrWriter(with_log, overwrite=True)
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(FileExistsError, match="that bluesky-zarr did not make"):
        ZarrWriter(tmp_path / "other.zarr", overwrite=True)
    (tmp_path / "notes").mkdir()
    with pytest.raises(FileExistsError, match="is no Zarr store"):
        ZarrWriter(tmp_path / "notes", overwrite=True)
    (tmp_path / "link.zarr").symlink_to(path)
    with pytest.raises(FileExistsError, match="is a symbolic link"):
        ZarrWriter(tmp_path / "link.zarr", overwrite=True)
    assert "run.new-1.zarr" not in names(tmp_path)


def test_a_target_that_became_another_meanwhile_is_left_alone(path: Path) -> None:
    writer = ZarrWriter(path, overwrite=True)
    path.rename(path.with_name("moved.zarr"))
    Journal.path_of(path).write_bytes(b"of another")
    with pytest.raises(FileExistsError, match="is the log of"):
        writer.publish()
    Journal.path_of(path).unlink()
    other = ZarrWriter(path)
    with pytest.raises(FileExistsError, match="is not published and is not overwritten"):
        writer.publish()
    assert read_document(other.path)["attributes"]["status"] == "running"
    other.publish()
    writer.publish()
    assert writer.path == path


@pytest.mark.parametrize("after", range(3))
def test_a_disk_that_refuses_a_rename_is_asked_again(path: Path, after: int) -> None:
    writer = ZarrWriter(path, overwrite=True)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 5)))
    for value in NEW:
        sink.write(np.full((4, 5), value, "uint16"))
    Journal(writer.path).close()
    refused = failing(errno.EIO, "rename", where="scan", after=after, times=1)
    with watched(path.parent, refused), pytest.raises(OSError, match="Input/output error"):
        writer.publish()
    both_are_there(path)
    writer.publish()
    assert names(path.parent) == ["scan.replaced-1.zarr", "scan.zarr", "scan.zarr.journal"]
    assert frames(path) == NEW


def test_where_names_cannot_be_swapped_the_old_one_makes_room_first(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_files, "_renameat2", lambda: None)
    overwrite(path)
    assert names(path.parent) == ["scan.replaced-1.zarr", "scan.zarr"]
    assert frames(path) == NEW
    assert frames(path.with_name("scan.replaced-1.zarr")) == OLD


def test_killed_at_some_call_it_leaves_one_of_the_two_whole(tmp_path: Path, path: Path) -> None:
    whole = tmp_path / "whole" / "scan.zarr"
    shutil.copytree(path, whole)
    (made,) = run(overwrites, str(whole)).of("published")[0]
    last = len(made) - 1
    swapped = [n for n, (kind, _) in enumerate(made) if kind == "rename"]
    assert len(swapped) == 2, "the swap, and the name that the old store gets"
    found = set()
    # Before the swap little changes from call to call.
    for number in (*range(0, swapped[0] - 3, 11), *range(swapped[0] - 3, last + 1)):
        here = tmp_path / f"{number}" / "scan.zarr"
        shutil.copytree(path, here)
        said = run(overwrites, str(here), number=number)
        assert said.killed
        found.add(tuple(frames(here)))
        both_are_there(here)
        for store in status(here.parent).of("crashed"):
            assert recover(store.path), "what was new is published where it lies"
        both_are_there(here)
        assert frames(overwrite(here).path) == NEW, "what was left is in nobody's way"
        shutil.rmtree(here.parent)
    assert found == {tuple(OLD), tuple(NEW)}


def test_a_power_cut_at_any_sync_leaves_one_of_the_two_whole(tmp_path: Path) -> None:
    disk = Disk(tmp_path / "disk")
    disk.base.mkdir()
    turn = threading.Lock()
    left: list[Path] = []

    def before(kind: str, path: str, number: int) -> None:
        with turn:
            if overwriting and kind == "fsync":
                left.append(disk.after_the_cut(tmp_path / f"cut{len(left)}"))
            disk.before(kind, path, number)

    overwriting = False
    with watched(disk.base, before):
        path = old(disk.base / "scan.zarr")
        overwriting = True
        overwrite(path)
    left.append(disk.after_the_cut(tmp_path / "end"))
    for cut in left:
        assert frames(cut / "scan.zarr") in (OLD, NEW)
        assert validate(cut / "scan.zarr", deep=True)
    assert frames(left[-1] / "scan.zarr") == NEW
    assert frames(left[-1] / "scan.replaced-1.zarr") == OLD
