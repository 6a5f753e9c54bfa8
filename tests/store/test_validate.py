"""What is damaged is found, named by array and position, and comes with what to do."""

import json

import numpy as np
import pytest
import zarr
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    Layout,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    _frames,
    _shard,
    publish,
    validate,
)
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._metadata import read_document, write_document
from bluesky_zarr.store._shard import ENTRY
from tests.store.crashed import flip_bit, frame, shard_of

GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * ~Linspace("x", 0, 2, 4))
KEY = "primary/cam"


def write(path, *, codec="none", layout="frames", count=11, again=(), published=True):
    writer = ZarrWriter(path, codec=codec, layout=layout)
    source = SourceInfo("cam", "uint16", (6, 8), geometry=GRID)
    sink = writer.prepare(source, key=KEY)
    table = StreamTable(writer.path, "primary", GRID, None)
    table.declare({"x": Column("number"), "label": Column("string")})
    for n, k in enumerate((*range(count), *again)):
        sink.write(frame(n), k)
        table.put(k, seq_num=k + 1, time=1.7e9 + n, data={"x": k, "label": str(k)})
    table.close()
    writer.complete()
    if published:
        writer.publish()
    return writer.path


@pytest.fixture
def store(tmp_path):
    return write(tmp_path / "scan.zarr", again=(2, 5))


def entry(store, position, versions=None):
    """Shard file, place of the entry in it, and extent of the frame at a position."""
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members) as group:
        (extent,) = group.indexed()[position].values()
    return array.entry(position, (0, 0))[1] * 16, extent


def problems(store, **options):
    report = validate(store, **options)
    assert not report, "it is false when something is wrong"
    return [f"{p.where} | {p.what} | {p.advice}" for p in report.problems]


# ------------------ sound


@pytest.mark.filterwarnings("ignore:the layout")
@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1", "zstd-1"])
@pytest.mark.parametrize("published", [True, False])
@pytest.mark.parametrize("layout", ["frames", Layout((1, 1, 4, 4), (1, 4, 8, 4))])
def test_a_sound_store_is_sound(tmp_path, codec, published, layout):
    store = write(
        tmp_path / "scan.zarr", codec=codec, layout=layout, published=published, again=(2, 2, 7)
    )
    for deep in (False, True):
        report = validate(store, deep=deep)
        assert report, str(report)
        assert str(report).startswith(
            f"validate {store} ({'complete' if published else 'running'})"
        )
        assert "11 frames" in str(report)


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
@pytest.mark.parametrize("count", [1, 11])
@pytest.mark.parametrize("published", [True, False])
def test_a_store_whose_records_follow_one_another_without_a_gap_is_sound(
    tmp_path, monkeypatch, codec, count, published
):
    with monkeypatch.context() as first_version:
        for module in (_frames, _shard):
            first_version.setattr(module, "ALIGNMENT", 1)
        store = write(
            tmp_path / "scan.zarr", codec=codec, count=count, again=(0,), published=published
        )
    report = validate(store, deep=True)
    assert report, str(report)
    array = zarr.open_array(store / KEY, mode="r")
    np.testing.assert_array_equal(np.asarray(array[0, 0]), frame(count))


def test_a_temporary_file_that_a_killed_writer_left_beside_a_chunk_is_no_damage(store):
    chunks = store / "primary/cam_written/c/0"
    (whole,) = chunks.iterdir()
    for left in (f"{whole.name}.{'0a' * 16}.partial", f".{whole.name}.{'0a' * 16}.tmp"):
        (chunks / left).write_bytes(whole.read_bytes()[:3])
    report = validate(store, deep=True)
    assert report, str(report)


def test_a_path_and_a_uri_name_the_same_store(store, monkeypatch):
    monkeypatch.chdir(store.parent)
    assert validate("scan.zarr")
    assert validate(f"file://{store}")


def test_an_empty_and_a_growing_store_are_sound(tmp_path):
    writer = ZarrWriter(tmp_path / "empty.zarr")
    assert validate(writer.path, deep=True)
    sink = writer.prepare(SourceInfo("cam", "uint16", (6, 8)), key=KEY)
    assert validate(writer.path, deep=True)
    sink.write(frame(1))
    sink.drain()
    assert validate(writer.path, deep=True)
    writer.publish(status="stopped")
    assert validate(writer.path, deep=True)


