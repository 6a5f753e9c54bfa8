"""In a group, what is in order of events has one length, at any time and for every reader."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import numpy as np
import pytest
import xarray
import zarr

import bluesky_zarr
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    FrameSink,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    publish,
    recover,
    validate,
)
from bluesky_zarr.store._length import lengthen
from bluesky_zarr.store._metadata import read_document, write_document
from tests.store.crashed import died
from tests.store.reading import READERS

SHAPE = (4, 6)


def frame(k: int) -> np.ndarray:
    return np.full(SHAPE, k + 1, "uint16")


def prepared(store: Path, name: str, **options: int) -> FrameSink:
    return ZarrWriter(store).prepare(
        SourceInfo(name, "uint16", SHAPE), key=f"primary/{name}", **options
    )


def table_of(store: Path) -> StreamTable:
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    table.declare({"diode": Column("number"), "spectrum": Column("float64", (3,))})
    return table


def opened(store: Path) -> xarray.Dataset:
    """As the whole tree and as one group: the two ways to open a running store."""
    with xarray.open_datatree(store, engine="zarr", consolidated=False) as tree:
        plain = tree["primary"].to_dataset().load()
    with bluesky_zarr.open(store) as tree:
        xarray.testing.assert_equal(tree["primary"].to_dataset()["cam"].load(), plain["cam"])
    return plain


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "scan.zarr"


def test_slow_frames_are_seen_as_they_come_and_nothing_else(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_zarr.store._growth.LENGTHEN_SECONDS", 0)
    sink, table = prepared(store, "cam"), table_of(store)
    assert opened(store).sizes["event"] == 0
    for k in range(5):
        sink.write(frame(k))
        sink.drain()
        table.put(k, seq_num=k + 1, time=float(k), data={"diode": k})
        table.flush(force=True)
        group = opened(store)
        assert group.sizes["event"] == k + 1
        assert group["cam"].values[:, 0, 0].tolist() == list(range(1, k + 2))
        assert group["diode"].values.tolist() == list(range(k + 1))


def test_two_cameras_of_different_progress_and_a_table_open_together(store: Path) -> None:
    fast, table = prepared(store, "cam"), table_of(store)
    for k in range(7):
        fast.write(frame(k))
    # One that comes later is as long as the rest at once.
    slow = prepared(store, "slow")
    assert opened(store).sizes["event"] >= 7
    slow.write(frame(0))
    for k in range(7, 30):
        fast.write(frame(k))
        group = opened(store)
        assert group["cam"].shape[0] == group["slow"].shape[0] > k
        assert group["slow_written"].shape == group["seq_num"].shape == group["cam_written"].shape
    for row in (2, 40):
        table.put(row, seq_num=row + 1, time=1.0, data={})
        table.flush(force=True)
        assert opened(store).sizes["event"] > row
    # The slow one goes on where the others are already, and past them.
    for k in (1, 35, 60):
        slow.write(frame(k), k)
        for reader in READERS:
            assert (reader(store, "primary/slow")[k] == k + 1).all()
        assert opened(store).sizes["event"] > k
    fast.close()
    assert opened(store).sizes["event"] > 60
    slow.close()
    table.close()
    publish(store)
    group = opened(store)
    assert group.sizes["event"] == 61
    assert np.flatnonzero(group["slow_written"].values).tolist() == [0, 1, 35, 60]
    assert np.flatnonzero(group["cam_written"].values).tolist() == list(range(30))
    assert np.flatnonzero(group["seq_num"].values).tolist() == [2, 40]
    assert validate(store, deep=True)


def test_what_is_expected_is_there_from_the_start_and_trimmed_if_it_did_not_come(
    store: Path,
) -> None:
    sink, table = prepared(store, "cam", capacity=10), table_of(store)
    assert opened(store).sizes["event"] == 10
    sink.write(frame(0))
    table.put(0, seq_num=1, time=1.0, data={"diode": 1})
    assert opened(store).sizes["event"] == 10
    sink.close()
    assert opened(store).sizes["event"] == 1
    table.put(1, seq_num=2, time=2.0, data={"diode": 1})
    table.close()
    assert opened(store).sizes["event"] == 2
    publish(store, status="stopped")
    assert opened(store).sizes["event"] == 2


def test_a_store_published_without_its_writer_keeps_every_frame(store: Path) -> None:
    sink = prepared(store, "cam")
    for k in range(9):
        sink.write(frame(k))
    sink.drain()
    # The counts on disk are older than the frames.
    publish(store, status="failed")
    assert (zarr.open_array(store / "primary/cam", mode="r")[:, 0, 0] == np.arange(1, 10)).all()
    assert zarr.open_array(store / "primary/cam_written", mode="r")[...].tolist() == [1] * 9
    assert read_document(store)["attributes"]["arrays"]["primary/cam"]["written"] == 9
    assert validate(store, deep=True)


def test_arrays_that_a_crash_left_at_several_lengths_are_recovered(store: Path) -> None:
    sink = prepared(store, "cam")
    table_of(store)
    for k in range(3):
        sink.write(frame(k))
    sink.drain()
    for key, length in (("primary/cam_written", 1), ("primary/diode", 2)):
        document = read_document(store / key)
        document["shape"][0] = length
        write_document(store / key, document)
    died(store)
    assert recover(store)
    assert opened(store).sizes["event"] == 3


def grow(store: Path, name: str, count: int) -> None:
    sink = prepared(store, name)
    for k in range(count):
        sink.write(frame(k))
    sink.drain()


def test_processes_and_threads_grow_one_group_together(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bluesky_zarr.store._growth.LENGTHEN_SECONDS", 0)
    ZarrWriter(store)
    context = multiprocessing.get_context("spawn")
    writers = [
        context.Process(target=grow, args=(store, "cam", 80)),
        context.Process(target=grow, args=(store, "other", 120)),
        threading.Thread(target=grow, args=(store, "mine", 100)),
        threading.Thread(target=grow, args=(store, "second", 60)),
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    group = opened(store)
    assert group.sizes["event"] >= 120
    for name, count in (("cam", 80), ("other", 120), ("mine", 100), ("second", 60)):
        assert (group[name].values[:count, 0, 0] == np.arange(1, count + 1)).all()


def test_arrays_of_others_are_left_alone(store: Path) -> None:
    writer = ZarrWriter(store)
    writer.prepare(SourceInfo("cam", "uint16", SHAPE), key="primary/cam")
    writer.create_array("primary/own", shape=(3,), dtype="f8", dims=("event",))
    assert lengthen(store / "primary", 8) == 8
    assert zarr.open_array(store / "primary/own", mode="r").shape == (3,)
