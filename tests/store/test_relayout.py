"""A re-laid store holds what its source held, cut for another way of reading; the source stays."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
import zarr

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import (
    BatchStore,
    Column,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    inspect,
    relayout,
    validate,
)
from bluesky_zarr.store import _batch as batch_module
from bluesky_zarr.store import _relayout as relayout_module
from bluesky_zarr.store._metadata import read_document
from tests.store.reading import READERS, files_of

ACCESS = ["frames", "series", "balanced"]
GRID = ScanGeometry(
    dims=(
        Dim("y", 4, coordinates=(Coordinate("y", np.linspace(0, 3, 4), "mm"),)),
        Dim("x", 5, coordinates=(Coordinate("x", np.linspace(0, 4, 5), "mm"),)),
    )
)


def frame(k: int, shape: tuple[int, ...] = (24, 40), dtype: str = "uint16") -> np.ndarray:
    return (np.random.default_rng(k).random(shape) * 100).astype(dtype)


def grid_scan(
    path: Path,
    *,
    dtype: str = "uint16",
    codec: str = "blosc-zstd-1",
    layout: str = "frames",
    status: str = "complete",
    missing: tuple[int, ...] = (),
    again: tuple[int, ...] = (),
    flown: bool = False,
) -> Path:
    """A store as a session leaves it: frames, events, setpoints, attributes of the run."""
    attributes = {"run_uid": "0d5a9c1e", "plan_name": "grid_scan", "scan_id": 7}
    writer = ZarrWriter(path, codec=codec, layout=layout, attributes=attributes)
    source = SourceInfo("cam", dtype, (24, 40), units="counts", geometry=GRID, flown=flown)
    sink = writer.prepare(source, key="primary/cam")
    table = StreamTable(path, "primary", GRID, None)
    table.declare({"cam-sum": Column("number", units="counts"), "note": Column("string")})
    for k, seed in [*((k, k) for k in range(20)), *((k, k + 1000) for k in again)]:
        if k not in missing:
            cell = tuple(int(i) for i in np.unravel_index(k, (4, 5)))
            sink.write(frame(seed, dtype=dtype), index=cell)
            data = {"cam-sum": float(k), "note": f"point {k}"}
            table.put(k, seq_num=k + 1, time=1.76e9 + k, data=data)
    table.close()
    writer.complete()
    writer.publish(status, reason="" if status == "complete" else "the beam was lost")
    return path


def attributes_of(store: Path, key: str = "") -> dict[str, Any]:
    return read_document(store / key).get("attributes", {})


@pytest.mark.parametrize("access", ACCESS)
@pytest.mark.parametrize("layout", ACCESS)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "bool"])
def test_frames_are_read_as_before_by_every_reader(
    tmp_path: Path, access: str, layout: str, dtype: str
) -> None:
    old = grid_scan(tmp_path / "old.zarr", dtype=dtype, layout=layout, missing=(3, 19))
    before = files_of(old)
    assert relayout(old, tmp_path / "new.zarr", access=access)
    for reader in READERS:
        found = reader(tmp_path / "new.zarr", "primary/cam")
        np.testing.assert_array_equal(found, reader(old, "primary/cam"))
    assert validate(tmp_path / "new.zarr", deep=True)
    assert files_of(old) == before
    assert sorted(os.listdir(tmp_path)) == ["new.zarr", "old.zarr"]


@pytest.mark.parametrize("codec", [None, "none", "lz4", "zstd-3", "blosc-lz4-5"])
@pytest.mark.parametrize("source_codec", ["none", "lz4", "zstd-1", "blosc-zstd-5"])
def test_the_codec_is_that_of_the_source_unless_one_is_given(
    tmp_path: Path, codec: str | None, source_codec: str
) -> None:
    old = grid_scan(tmp_path / "old.zarr", codec=source_codec)
    relayout(old, tmp_path / "new.zarr", access="series", codec=codec)
    np.testing.assert_array_equal(
        READERS[0](tmp_path / "new.zarr", "primary/cam"), READERS[1](old, "primary/cam")
    )
    (found,) = (a.codec for a in inspect(tmp_path / "new.zarr").arrays if a.key == "primary/cam")
    wanted = codec or source_codec
    assert found == {"lz4": "blosc-lz4-5"}.get(wanted, wanted)


def test_the_layout_is_the_one_asked_for(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    report = relayout(old, tmp_path / "new.zarr", access="series")
    array = zarr.open_array(str(tmp_path / "new.zarr"), path="primary/cam", mode="r")
    assert array.chunks == (4, 5, 24, 40)
    assert "primary/cam: chunks 1x1x24x40 -> 4x5x24x40" in str(report)


def test_everything_else_comes_along(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr", missing=(7,))
    new = tmp_path / "new.zarr"
    relayout(old, new, access="balanced")
    with (
        xr.open_zarr(old, group="primary", consolidated=True) as before,
        xr.open_zarr(new, group="primary", consolidated=True) as after,
    ):
        after["cam"].attrs["bluesky_zarr"] = before["cam"].attrs["bluesky_zarr"]
        xr.testing.assert_identical(before.load(), after.load())
        assert {"x", "y", "cam-sum", "note", "seq_num", "time", "cam_written"} <= {*after.variables}
    document = read_document(new / "primary/cam")
    assert document["dimension_names"] == document["attributes"]["_ARRAY_DIMENSIONS"]
    was, now = attributes_of(old), attributes_of(new)
    same = {"run_uid", "plan_name", "scan_id", "created_at", "versions", "arrays", "status"}
    assert {name: now[name] for name in same} == {name: was[name] for name in same}
    assert set(was) - set(now) == set()
    assert set(now) - set(was) == {"relaid"}


def test_it_says_from_what_when_and_how_it_was_made(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    relayout(old, tmp_path / "series.zarr", access="series", codec="lz4")
    relayout(tmp_path / "series.zarr", tmp_path / "frames.zarr", access="frames")
    first, second = attributes_of(tmp_path / "frames.zarr")["relaid"]
    assert first["from"] == f"file://{old}"
    assert first["from_published_at"] == attributes_of(old)["published_at"]
    assert (first["access"], first["codec"]) == ("series", "lz4")
    assert first["arrays"]["primary/cam"]["chunks"] == [4, 5, 24, 40]
    assert "zarr" in first["versions"]
    assert second["from"] == f"file://{tmp_path}/series.zarr"
    assert first["at"] <= second["at"]
    np.testing.assert_array_equal(
        READERS[0](tmp_path / "frames.zarr", "primary/cam"), READERS[0](old, "primary/cam")
    )


@pytest.mark.parametrize("status", ["stopped", "aborted", "failed"])
def test_a_run_stays_what_it_was(tmp_path: Path, status: str) -> None:
    old = grid_scan(tmp_path / "old.zarr", status=status, missing=(17, 18, 19))
    relayout(old, tmp_path / "new.zarr")
    found = attributes_of(tmp_path / "new.zarr")
    assert (found["status"], found["reason"]) == (status, "the beam was lost")
    assert found["arrays"]["primary/cam"] == {"expected": 20, "written": 17}


@pytest.mark.parametrize("access", ACCESS)
def test_missing_positions_stay_missing(tmp_path: Path, access: str) -> None:
    missing = tuple(range(5, 20))
    old = grid_scan(tmp_path / "old.zarr", dtype="float32", missing=missing)
    relayout(old, tmp_path / "new.zarr", access=access)
    counts = READERS[0](tmp_path / "new.zarr", "primary/cam_written").reshape(-1)
    assert np.flatnonzero(counts == 0).tolist() == [*missing]
    frames = READERS[0](tmp_path / "new.zarr", "primary/cam").reshape(20, -1)
    assert np.isnan(frames[5:]).all()
    assert not np.isnan(frames[:5]).any()
    (summary,) = (a for a in inspect(tmp_path / "new.zarr").arrays if a.key == "primary/cam")
    assert (summary.written, summary.expected) == (5, 20)


def test_a_store_without_a_single_frame(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr", missing=tuple(range(20)), status="aborted")
    relayout(old, tmp_path / "new.zarr")
    assert not (tmp_path / "new.zarr/primary/cam/c").exists()
    assert attributes_of(tmp_path / "new.zarr")["arrays"]["primary/cam"]["written"] == 0


def test_bytes_of_frames_that_were_replaced_are_given_back(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr", codec="none", again=tuple(range(20)))
    relayout(old, tmp_path / "new.zarr", access="frames")
    assert inspect(old).dead_bytes > 20 * 24 * 40 * 2
    assert inspect(tmp_path / "new.zarr").dead_bytes == 0
    (before,) = (a for a in inspect(old).arrays if a.key == "primary/cam")
    (after,) = (a for a in inspect(tmp_path / "new.zarr").arrays if a.key == "primary/cam")
    assert after.bytes_on_disk < 0.6 * before.bytes_on_disk
    np.testing.assert_array_equal(
        READERS[0](tmp_path / "new.zarr", "primary/cam").reshape(20, 24, 40),
        [frame(k + 1000) for k in range(20)],
    )
    assert (READERS[0](tmp_path / "new.zarr", "primary/cam_written") == 2).all()


@pytest.mark.parametrize("access", ACCESS)
def test_frames_that_share_chunks(tmp_path: Path, access: str) -> None:
    old = grid_scan(tmp_path / "old.zarr", flown=True, missing=(3, 11, 12, 13, 14))
    assert zarr.open_array(str(old), path="primary/cam", mode="r").chunks[1] == 5
    relayout(old, tmp_path / "new.zarr", access=access)
    for reader in READERS:
        np.testing.assert_array_equal(
            reader(tmp_path / "new.zarr", "primary/cam"), reader(old, "primary/cam")
        )
    assert validate(tmp_path / "new.zarr", deep=True)


def test_frames_beyond_the_last_event_are_kept(tmp_path: Path) -> None:
    old = tmp_path / "old.zarr"
    writer = ZarrWriter(old)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 6)), key="primary/cam")
    table = StreamTable(old, "primary", ScanGeometry.events(), None)
    for k in range(5):
        sink.write(frame(k, (4, 6)))
        if k < 3:
            table.put(k, seq_num=k + 1, time=1.76e9 + k, data={})
    table.close()
    writer.publish("aborted")
    relayout(old, tmp_path / "new.zarr", access="series")
    with xr.open_zarr(tmp_path / "new.zarr", group="primary") as found:
        assert found.sizes["event"] == 5
        np.testing.assert_array_equal(found["cam"][4], frame(4, (4, 6)))
        assert found["seq_num"].values.tolist() == [1, 2, 3, 0, 0]


def test_arrays_that_are_not_named_are_copied_as_they_are(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "old.zarr")
    for name in ("left", "right"):
        sink = writer.prepare(SourceInfo(name, "uint16", (24, 40)), capacity=6)
        for k in range(6):
            sink.write(frame(k))
    writer.publish()
    relayout(tmp_path / "old.zarr", tmp_path / "new.zarr", arrays=["left"])
    old, new = files_of(tmp_path / "old.zarr"), files_of(tmp_path / "new.zarr")
    assert old["right/c/0/0/0"] == new["right/c/0/0/0"]
    assert old["left/c/0/0/0"] != new["left/c/0/0/0"]
    assert validate(tmp_path / "new.zarr", deep=True)


def test_an_array_without_frames_is_cut_anew_where_it_is_named(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((50, 30, 20)).astype("float32")
    with BatchStore(tmp_path / "old.zarr") as store:
        sky = store.create_array(
            "sky", shape=values.shape, dtype="float32", dims=("frequency", "l", "m"),
            chunks=(1, 30, 20), shards=(25, 30, 20),
        )  # fmt: skip
        sky.write((0, 0, 0), values)
        store.create_array("name", shape=(2,), dtype="str", dims=("n",)).write((0,), ["a", "b"])
        store.publish()
    with pytest.raises(ValueError, match="holds no frames; name the arrays"):
        relayout(tmp_path / "old.zarr", tmp_path / "new.zarr")
    with pytest.raises(ValueError, match=r"array 'name' of string .* cannot be cut anew"):
        relayout(tmp_path / "old.zarr", tmp_path / "new.zarr", arrays=["name"])
    with pytest.raises(ValueError, match=r"has no array 'sea'; name one of name, sky"):
        relayout(tmp_path / "old.zarr", tmp_path / "new.zarr", arrays=["sea"])
    assert not (tmp_path / "new.zarr.tmp").exists()
    relayout(tmp_path / "old.zarr", tmp_path / "new.zarr", arrays=["sky"])
    np.testing.assert_array_equal(READERS[1](tmp_path / "new.zarr", "sky"), values)
    assert zarr.open_array(str(tmp_path / "new.zarr"), path="sky", mode="r").chunks == (50, 30, 20)
    assert list(zarr.open_array(str(tmp_path / "new.zarr"), path="name", mode="r")[...]) == [
        "a",
        "b",
    ]


# ---------------------------------------------------------------------- what is refused


def test_a_running_store_is_refused(tmp_path: Path) -> None:
    ZarrWriter(tmp_path / "old.zarr")
    with pytest.raises(ValueError, match="is running; wait until it is published, or run recover"):
        relayout(tmp_path / "old.zarr", tmp_path / "new.zarr")


def test_a_store_of_others_is_refused(tmp_path: Path) -> None:
    zarr.create_group(str(tmp_path / "old.zarr"))
    with pytest.raises(ValueError, match="was not written by bluesky-zarr"):
        relayout(tmp_path / "old.zarr", tmp_path / "new.zarr")


def test_a_target_that_is_there_or_is_the_source_is_refused(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    before = files_of(old)
    (tmp_path / "link.zarr").symlink_to(old)
    (tmp_path / "there.zarr").mkdir()
    refused = {
        old: "is the source",
        tmp_path / "link.zarr": "is the source",
        old / "inside.zarr": "lie in one another",
        tmp_path: "lie in one another",
    }
    for target, words in refused.items():
        with pytest.raises(ValueError, match=words):
            relayout(old, target)
    with pytest.raises(FileExistsError, match=r"there.zarr' exists and is not overwritten"):
        relayout(old, tmp_path / "there.zarr")
    shutil.copytree(old, tmp_path / "other.zarr.tmp")
    with pytest.raises(ValueError, match="is the source, or where it would be built"):
        relayout(tmp_path / "other.zarr.tmp", tmp_path / "other.zarr")
    with pytest.raises(ValueError, match="layout 'films' is none of"):
        relayout(old, tmp_path / "new.zarr", access="films")
    with pytest.raises(ValueError, match="'gzip' is not a codec"):
        relayout(old, tmp_path / "new.zarr", codec="gzip")
    assert files_of(old) == before


def test_a_disk_without_room_is_told_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(relayout_module.shutil, "disk_usage", lambda _: usage._replace(free=10_000))
    with pytest.raises(OSError, match=r"not enough room for .*: it takes about .* are free") as e:
        relayout(old, tmp_path / "new.zarr")
    assert e.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == ["old.zarr"]


# ---------------------------------------------------------------------- what goes wrong


def test_a_damaged_chunk_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    shard = next(p for p in (old / "primary/cam/c").rglob("*") if p.is_file())
    data = bytearray(shard.read_bytes())
    data[data.index(b"BZREC") + 70] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"the chunk with index \(0, 0, 0, 0\) cannot be read"):
        relayout(old, tmp_path / "new.zarr")
    assert os.listdir(tmp_path) == ["old.zarr"]


def test_a_shard_that_is_lost_later_is_noticed(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    relayout(old, tmp_path / "new.zarr", access="frames")
    next(p for p in (tmp_path / "new.zarr/primary/cam/c").rglob("*") if p.is_file()).unlink()
    report = validate(tmp_path / "new.zarr")
    assert not report
    assert "its chunk is missing, and its frames counted" in str(report)


@pytest.mark.faults
def test_a_process_that_is_killed_leaves_a_tmp_of_which_the_next_one_speaks(tmp_path: Path) -> None:
    old = grid_scan(tmp_path / "old.zarr")
    before = files_of(old)
    script = (
        "import os, signal, sys\n"
        "from bluesky_zarr.store import relayout, _relayout\n"
        "_relayout._describe = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "relayout(sys.argv[1], sys.argv[2])\n"
    )
    done = subprocess.run([sys.executable, "-c", script, old, tmp_path / "new.zarr"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert sorted(os.listdir(tmp_path)) == ["new.zarr.tmp", "old.zarr"]
    with pytest.raises(FileExistsError, match=r"new.zarr.tmp' was left by process .* delete it"):
        relayout(old, tmp_path / "new.zarr")
    shutil.rmtree(tmp_path / "new.zarr.tmp")
    assert relayout(old, tmp_path / "new.zarr")
    assert files_of(old) == before


def test_a_target_that_somebody_made_meanwhile_is_left_and_the_new_store_is_where_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, rename = a_small_scan(tmp_path), batch_module.rename_new

    def late(path: Path, target: Path) -> None:
        target.mkdir()
        rename(path, target)

    monkeypatch.setattr(batch_module, "rename_new", late)
    with pytest.raises(FileExistsError, match=r"the new store is whole, rename '.*new.zarr.tmp'"):
        relayout(source, tmp_path / "new.zarr")
    assert os.listdir(tmp_path / "new.zarr") == []
    assert validate(tmp_path / "new.zarr.tmp", deep=True)


def test_an_error_after_the_new_store_has_its_name_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: Path) -> None:
        raise OSError(errno.EIO, "Input/output error", str(path))

    source = a_small_scan(tmp_path)
    monkeypatch.setattr(batch_module, "fsync_dir", broken)
    with pytest.raises(OSError, match="Input/output error"):
        relayout(source, tmp_path / "new.zarr")
    assert validate(tmp_path / "new.zarr", deep=True)


def a_small_scan(directory: Path) -> Path:
    writer = ZarrWriter(directory / "small.zarr")
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 6)), capacity=3)
    for n in range(3):
        sink.write(np.full((4, 6), n, "uint16"))
    writer.publish()
    return writer.path
