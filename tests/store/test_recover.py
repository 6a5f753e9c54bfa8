"""Whatever a dead process left becomes a published store with every frame that was whole."""

import os
import subprocess
import sys

import numpy as np
import pytest
import zarr

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Journal, SourceInfo, ZarrWriter, _frames, _shard, recover, validate
from bluesky_zarr.store._frame_array import FrameArray
from bluesky_zarr.store._identity import process_identity
from bluesky_zarr.store._metadata import read_document, write_document

# ------------------ whole
from tests.store.crashed import (
    GRID,
    KEY,
    T0,
    TILES,
    copied,
    crashed,
    died,
    expect,
    flip,
    frame,
    group_of,
    moment,
    opened,
    set_entry,
    shard_of,
)
from tests.store.reading import files_of


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
@pytest.mark.parametrize("layout", ["frames", TILES], ids=["frames", "tiles"])
def test_frames_counts_events_and_times_are_published(tmp_path, codec, layout):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order, codec=codec, layout=layout)
    report = recover(store)
    assert report
    assert "primary/cam: 5 of 12 frames are readable" in str(report)
    assert "6 events in the journal" in str(report)
    assert str(report).endswith("published as recovered")
    group = expect(store, order)
    assert group["seq_num"].values.ravel().tolist() == [1, 2, 3, 4, 5, *[0] * 7]
    assert group["diode"].values.ravel()[:5].tolist() == [0, 0.5, 2, 1.5, 2.5]
    assert moment(group["time"].values[0, 2]) == T0 + 4
    attributes = read_document(store)["attributes"]
    assert attributes["status"] == "recovered"
    assert attributes["reason"].startswith("the writer died: process ")
    assert attributes["arrays"] == {KEY: {"expected": 12, "written": 5}}
    assert "writer" not in attributes


def test_a_second_call_says_that_it_is_done_and_changes_nothing(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    recover(store)
    before = files_of(store)
    report = recover(store)
    assert report
    assert "published already (recovered): nothing to do" in str(report)
    assert before == files_of(store)


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    flip(store, (0, 2))
    before = files_of(store)
    report = recover(store, dry_run=True)
    assert "dry run: nothing was changed" in str(report)
    assert "index (0, 2): its newest frame is damaged" in str(report)
    assert before == files_of(store)
    assert report.problems == recover(store).problems


def test_without_a_journal_the_times_are_those_of_the_frames(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1, 0), journal=False)
    assert recover(store)
    times = expect(store, (0, 1, 0))["time"].values.ravel()
    assert moment(times[0]) == T0 + 2
    assert np.isnat(times[2:]).all()


def test_an_empty_store_is_recovered(tmp_path):
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (6, 8), geometry=GRID), key=KEY)
    died(writer.path)
    assert recover(writer.path)
    assert validate(writer.path, deep=True)


def test_a_growing_store_is_as_long_as_what_is_in_it(tmp_path):
    geometry = ScanGeometry.events()
    store = crashed(tmp_path / "scan.zarr", (0, 1, 2, 1), geometry=geometry)
    assert recover(store)
    assert validate(store, deep=True)
    group = opened(store)
    assert group.sizes["event"] == 3
    assert group["cam_written"].values.tolist() == [1, 2, 1]
    assert (group["cam"].values == [frame(0), frame(3), frame(2)]).all()


def test_a_growing_store_without_a_frame_is_recovered(tmp_path):
    writer = ZarrWriter(tmp_path / "scan.zarr")
    writer.prepare(SourceInfo("cam", "uint16", (6, 8)), key=KEY)
    died(writer.path)
    assert recover(writer.path)
    assert validate(writer.path, deep=True)
    assert opened(writer.path)["cam"].shape == (0, 6, 8)


def test_a_growing_store_with_more_events_than_frames_opens(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1), geometry=ScanGeometry.events())
    with Journal(store) as journal:
        row = {"stream": "primary", "index": 4, "seq_num": 5, "time": T0, "data": {}}
        journal.append("row", row)
    assert recover(store)
    assert opened(store).sizes["event"] == 5
    assert validate(store, deep=True)


def test_while_one_process_recovers_another_one_is_refused(tmp_path):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order)
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path\n"
            "from bluesky_zarr.store._locks import only_recovery\n"
            "with only_recovery(Path(sys.argv[1])) as alone: print(alone, flush=True); input()",
            str(store),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout.readline() == "True\n"
        report = recover(store)
        assert not report
        assert "another process is recovering it at this moment" in str(report)
        assert read_document(store)["attributes"]["status"] == "running"
        assert recover(store, dry_run=True), "to look is always allowed"
    finally:
        # A process that is killed leaves nothing that keeps others out.
        holder.kill()
        holder.communicate()
    assert recover(store)
    expect(store, order)


def test_of_two_recoveries_at_once_each_ends_well(tmp_path):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order)
    code = "import sys; from bluesky_zarr.store import recover; print(recover(sys.argv[1]))"
    both = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(store)], stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    said = "".join(process.communicate()[0] for process in both)
    assert all(process.returncode == 0 for process in both)
    assert "published as recovered" in said
    expect(store, order)


