"""A batch store is at its target when it is whole and not before; what a crash leaves is named."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    ArrayWriter,
    BatchStore,
    Journal,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    relayout,
    validate,
)
from bluesky_zarr.store import _batch as batch_module
from bluesky_zarr.store import _files as files_module
from tests.store.reading import READERS

VALUES = (np.random.default_rng(7).random((10, 9)) * 100).astype("float32")


def cut(store: BatchStore, units: str = "") -> ArrayWriter:
    return store.create_array(
        "cube", shape=(10, 9), dtype="float32", dims=("y", "x"), chunks=(2, 3), shards=(4, 6),
        units=units,
    )  # fmt: skip


def test_a_batch_store_is_at_its_target_only_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "new/cube.zarr"
    with BatchStore(f"file://{target}", attributes={"title": "M 51"}) as store:
        cut(store, units="Jy").write((0, 0), VALUES)
        store.create_group("extra", {"n": 1})
        store.set_attributes("", {"pi": "Hubble"})
        assert not target.exists()
        assert store.publish(attributes={"frames": 3}) == target
    assert os.listdir(target.parent) == ["cube.zarr"]
    assert sorted(os.listdir(target)) == ["cube", "extra", "zarr.json"]
    assert validate(target, deep=True)
    root = zarr.open_group(str(target), mode="r")
    found = {name: root.attrs[name] for name in ("title", "pi", "status", "frames")}
    assert found == {"title": "M 51", "pi": "Hubble", "status": "complete", "frames": 3}
    assert "writer" not in root.attrs
    assert root.metadata.consolidated_metadata is not None


def test_an_existing_target_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cube.zarr").mkdir()
    with pytest.raises(FileExistsError, match="exists and is not overwritten"):
        BatchStore(tmp_path / "cube.zarr")
    assert not (tmp_path / "cube.zarr.tmp").exists()


@pytest.mark.parametrize("renameat2", [True, False])
def test_a_target_that_appears_meanwhile_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renameat2: bool
) -> None:
    if not renameat2:
        monkeypatch.setattr(files_module, "_renameat2", lambda: None)
    store = BatchStore(tmp_path / "cube.zarr")
    (tmp_path / "cube.zarr").mkdir()
    with pytest.raises(FileExistsError, match="made by somebody else meanwhile"):
        store.publish()
    assert os.listdir(tmp_path / "cube.zarr") == []
    (tmp_path / "cube.zarr").rmdir()
    assert validate(store.publish())


@pytest.mark.parametrize("renameat2", [True, False])
def test_a_store_that_is_replaced_stays_until_the_new_one_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renameat2: bool
) -> None:
    if not renameat2:
        monkeypatch.setattr(files_module, "_renameat2", lambda: None)
    target = tmp_path / "cube.zarr"
    for number in (1, 2):
        with BatchStore(target, attributes={"number": number}, replace=True) as store:
            cut(store)
            if number == 2:
                assert zarr.open_group(str(target), mode="r").attrs["number"] == 1
            store.publish()
    assert zarr.open_group(str(target), mode="r").attrs["number"] == 2
    assert os.listdir(tmp_path) == ["cube.zarr"]


def test_acquired_frames_are_never_replaced(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (4, 6))).write(np.zeros((4, 6), "uint16"))
    writer.publish()
    with pytest.raises(FileExistsError, match=r"holds acquired frames \(cam\)"):
        BatchStore(writer.path, replace=True)


def test_acquired_frames_that_were_laid_out_anew_are_never_replaced_either(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (4, 6))).write(np.zeros((4, 6), "uint16"))
    writer.publish()
    relayout(writer.path, tmp_path / "series.zarr")
    with pytest.raises(FileExistsError, match=r"holds acquired frames \(cam\)"):
        BatchStore(tmp_path / "series.zarr", replace=True)


def test_events_are_never_replaced(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "scan.zarr")
    with Journal(writer.path) as journal:
        table = StreamTable(writer.path, "primary", ScanGeometry.events(), journal)
        table.put(0, seq_num=1, time=1.76e9, data={})
        table.close()
    writer.publish()
    with pytest.raises(FileExistsError, match=r"holds acquired events \(primary/seq_num, "):
        BatchStore(writer.path, replace=True)


def test_what_is_no_published_store_of_ours_is_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    (tmp_path / "file").write_text("years of work")
    zarr.create_group(tmp_path / "foreign.zarr", zarr_format=3)
    ZarrWriter(tmp_path / "running.zarr")
    for name in ("thesis", "file", "foreign.zarr", "running.zarr"):
        with pytest.raises(FileExistsError, match="is no published store of bluesky-zarr and is"):
            BatchStore(tmp_path / name, replace=True)
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"


def test_a_store_that_is_not_whole_is_not_published(tmp_path: Path) -> None:
    with BatchStore(tmp_path / "cube.zarr") as store:
        cut(store).write((0, 0), VALUES)
        shard = store.path / "cube/c/0/0"
        data = bytearray(shard.read_bytes())
        data[3] ^= 0xFF
        shard.write_bytes(data)
        with pytest.raises(ValueError, match=r"is not published, as it is not whole:\n.*cube"):
            store.publish(deep=True)
        assert os.listdir(tmp_path) == ["cube.zarr.tmp"]
        store.discard()
    assert os.listdir(tmp_path) == []


def test_the_second_builder_is_told_who_the_first_one_is(tmp_path: Path) -> None:
    with BatchStore(tmp_path / "cube.zarr"):
        with pytest.raises(BlockingIOError, match=f"being written by process {os.getpid()} on"):
            BatchStore(tmp_path / "cube.zarr")
        with pytest.raises(BlockingIOError, match="being written by"):
            BatchStore(tmp_path / "cube.zarr", resume=True)


def test_what_a_dead_process_left_is_refused_or_resumed(tmp_path: Path) -> None:
    store = BatchStore(tmp_path / "cube.zarr")
    cut(store)
    store.close()
    with pytest.raises(FileExistsError, match=r"cube.zarr.tmp' was left by process .* delete it"):
        BatchStore(tmp_path / "cube.zarr")
    with BatchStore(tmp_path / "cube.zarr", resume=True) as store:
        assert not store.finished
        store.open_array("cube").write((0, 0), VALUES)
        store.publish()
    np.testing.assert_array_equal(READERS[0](tmp_path / "cube.zarr", "cube"), VALUES)


def test_a_directory_of_one_that_died_at_once_is_no_hindrance(tmp_path: Path) -> None:
    (tmp_path / "cube.zarr.tmp").mkdir()
    with BatchStore(tmp_path / "cube.zarr") as store:
        store.publish()
    assert os.listdir(tmp_path) == ["cube.zarr"]


def test_a_finished_store_that_never_got_its_name_is_published_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(batch_module, "rename_new", lambda *_: exec("raise KeyboardInterrupt"))
        store = BatchStore(tmp_path / "cube.zarr")
        with pytest.raises(KeyboardInterrupt):
            store.publish()
        store.close()
    with BatchStore(tmp_path / "cube.zarr", resume=True) as store:
        assert store.finished
        with pytest.raises(FileExistsError, match="is finished; publish it as it is"):
            store.create_group("more")
        store.publish()
    assert os.listdir(tmp_path) == ["cube.zarr"]


def replaced_by_one_that_died(target: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    BatchStore(target, attributes={"number": 1}).publish()
    with monkeypatch.context() as patch:
        patch.setattr(batch_module, where, lambda *_: exec("raise KeyboardInterrupt"))
        store = BatchStore(target, attributes={"number": 2}, replace=True)
        with pytest.raises(KeyboardInterrupt):
            store.publish()
        store.close()


@pytest.mark.parametrize("where", ["fsync_dir", "_delete"])
@pytest.mark.parametrize("resume", [True, False])
def test_a_replaced_store_that_a_dead_process_left_is_deleted_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, resume: bool
) -> None:
    target = tmp_path / "cube.zarr"
    replaced_by_one_that_died(target, monkeypatch, where)
    assert sorted(os.listdir(tmp_path)) == ["cube.zarr", "cube.zarr.tmp"]
    assert zarr.open_group(str(target), mode="r").attrs["number"] == 2
    with BatchStore(target, attributes={"number": 3}, replace=True, resume=resume) as store:
        assert not store.finished
        assert zarr.open_group(str(target), mode="r").attrs["number"] == 2
        store.publish()
    assert zarr.open_group(str(target), mode="r").attrs["number"] == 3
    assert os.listdir(tmp_path) == ["cube.zarr"]
    assert batch_module.LOCK not in os.listdir(target)


def test_a_store_that_somebody_else_put_there_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, left = tmp_path / "cube.zarr", tmp_path / "cube.zarr.tmp"
    replaced_by_one_that_died(target, monkeypatch, "fsync_dir")
    left.rename(tmp_path / "old.zarr")
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (4, 6))).write(np.zeros((4, 6), "uint16"))
    writer.publish()
    writer.path.rename(left)
    for resume in (True, False):
        with pytest.raises(FileExistsError, match=r"nothing says that 'cube.zarr' has replaced it"):
            BatchStore(target, replace=True, resume=resume)
    assert validate(left)


def test_whoever_is_still_replacing_a_store_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "cube.zarr"
    BatchStore(target).publish()
    delete = batch_module._delete
    words = []

    def while_deleting(path: Path) -> None:
        with pytest.raises(BlockingIOError, match="is being published by another process") as told:
            BatchStore(target, replace=True)
        words.append(str(told.value))
        delete(path)

    with BatchStore(target, replace=True) as store:
        monkeypatch.setattr(batch_module, "_delete", while_deleting)
        store.publish()
    assert len(words) == 1
    assert os.listdir(tmp_path) == ["cube.zarr"]


@pytest.mark.faults
def test_a_child_of_a_dead_process_does_not_keep_its_lock(tmp_path: Path) -> None:
    script = (
        "import os, sys, time\n"
        "from bluesky_zarr.store import BatchStore\n"
        "store = BatchStore(sys.argv[1])\n"
        "if os.fork() == 0:\n"
        "    print(os.getpid(), flush=True)\n"
        "    sys.stdin.read()\n"
        "    os._exit(0)\n"
        "sys.stdout.close()\n"
        "os._exit(1)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "cube.zarr")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        parent.wait()
        os.kill(child, 0)  # It is alive.
        BatchStore(tmp_path / "cube.zarr", resume=True).publish()