def test_validate_changes_nothing(store):
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in store.rglob("*") if p.is_file()}
    validate(store, deep=True)
    assert before == {
        p: (p.read_bytes(), p.stat().st_mtime_ns) for p in store.rglob("*") if p.is_file()
    }


def test_a_store_of_another_library_is_checked_as_far_as_it_goes(tmp_path):
    root = zarr.create_group(str(tmp_path / "other.zarr"))
    array = root.create_array(
        "a", shape=(4, 6), chunks=(2, 3), shards=(4, 6), dtype="int32", dimension_names=("y", "x")
    )
    array[...] = np.arange(24).reshape(4, 6)
    root.create_array("b", shape=(4,), chunks=(4,), dtype="int32")
    assert problems(tmp_path / "other.zarr") == [
        "b | its dims are named None, its shape is (4,): xarray cannot open it | "
        "add dimension_names to its zarr.json"
    ]
    assert "not written by bluesky-zarr" in str(validate(tmp_path / "other.zarr", deep=True))
    assert validate(tmp_path / "other.zarr" / "a", deep=True), "an array alone"
    path = tmp_path / "other.zarr" / "a" / "c" / "0" / "0"
    flip_bit(path, len(path.read_bytes()) - 10)
    assert any("cannot be read" in p for p in problems(tmp_path / "other.zarr", deep=True))


# ------------------ damaged


def test_a_path_without_a_store_is_a_problem(tmp_path):
    (problem,) = problems(tmp_path / "nothing")
    assert "is not a Zarr v3 array or group" in problem
    assert problem.endswith("| check the path")


def test_a_flipped_byte_in_a_frame_is_found_by_reading_it(store):
    _, (offset, nbytes) = entry(store, (1, 2))
    flip_bit(shard_of(store), offset + nbytes // 2)
    assert validate(store), "not without reading"
    (problem,) = problems(store, deep=True)
    assert problem.startswith("primary/cam | index (1, 2): the 100 bytes at byte")
    assert "are not what was written (crc32c differs) | restore the shard file" in problem


def test_a_flipped_byte_in_a_record_head_is_found(store):
    _, (offset, _) = entry(store, (0, 3))
    flip_bit(shard_of(store), offset - 20)
    (problem,) = problems(store)
    assert "primary/cam | index (0, 3): no whole record at byte" in problem


def test_an_entry_that_points_at_another_position_is_found(store):
    path = shard_of(store)
    place, _ = entry(store, (0, 1))
    _, other = entry(store, (0, 2))
    data = bytearray(path.read_bytes())
    data[place : place + 16] = ENTRY.pack(*other)
    path.write_bytes(data)
    found = problems(store)
    assert any("index (0, 1): its entry points at the record of index (0, 2)" in p for p in found)
    assert any(
        "the index at its end is not a whole copy of the one at its start" in p for p in found
    )


def test_an_entry_that_points_out_of_the_file_is_found(store):
    place, _ = entry(store, (2, 0))
    flip_bit(shard_of(store), place + 6)
    assert any("index (2, 0): its entry points at bytes" in p for p in problems(store))


def test_an_entry_that_points_at_an_older_frame_is_found(store):
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members, writable=True) as group:
        old, _ = group.versions()[(0, 2)]
        (file,) = group.files.values()
        file.set_entries(array.entry((0, 2), (0, 0))[1], list(old.extents.values()))
        file.publish()
    assert validate(store)
    (problem,) = problems(store, deep=True)
    assert "index (0, 2): a whole frame (write 12) is in the file that the index passes" in problem


def test_a_flipped_byte_in_the_end_index_is_found(store):
    path = shard_of(store)
    flip_bit(path, path.stat().st_size - 30)
    (problem,) = problems(store)
    assert "c/0/0/0/0 | the index at its end is not a whole copy" in problem


