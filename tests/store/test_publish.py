"""Publication is one atomic step that comes last, and may be interrupted at any other."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from bluesky_zarr.store import PublishedError, SourceInfo, ZarrWriter, publish
from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._publish import entry_count, publication_steps
from bluesky_zarr.store._shard import ShardFile
from tests.store.reading import READERS, document, files_of, zarr_python

FRAMES = {
    "primary/cam": np.random.default_rng(0).integers(0, 99, (5, 30, 20)).astype("uint16"),
    "primary/diode": np.arange(5.0),
    "zoom/cam": np.random.default_rng(1).integers(0, 99, (3, 8, 8)).astype("int32"),
}


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A running store with three arrays of frames and a column, whose writer is done."""
    writer = ZarrWriter(tmp_path / "scan.zarr", attributes={"plan_name": "grid"})
    for key, frames in FRAMES.items():
        name = key.split("/")[1]
        source = SourceInfo(name, frames.dtype.name, frames.shape[1:])
        sink = writer.prepare(source, key=key, capacity=7)
        for frame in frames:
            sink.write(frame)
        sink.write(frames[0], 0)
    writer.create_array("primary/x", shape=(5,), dtype="float64", dims=("event",), units="mm")
    writer.write_chunk("primary/x", (0,), np.arange(5.0))
    writer.complete()
    return writer.path


def check(store: Path) -> None:
    for reader in READERS:
        for key, frames in FRAMES.items():
            # A group with frames of several sources is trimmed by publication itself.
            np.testing.assert_array_equal(reader(store, key)[: len(frames)], frames)


def test_the_root_says_what_became_of_the_run(store: Path) -> None:
    publish(store, status="aborted", attributes={"scan_id": 7}, reason="beam lost")
    found = document(store)["attributes"]
    assert found["status"] == "aborted"
    assert found["reason"] == "beam lost"
    assert (found["plan_name"], found["scan_id"]) == ("grid", 7)
    assert found["arrays"] == {
        "primary/cam": {"expected": 7, "written": 5},
        "primary/diode": {"expected": 7, "written": 5},
        "zoom/cam": {"expected": 7, "written": 3},
    }
    assert "writer" not in found
    created, published = (
        datetime.fromisoformat(found[f"{e}_at"]) for e in ("created", "published")
    )
    assert created <= published
    assert published.utcoffset() is not None


def test_arrays_become_what_the_other_libraries_write(store: Path) -> None:
    publish(store)
    for key in FRAMES:
        found = document(store / key)
        (sharding,) = found["codecs"]
        assert sharding["configuration"]["index_location"] == "end"
        assert [codec["name"] for codec in sharding["configuration"]["index_codecs"]] == [
            "bytes",
            "crc32c",
        ]
        (path,) = (path for path in (store / key / "c").rglob("*") if path.is_file())
        nbytes = 16 * entry_count(found)
        data = path.read_bytes()
        assert data[-4 - nbytes : -4] == data[:nbytes]
        assert data[-4:] == checksum(data[:nbytes])
    check(store)


def test_everything_is_found_in_the_consolidated_metadata(store: Path) -> None:
    publish(store)
    keys = {"primary", "zoom", "primary/x"} | set(FRAMES) | {f"{key}_written" for key in FRAMES}
    metadata = document(store)["consolidated_metadata"]["metadata"]
    assert set(metadata) == keys
    for key in FRAMES:
        codecs = metadata[key]["codecs"]
        assert codecs[0]["configuration"]["index_location"] == "end"
    group = zarr.open_group(str(store), path="primary", mode="r", use_consolidated=True)
    np.testing.assert_array_equal(group["cam"][...], FRAMES["primary/cam"])


def test_it_may_be_killed_between_any_two_steps(store: Path) -> None:
    done = []
    stop = 0
    while True:
        steps = publication_steps(store, status="complete")
        names = [name for _, name in zip(range(stop), steps, strict=False)]
        steps.close()
        done.append(names)
        check(store)
        if names[-1:] == ["root"]:
            break
        assert document(store)["attributes"]["status"] == "running"
        stop += 1
    assert len(done[-1]) > 3
    assert document(store)["attributes"]["status"] == "complete"
    before = files_of(store)
    publish(store)
    assert files_of(store) == before


