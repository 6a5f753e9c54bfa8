"""What is in a store, as a table that a person can read and as values that a program can."""

import numpy as np
import pytest
import zarr
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Column, Journal, SourceInfo, StreamTable, ZarrWriter, inspect

GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * Linspace("x", 0, 2, 4))


@pytest.fixture
def writer(tmp_path):
    attributes = {"plan_name": "grid_scan", "run_uid": "abc", "scan_id": 7}
    writer = ZarrWriter(tmp_path / "scan.zarr", codec="blosc-zstd-1", attributes=attributes)
    sink = writer.prepare(SourceInfo("cam", "uint16", (20, 30), geometry=GRID), key="primary/cam")
    with Journal(writer.path) as journal:
        table = StreamTable(writer.path, "primary", GRID, journal)
        table.declare({"label": Column("string")})
        for k in (0, 1, 2, 1):
            sink.write(np.full((20, 30), k, "uint16"), k)
            table.put(k, seq_num=k + 1, time=1.7e9, data={"label": "a"})
        table.close()
    sink.drain()
    return writer


@pytest.mark.parametrize("published", [False, True])
def test_a_store_is_described_while_it_runs_and_afterwards(writer, published):
    if published:
        writer.publish(status="aborted")
    summary = inspect(writer.uri)
    cam = next(array for array in summary.arrays if array.key == "primary/cam")
    assert cam.dims == ("y", "x", "cam_y", "cam_x")
    assert cam.shape == (3, 4, 20, 30)
    assert cam.chunks == (1, 1, 20, 30)
    assert cam.shards is not None
    assert (cam.dtype, cam.codec) == ("uint16", "blosc-zstd-1")
    assert (cam.written, cam.expected, cam.files) == (3, 12, 2)
    assert summary.status == ("aborted" if published else "running")
    files = [path for path in writer.path.rglob("*") if path.is_file()]
    assert summary.files == len(files)
    assert summary.bytes_on_disk == sum(path.stat().st_size for path in files)
    assert summary.journal_bytes
    text = str(summary)
    assert text.startswith(f"{writer.path}: {summary.status}\n  plan_name grid_scan\n  scan_id 7\n")
    assert "primary/cam " in text
    assert "y:3 x:4 cam_y:20 cam_x:30" in text
    assert "3/12" in text
    assert "in the journal beside it" in text


def test_bytes_of_frames_that_were_replaced_are_reported(writer):
    dead = inspect(writer.path).dead_bytes
    assert 0 < dead < 2000
    writer.publish()
    assert inspect(writer.path).dead_bytes == dead
    assert "of them frames that were replaced" in str(inspect(writer.path))


def test_a_growing_array_expects_nobody_knows_how_many(tmp_path):
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (4, 4))).write(np.zeros((4, 4), "uint16"))
    writer.publish()
    (cam, *_) = inspect(writer.path).arrays
    assert (cam.written, cam.expected) == (1, None)
    assert "1/?" in str(inspect(writer.path))


def test_any_zarr_group_or_array_can_be_looked_at(tmp_path):
    root = zarr.create_group(str(tmp_path / "other.zarr"))
    root.create_array("a", shape=(4, 6), chunks=(2, 3), dtype="int32", compressors=None)
    summary = inspect(tmp_path / "other.zarr")
    assert "not written by bluesky-zarr" in str(summary)
    assert summary.arrays[0].codec == "none"
    assert inspect(tmp_path / "other.zarr" / "a").arrays[0].shape == (4, 6)


def test_where_there_is_nothing_it_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"it has no zarr.json; check the path"):
        inspect(tmp_path)
