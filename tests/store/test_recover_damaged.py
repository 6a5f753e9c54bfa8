"""What is damaged is left out and named, what is good is kept, and nothing is deleted."""

import pytest
import xarray
import zarr

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Journal, StreamTable, ZarrWriter, recover, validate
from bluesky_zarr.store._metadata import nodes, read_document, write_document
from tests.store.crashed import (
    KEY,
    copied,
    crashed,
    died,
    expect,
    flip,
    frame,
    group_of,
    opened,
    set_entry,
    shard_of,
)


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
    path = shard_of(store)
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
    whole = copied(store, "whole.zarr")
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