@pytest.mark.parametrize("stop", range(1, 30))
def test_it_is_completed_after_having_been_killed(store: Path, stop: int) -> None:
    names = []
    for name in publication_steps(store, status="complete"):
        names.append(name)
        if len(names) == stop:
            break
    check(store)
    publish(store)
    check(store)
    assert document(store)["attributes"]["status"] == "complete"
    assert document(store)["attributes"]["arrays"]["primary/cam"] == {"expected": 7, "written": 5}


def test_the_order_of_the_steps_is_that_of_what_they_rely_on(store: Path) -> None:
    kinds = [name.split(" ")[0] for name in publication_steps(store, status="complete")]
    order = ["shard", "files", "array", "directories", "group", "root"]
    assert kinds == sorted(kinds, key=order.index)
    assert set(kinds) == set(order)


def test_an_open_handle_goes_on_reading(store: Path) -> None:
    key = "primary/cam"
    handle = zarr.open_array(str(store), path=key, mode="r")
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / key)}}
    other = tensorstore.open(spec, open=True, read=True).result()
    for _ in publication_steps(store, status="complete"):
        np.testing.assert_array_equal(handle[:5], FRAMES[key])
        np.testing.assert_array_equal(other[:5].read().result(), FRAMES[key])


def test_the_same_again_changes_nothing(store: Path) -> None:
    publish(store, status="stopped")
    before = files_of(store)
    publish(store, status="stopped", attributes={"more": 1})
    assert files_of(store) == before


def test_another_status_is_refused(store: Path) -> None:
    publish(store)
    words = "scan.zarr' is published as 'complete' already and cannot become 'recovered'"
    with pytest.raises(PublishedError, match=words):
        publish(store, status="recovered")


def test_a_flipped_bit_in_a_published_store_is_not_read(store: Path) -> None:
    publish(store)
    path = store / "zoom/cam/c/0/0/0"
    data = bytearray(path.read_bytes())
    with ShardFile(path, 7, writable=False) as shard:
        ((offset, _),) = shard.read_entries(1, 1)
    # A byte of each: a chunk's data, and the index that readers use.
    for place in (offset + 5, len(data) - 20):
        damaged = data.copy()
        damaged[place] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="checksum"):
            zarr_python(store, "zoom/cam")


def test_preallocated_space_is_given_back(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "s.zarr", codec="none")
    sink = writer.prepare(SourceInfo("cam", "uint16", (500, 500)), capacity=100)
    sink.write(np.ones((500, 500), "uint16"))
    sink.close()
    path = tmp_path / "s.zarr/cam/c/0/0/0"
    if os.stat(path).st_blocks * 512 < 5e6:
        pytest.skip("this file system does not preallocate")
    writer.publish()
    assert os.stat(path).st_blocks * 512 < 2e6


def test_a_store_without_arrays_can_be_published(tmp_path: Path) -> None:
    writer = ZarrWriter(tmp_path / "s.zarr")
    writer.publish("stopped")
    assert document(tmp_path / "s.zarr")["attributes"]["arrays"] == {}


def test_a_uri_names_the_store_as_a_path_does(store: Path) -> None:
    publish(f"file://{store}")
    assert document(store)["attributes"]["status"] == "complete"


def test_what_cannot_be_published_is_said(store: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="status 'running' is none of 'complete', 'stopped', 'ab"):
        publish(store, status="running")
    with pytest.raises(FileNotFoundError, match=r"no\.zarr' is not a Zarr v3 array or group"):
        publish(tmp_path / "no.zarr")
    zarr.create_group(str(tmp_path / "theirs.zarr"), zarr_format=3)
    with pytest.raises(
        ValueError, match=r"theirs\.zarr' is a Zarr group that bluesky-zarr did not"
    ):
        publish(tmp_path / "theirs.zarr")
    os.truncate(store / "zoom/cam/c/0/0/0", 20)
    with pytest.raises(ValueError, match=r"c/0/0/0' has 20 bytes, its index .* was cut off"):
        publish(store)