def test_a_shard_file_that_was_cut_off_is_found(store):
    path = shard_of(store)
    path.write_bytes(path.read_bytes()[:50])
    found = problems(store)
    assert any("needs 192: the file was cut off; restore it" in p for p in found)
    assert any("0 frames are in the index, the root attributes say 11" in p for p in found)


def test_a_lost_shard_file_is_found(store):
    shard_of(store).unlink()
    found = problems(store)
    assert any("0 frames are in the index, the root attributes say 11" in p for p in found)
    assert any(
        "primary/cam_written | index (0, 0): counted 1 times, and is not in" in p for p in found
    )


def test_a_shard_file_of_another_array_is_found(store, tmp_path):
    other = write(tmp_path / "other.zarr", again=(2, 5))
    shard_of(store).write_bytes(shard_of(other).read_bytes())
    assert all("is of another array" in p for p in problems(store))


@pytest.mark.parametrize("name", ["x_readback", "label", "seq_num", "cam_written"])
def test_a_flipped_byte_in_a_small_array_is_found(store, name):
    (chunk,) = (p for p in (store / "primary" / name / "c").rglob("*") if p.is_file())
    flip_bit(chunk, 1)
    assert any(f"primary/{name}" in p for p in problems(store, deep=True))


def test_damaged_metadata_is_found(store):
    node = store / "primary" / "x_readback"
    good = (node / "zarr.json").read_text()
    (node / "zarr.json").write_text(good[:50])
    assert any("is not JSON" in p for p in problems(store))
    assert any("primary/x_readback is missing in the store" in p for p in problems(store))
    (node / "zarr.json").write_text(good.replace("float64", "float99"))
    assert any("x_readback | zarr-python cannot open it" in p for p in problems(store))
    (node / "zarr.json").write_text(good.replace("NaN", "Infinity"))
    assert any("primary/x_readback differs from its own zarr.json" in p for p in problems(store))


def test_dims_of_several_lengths_are_found(store):
    document = read_document(store / "primary" / "x")
    document["shape"] = [5]
    write_document(store / "primary" / "x", document)
    found = problems(store)
    assert any("dim 'x' has" in p and "xarray cannot open the group" in p for p in found)


def test_an_impossible_root_is_found(store):
    document = read_document(store)
    del document["attributes"]["published_at"]
    document["attributes"]["status"] = "perfect"
    write_document(store, document)
    found = problems(store)
    assert any("the status is 'perfect', not one of running, complete" in p for p in found)
    assert any("'published_at' is missing in a published store" in p for p in found)


def test_a_running_store_whose_writer_has_ended_is_said_to_need_recovery(tmp_path):
    store = write(tmp_path / "scan.zarr", published=False)
    document = read_document(store)
    document["attributes"]["writer"]["process_start"] = "1"
    write_document(store, document)
    (problem,) = problems(store)
    assert "the status is 'running', but its writer (process" in problem
    assert f"run recover('{store}')" in problem


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
def test_any_flipped_byte_of_a_published_store_is_found(tmp_path, codec):
    store = write(tmp_path / "scan.zarr", codec=codec, count=3)
    random = np.random.default_rng(7)
    paths = [p for p in store.rglob("*") if p.is_file() and p.name != "zarr.json"]
    for _ in range(60):
        path = paths[random.integers(len(paths))]
        place = int(random.integers(path.stat().st_size))
        flip_bit(path, place)
        assert not validate(store, deep=True), f"{path} byte {place}"
        flip_bit(path, place)
    assert validate(store, deep=True)


def test_publishing_again_what_was_killed_on_the_way_is_sound(tmp_path):
    from bluesky_zarr.store._publish import publication_steps

    store = write(tmp_path / "scan.zarr", published=False)
    steps = len(
        list(publication_steps(write(tmp_path / "b.zarr", published=False), status="complete"))
    )
    for step in range(steps - 1):
        for _ in zip(range(step), publication_steps(store, status="complete"), strict=False):
            pass
        assert validate(store, deep=True), step
    publish(store)
    assert validate(store, deep=True)
    assert json.loads((store / "zarr.json").read_text())["attributes"]["status"] == "complete"
