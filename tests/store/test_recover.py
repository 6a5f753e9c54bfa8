"""Whatever a dead process left becomes a published store with every frame that was whole."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import xarray
import zarr
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    Journal,
    Layout,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    _frames,
    _shard,
    recover,
    validate,
)
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._identity import process_identity
from bluesky_zarr.store._metadata import nodes, read_document, write_document
from bluesky_zarr.store._publish import publication_steps

GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * ~Linspace("x", 0, 2, 4))
KEY = "primary/cam"
T0 = 1_763_600_000.25
TILES = Layout((1, 1, 4, 4), (3, 4, 8, 4))


def frame(n, shape=(6, 8)):
    return np.random.default_rng(n).integers(0, 60_000, shape).astype("uint16")


def died(store):
    """Say that the processes which wrote the store are gone."""
    document = read_document(store)
    document["attributes"]["writer"]["process_start"] = "1"
    write_document(store, document)
    for key, document in nodes(store):
        ours = document["attributes"].get("bluesky_zarr", {})
        if "writer" in ours:
            ours["writer"]["process_start"] = "1"
            write_document(store / key, document)


def crashed(
    path, order=(0, 1, 2, 3, 2, 4), *, codec="none", layout="frames", geometry=GRID, journal=True
):
    """A store with frames (the n-th has the seed n) whose writer is gone."""
    writer = ZarrWriter(path, codec=codec, layout=layout)
    source = SourceInfo("cam", "uint16", (6, 8), geometry=geometry)
    sink = writer.prepare(source, key=KEY)
    if journal:
        with Journal(writer.path) as log:
            table = StreamTable(writer.path, "primary", geometry, log)
            table.declare({"diode": Column("number")})
            for n, k in enumerate(order):
                table.put(k, seq_num=k + 1, time=T0 + n, data={"diode": n / 2})
    for n, k in enumerate(order):
        sink.write(frame(n), k, time=T0 + n)
    sink.drain()
    died(writer.path)
    return writer.path


def group_of(store, *, writable=False):
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    return array, ShardGroup(array, members, writable=writable)


def set_entry(store, position, extents):
    array, group = group_of(store, writable=True)
    with group:
        for tile, extent in extents.items():
            place, index = array.entry(position, tile)
            group.files[place].set_entries(index, [extent])


def flip(store, position, version=-1, *, at=20):
    """Flip a bit of a frame; `at` is from the start of its encoded chunk."""
    _, group = group_of(store)
    with group:
        place, record = next(iter(group.versions()[position][version].records.values()))
        path = group.files[place].path
    data = bytearray(path.read_bytes())
    data[record.offset + at] ^= 4
    path.write_bytes(data)


def moment(value):
    """Seconds since 1970, to the microsecond that decoding keeps."""
    return round(value.astype("datetime64[ns]").astype(int) / 1e9, 6)


def opened(store):
    return xarray.open_zarr(store, group="primary").load()


def expect(store, order, **changed):
    """Everything is there, at its place, as often as it was written."""
    report = validate(store, deep=True)
    assert report, str(report)
    group = opened(store)
    newest = {k: n for n, k in enumerate(order)} | changed.get("newest", {})
    counts = np.bincount(order, minlength=12) if "counts" not in changed else changed["counts"]
    assert group["cam_written"].values.ravel().tolist() == list(counts)
    for k in range(12):
        wanted = frame(newest[k]) if newest.get(k) is not None else np.zeros((6, 8))
        assert (group["cam"].values.reshape(12, 6, 8)[k] == wanted).all(), k
    return group


# ------------------ whole


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
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    report = recover(store)
    assert report
    assert "published already (recovered): nothing to do" in str(report)
    assert before == {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    flip(store, (0, 2))
    before = {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
    report = recover(store, dry_run=True)
    assert "dry run: nothing was changed" in str(report)
    assert "index (0, 2): its newest frame is damaged" in str(report)
    assert before == {p: p.read_bytes() for p in store.rglob("*") if p.is_file()}
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
    (path,) = (p for p in (store / KEY / "c").rglob("*") if p.is_file())
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
        copy = store.parent / f"{length}.zarr"
        shutil.copytree(store, copy)
        shutil.copy(Journal.path_of(store), Journal.path_of(copy))
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


# ------------------ damaged


def test_a_damaged_frame_gives_way_to_the_good_one_before_it(tmp_path):
    order = (0, 1, 2, 3, 2, 4)
    store = crashed(tmp_path / "scan.zarr", order)
    flip(store, (0, 2))
    report = recover(store)
    assert not report
    (problem,) = report.problems
    assert problem.where == KEY
    assert problem.what == (
        "index (0, 2): its newest frame is damaged, the one before it is read (write 3)"
    )
    expect(store, order, newest={2: 2}, counts=[1, 1, 1, 1, 1, *[0] * 7])


def test_a_frame_with_nothing_good_before_it_is_marked_missing_and_the_rest_reads(tmp_path):
    order = (0, 1, 2, 3)
    store = crashed(tmp_path / "scan.zarr", order)
    flip(store, (0, 1))
    report = recover(store)
    (problem,) = report.problems
    assert problem.what == "index (0, 1): its frame is damaged and is marked as missing"
    expect(store, order, newest={1: None}, counts=[1, 0, 1, 1, *[0] * 8])


def test_a_frame_whose_head_alone_is_damaged_is_kept(tmp_path):
    order = (0, 1, 2, 3, 2)
    store = crashed(tmp_path / "scan.zarr", order)
    flip(store, (0, 2), at=-20)
    recover(store)
    group = opened(store)
    assert (group["cam"].values[0, 2] == frame(4)).all()
    assert group["cam_written"].values[0].tolist() == [1, 1, 2, 1]


def test_an_entry_that_points_at_another_frame_is_set_right(tmp_path):
    order = (0, 1, 2, 3)
    store = crashed(tmp_path / "scan.zarr", order)
    _, group = group_of(store)
    with group:
        other = group.versions()[(0, 3)][0].extents
    set_entry(store, (0, 1), other)
    set_entry(store, (2, 2), other)  # a position that was never measured
    recover(store)
    expect(store, order)


def test_a_shard_file_without_a_whole_index_is_set_aside_not_deleted(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1), journal=False)
    (path,) = (p for p in (store / KEY / "c").rglob("*") if p.is_file())
    content = path.read_bytes()[:50]
    path.write_bytes(content)
    report = recover(store)
    (problem,) = report.problems
    assert "the file was cut off" in problem.what
    assert "it is set aside as '.0.damaged'" in problem.advice
    assert path.with_name(".0.damaged").read_bytes() == content
    assert zarr.open_array(store / KEY, mode="r")[...].sum() == 0


def test_a_damaged_line_of_the_journal_is_named_and_the_rest_is_used(tmp_path):
    store = crashed(tmp_path / "scan.zarr", (0, 1, 2))
    path = Journal.path_of(store)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3].replace(b'"seq_num":2', b'"seq_num":9')
    path.write_bytes(b"".join(lines) + b'{"kind":"row","pay')
    report = recover(store)
    (problem,) = report.problems
    assert problem.where == "scan.zarr.journal: line 4", "not the torn tail"
    assert opened(store)["seq_num"].values.ravel()[:4].tolist() == [1, 0, 3, 0]


@pytest.mark.parametrize("flown", [{}, {"first": "a", "last": 3}, {"first": 0, "last": 10**30}])
def test_a_line_of_the_journal_that_nobody_can_make_sense_of_is_passed_over(tmp_path, flown):
    store = ZarrWriter(tmp_path / "scan.zarr").path
    died(store)
    with Journal(store) as journal:
        journal.append("flown", {"stream": "primary", **flown})
    assert recover(store)


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("flown", {"first": 0, "last": 10**12}),
        ("flown", {"first": 10**12, "last": 0}),
        ("row", {"index": 10**12, "data": {}}),
        ("row", {"index": 1, "data": {}, "seq_num": 2**80}),
    ],
)
def test_a_number_that_no_run_comes_to_is_passed_over_and_takes_no_memory(tmp_path, kind, numbers):
    store = ZarrWriter(tmp_path / "scan.zarr").path
    died(store)
    with Journal(store) as journal:
        table = StreamTable(store, "primary", ScanGeometry.events(), journal)
        table.put(0, seq_num=1, time=1.0, data={})
        table.close()
        journal.append(kind, {"stream": "primary", "seq_num": 2, "time": 2.0, **numbers})
    assert recover(store)
    assert zarr.open_array(store / "primary/seq_num", mode="r")[:1].tolist() == [1]
    assert zarr.open_array(store / "primary/seq_num", mode="r").shape[0] <= 2


def test_an_array_whose_document_makes_no_sense_is_not_left_out_by_publication(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    document = read_document(store / "primary/cam")
    document["attributes"]["bluesky_zarr"]["array_id"] = 5
    write_document(store / "primary/cam", document)
    report = recover(store)
    assert "not published: an array whose zarr.json is damaged would be left out" in str(report)
    assert read_document(store)["attributes"]["status"] == "running"


def test_a_store_with_damaged_metadata_is_not_published(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    (store / KEY / "zarr.json").write_text("{")
    report = recover(store)
    assert not report
    assert "is not JSON" in str(report)
    assert "not published: an array whose zarr.json is damaged would be left out" in str(report)
    assert read_document(store)["attributes"]["status"] == "running"


@pytest.mark.parametrize(
    "name", ["primary", "primary/diode", "primary/seq_num", "primary/x", f"{KEY}_written"]
)
def test_a_damaged_document_is_made_anew_where_journal_or_records_say_what_it_was(tmp_path, name):
    store = crashed(tmp_path / "scan.zarr")
    whole = tmp_path / "whole.zarr"
    shutil.copytree(store, whole)
    shutil.copy(Journal.path_of(store), Journal.path_of(whole))
    assert recover(whole)
    (store / name / "zarr.json").write_bytes(b"")
    looked = recover(store, dry_run=True)
    assert f"{name}: its damaged zarr.json would be made anew" in str(looked)
    assert (store / name / "zarr.json").read_bytes() == b""
    report = recover(store)
    assert report, str(report)
    assert f"{name}: its damaged zarr.json was made anew" in str(report)
    assert (store / name / ".zarr.json.damaged").read_bytes() == b""
    assert validate(store, deep=True), str(validate(store, deep=True))
    for key, document in nodes(whole):
        assert read_document(store / key)["attributes"] == document["attributes"]
    xarray.testing.assert_identical(opened(store), opened(whole))


def test_a_damaged_document_that_nothing_can_make_anew_stays_as_it_is(tmp_path):
    store = crashed(tmp_path / "scan.zarr")
    node = store / "mask"
    zarr.create_array(node, shape=(2,), dtype="u1")
    (node / "zarr.json").write_bytes(b"{")
    for _ in range(2):
        report = recover(store)
        assert "restore it from a copy and call again" in str(report)
        assert (node / "zarr.json").read_bytes() == b"{"
        assert read_document(store)["attributes"]["status"] == "running"


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


# ------------------ killed


def test_a_store_left_at_any_step_of_publication_is_recovered(tmp_path):
    order = (0, 1, 2, 3, 2)
    original = crashed(tmp_path / "scan.zarr", order, layout=TILES)
    copy = tmp_path / "count.zarr"
    shutil.copytree(original, copy)
    steps = list(publication_steps(copy, status="complete"))
    for step in range(len(steps)):
        store = tmp_path / f"{step}.zarr"
        shutil.copytree(original, store)
        shutil.copy(Journal.path_of(original), Journal.path_of(store))
        for _ in zip(range(step), publication_steps(store, status="complete"), strict=False):
            pass
        # Also a frame that was not entered: the indexes that publication has made are made anew.
        set_entry(store, (0, 3), {(y, x): (2**64 - 1,) * 2 for y in range(2) for x in range(2)})
        assert recover(store), steps[:step]
        expect(store, order)


WRITER = textwrap.dedent("""
    import sys, time
    import numpy as np
    from scanspec.specs import Linspace
    from bluesky_zarr.geometry import ScanGeometry
    from bluesky_zarr.store import Column, Journal, Layout, SourceInfo, StreamTable, ZarrWriter

    path, codec, tiles = sys.argv[1], sys.argv[2], sys.argv[3] == "tiles"
    geometry = ScanGeometry.from_spec(Linspace("y", 0, 1, 20) * ~Linspace("x", 0, 2, 30))
    layout = Layout((1, 1, 64, 64), (10, 30, 128, 64)) if tiles else "frames"
    writer = ZarrWriter(path, codec=codec, layout=layout)
    source = SourceInfo("cam", "uint16", (128, 128), geometry=geometry)
    sink = writer.prepare(source, key="primary/cam")
    journal = Journal(writer.path)
    table = StreamTable(writer.path, "primary", geometry, journal)
    table.declare({"diode": Column("number")})
    random = np.random.default_rng(0)
    print("ready", flush=True)
    for n in range(100_000):
        k = geometry.flat(n % 600) if n % 7 else geometry.flat(max(0, n % 600 - 1))
        frame = np.random.default_rng(n).integers(0, 60_000, (128, 128)).astype("uint16")
        sink.write(frame, k)
        if n % 3 == 0:
            sink.drain()
        table.put(k, seq_num=n + 1, time=1.7e9 + n, data={"diode": n / 2})
        if sink.completed:
            print(n, k, sink.completed, flush=True)