def test_a_store_that_a_second_process_still_writes_is_left_alone(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    document = read_document(store / KEY)
    ours = document["attributes"]["bluesky_zarr"]["writer"]
    assert ours["pid"] == os.getpid()
    ours["process_start"] = process_identity()["process_start"]
    write_document(store / KEY, document)
    report = recover(store)
    assert not report
    assert f"primary/cam is being written by process {ours['pid']}" in str(report)


def test_the_status_that_the_run_had_by_its_own_account_is_the_reason(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    with Journal(store) as journal:
        journal.append("status", {"status": "aborted", "reason": "beam lost"})
    recover(store)
    attributes = read_document(store)["attributes"]
    assert attributes["status"] == "recovered"
    assert attributes["reason"].endswith("; the run had ended as 'aborted' (beam lost)")


# ------------------ torn


@pytest.mark.parametrize("layout", ["frames", TILES], ids=["frames", "tiles"])
def test_a_frame_that_was_not_entered_in_the_index_is_adopted(tmp_path, layout):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order, layout=layout)
    array = FrameArray(store, KEY, read_document(store / KEY))
    tiles = [(y, x) for y in range(array.tiles[0]) for x in range(array.tiles[1])]
    missing = (2**64 - 1, 2**64 - 1)
    set_entry(store, (1, 0), dict.fromkeys(tiles, missing))
    report = recover(store)
    assert report
    assert "(1 had not been entered in the index, 0 entries were set right)" in str(report)
    expect(store, order)


def test_a_frame_entered_in_half_of_its_shards_is_made_whole(tmp_path):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order, layout=TILES)
    _, group = group_of(store)
    with group:
        older = group.versions()[(0, 2)][0].extents
    set_entry(store, (0, 2), {(0, 0): older[(0, 0)]})
    report = recover(store)
    assert report
    assert "(0 had not been entered in the index, 1 entries were set right)" in str(report)
    expect(store, order)


def test_a_frame_of_which_a_tile_is_not_there_is_left_out(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1), layout=TILES)
    _, group = group_of(store)
    with group:
        place, record = group.versions()[(0, 1)][0].records[(1, 1)]
        path = group.files[place].path
    with path.open("r+b") as file:
        file.truncate(record.end - 1)
    missing = (2**64 - 1, 2**64 - 1)
    set_entry(store, (0, 1), {(y, x): missing for y in range(2) for x in range(2)})
    assert recover(store)
    expect(store, (0,))


def test_a_tail_torn_behind_a_whole_frame_is_filled_up_again(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1, 2))
    path = shard_of(store)
    os.truncate(path, path.stat().st_size - 20)  # of the zeros that fill the record up
    assert recover(store)
    expect(store, (0, 1, 2))


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
def test_records_that_follow_one_another_without_a_gap_are_found(tmp_path, monkeypatch, codec):
    order = (0, 1, 2, 3, 2, 4)
    with monkeypatch.context() as first_version:
        for module in (_frames, _shard):
            first_version.setattr(module, "ALIGNMENT", 1)
        store = crashed(tmp_path / "scan.zarr", order, codec=codec)
    set_entry(store, (0, 2), {(0, 0): (2**64 - 1, 2**64 - 1)})
    assert recover(store)
    expect(store, order)


def test_a_torn_tail_is_left_out(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1, 2))
    _, group = group_of(store)
    with group:
        (place, record) = next(iter(group.versions()[(0, 2)][0].records.values()))
        path = group.files[place].path
    set_entry(store, (0, 2), {(0, 0): (2**64 - 1, 2**64 - 1)})
    whole = path.read_bytes()
    for length in range(record.head_offset, record.end, 7):
        copy = copied(store, f"{length}.zarr")
        (copy / path.relative_to(store)).write_bytes(whole[:length])
        assert recover(copy)
        assert validate(copy, deep=True)
        assert opened(copy)["cam_written"].values.ravel()[:4].tolist() == [1, 1, 0, 0]


def test_a_frame_that_was_taken_back_stays_taken_back(tmp_path):
    writer = ZarrWriter(tmp_path / "scan.zarr", codec="none")
    sink = writer.prepare(SourceInfo("cam", "uint16", (6, 8), geometry=GRID), key=KEY)
    for n, k in enumerate((0, 1, 1)):
        sink.write(frame(n), k)
    sink.drain()
    sink.retract(0)
    sink.retract(1)
    died(writer.path)
    assert recover(writer.path)
    expect(writer.path, (1, 1), newest={1: 1}, counts=[0, 1, *[0] * 10])


# ------------------ refused


def test_a_store_whose_writer_is_alive_is_refused_by_name(tmp_path):
    writer = ZarrWriter(tmp_path / "scan.zarr")
    report = recover(writer.path)
    assert not report
    attributes = read_document(writer.path)["attributes"]
    identity = attributes["writer"]
    assert (
        f"it is being written by process {identity['pid']} on {identity['host']} since "
        f"{attributes['created_at']}"
    ) in report.problems[0].what
    assert report.problems[0].advice == (
        "wait for the process, or end it, and call again; a session that could not publish a "
        "store does so before its next plan, or by bluesky_zarr.store.publish(path)"
    )
    assert read_document(writer.path)["attributes"]["status"] == "running"


def test_a_store_of_another_host_is_refused_because_nobody_here_can_tell(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    document = read_document(store)
    document["attributes"]["writer"]["host"] = "beamline-7"
    write_document(store, document)
    (problem,) = recover(store).problems
    assert "on beamline-7 since" in problem.what
    assert "this host cannot tell whether that process is alive" in problem.what
    assert problem.advice == "call recover on beamline-7"


def test_what_is_no_store_of_ours_is_refused(tmp_path):
    zarr.create_group(str(tmp_path / "other.zarr"))
    assert "it was not written by bluesky-zarr" in str(recover(tmp_path / "other.zarr"))
    assert "is not a Zarr v3 array or group" in str(recover(tmp_path / "nothing.zarr"))
