"""The journal alone gives the arrays that a whole run gives, and readers find them."""

import warnings

import xarray

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Column, Journal, StreamTable, ZarrWriter, fold, publish, validate
from bluesky_zarr.store._metadata import consolidated, read_document, write_document
from tests.store.reading import files_of
from tests.store.tables import GRID, T0, opened


def run(store, *, close):
    with Journal(store) as journal:
        journal.append("run", {"run_uid": "abc"})
        table = StreamTable(store, "primary", GRID, journal)
        table.declare({"x": Column("number"), "n": Column("integer"), "s": Column("string")})
        for k in (0, 1, 5, 4, 1):
            table.put(k, seq_num=k + 1, time=T0 + k, data={"x": k / 3, "n": k, "s": str(k)})
        table.put(2, seq_num=7, time=T0, data={"x": None})
        events = StreamTable(store, "monitor", ScanGeometry.events(), journal)
        events.declare({"x": Column("number", units="mm"), "mca": Column("uint8", shape=(2,))})
        for k in range(4):
            data = {"x": k + 0.5, "mca": [k, 2 * k]}
            events.put(k, seq_num=k + 1, time=T0, data=data, setpoints={"x": float(k)})
        if close:
            table.close()
            events.close()


def test_the_journal_alone_gives_the_arrays_that_a_whole_run_gives(tmp_path):
    whole, torn = ZarrWriter(tmp_path / "a.zarr").path, ZarrWriter(tmp_path / "b.zarr").path
    run(whole, close=True)
    run(torn, close=False)
    assert not opened(torn).equals(opened(whole)), "a second has not passed"
    fold(torn)
    for stream in ("primary", "monitor"):
        assert opened(torn, stream).identical(opened(whole, stream))
    once = files_of(torn)
    fold(torn)
    assert files_of(torn) == once


def test_fold_passes_over_what_cannot_be_stored_and_says_so_once(store, caplog):
    with Journal(store) as journal:
        table = StreamTable(store, "primary", GRID, journal)
        table.put(0, seq_num=1, time=T0, data={})
        for payload in ({}, {"stream": "nowhere", "index": 1}, {"stream": "primary", "index": 99}):
            journal.append("row", payload)
        journal.append("stream", {"stream": "../evil", "geometry": GRID.to_dict()})
        journal.append("from a later version", {})
        table.put(1, seq_num=2, time=T0, data={})
    fold(store)
    assert opened(store)["seq_num"].values.ravel().tolist() == [1, 2, 0, 0, 0, 0]
    assert len(caplog.messages) == 2
    assert not (store.parent / "evil").exists()


def test_fold_leaves_a_published_store_and_one_without_a_journal_alone(store):
    fold(store)
    run(store, close=True)
    ZarrWriter(store).publish()
    before = files_of(store)
    fold(store)
    assert files_of(store) == before


def test_a_published_group_opens_by_path_and_as_a_tree_without_a_warning(store):
    run(store, close=True)
    for group in (store / "primary", store / "monitor", store):
        write_document(group, consolidated(group))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        direct = xarray.open_zarr(store, group="primary").load()
        tree = xarray.open_datatree(store, engine="zarr")
        assert xarray.open_zarr(store / "primary").load().identical(direct)
    assert set(tree.groups) == {"/", "/primary", "/monitor"}
    assert tree["primary"].to_dataset().load().equals(direct)
    assert "consolidated_metadata" in read_document(store)


def test_a_stream_with_a_slash_in_its_name_is_found_by_readers(store):
    ZarrWriter(store)
    table = StreamTable(store, "fast/primary", ScanGeometry.events(), None)
    table.put(0, seq_num=1, time=T0, data={})
    table.close()
    publish(store)
    with xarray.open_datatree(store, engine="zarr", consolidated=True) as tree:
        assert tree["fast/primary/seq_num"].values.tolist() == [1]
    assert validate(store)