""")


@pytest.mark.filterwarnings("ignore:the layout")
@pytest.mark.parametrize(
    ("codec", "tiles"), [("none", "frames"), ("blosc-zstd-1", "tiles"), ("none", "tiles")]
)
def test_after_sigkill_at_a_random_moment_nothing_announced_is_lost(tmp_path, codec, tiles):
    path = tmp_path / "scan.zarr"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", WRITER, str(path), codec, tiles],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    # While it lives it is refused, by the number of its process.
    assert f"by process {process.pid}" in str(recover(path))
    time.sleep(random.uniform(0.05, 1.5))
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    # The last line may be cut anywhere.
    whole, _, _ = output.rpartition("\n")
    announced = [list(map(int, line.split())) for line in whole.splitlines()]

    report = recover(path)
    assert report, str(report)
    assert validate(path, deep=True), str(validate(path, deep=True))
    rows = [payload for kind, payload in Journal.read(path) if kind == "row"]
    newest_row = {row["index"]: row for row in rows}
    group = opened(path)
    seq_nums = group["seq_num"].values.ravel()
    assert seq_nums.tolist() == [newest_row.get(k, {}).get("seq_num", 0) for k in range(600)]
    assert len(rows) >= len(announced)
    raw = zarr.open_array(path / "primary" / "time", mode="r")[...].ravel()
    assert all(raw[k] == row["time"] for k, row in newest_row.items())

    # Frames are stored in any order, so what was announced is a number; all of them are there.
    counts = group["cam_written"].values.ravel()
    last, completed = (announced[-1][0], announced[-1][2]) if announced else (-1, 0)
    assert completed <= counts.sum() <= last + 3
    writes: dict[int, list[int]] = {}
    for n in range(int(last) + 3):
        k = n % 600 if n % 7 else max(0, n % 600 - 1)
        writes.setdefault(GEOMETRY.flat(k), []).append(n)
    data = group["cam"].values.reshape(600, 128, 128)
    for k in np.flatnonzero(counts):
        n = writes[int(k)][counts[k] - 1]
        assert (data[k] == frame(n, (128, 128))).all(), (k, n)
    assert not data[counts == 0].any()


GEOMETRY = ScanGeometry.from_spec(Linspace("y", 0, 1, 20) * ~Linspace("x", 0, 2, 30))


def test_recover_may_itself_be_killed_and_called_again(tmp_path):
    order = (0, 1, 2, 3, 2)
    script = (
        "import sys; from bluesky_zarr.store import recover; "
        "print(1, flush=True); recover(sys.argv[1])"
    )
    original = crashed(tmp_path / "scan.zarr", order)
    for delay in (0, 0.01, 0.02, 0.03):
        store = tmp_path / f"{delay}.zarr"
        shutil.copytree(original, store)
        shutil.copy(Journal.path_of(original), Journal.path_of(store))
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(store)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert recover(store)
        assert json.loads((store / "zarr.json").read_text())["attributes"]["status"] == "recovered"
        expect(store, order)
