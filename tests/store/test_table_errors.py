"""Names and positions that cannot be are refused; values that do not fit are said, and missing."""

import logging
import math

import numpy as np
import pytest
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Column, Journal, SourceInfo, StreamTable, ZarrWriter
from tests.store.tables import GRID, T0, opened

# ------------------ names


@pytest.mark.parametrize("key", ["seq_num", "time", "a/b"])
def test_a_reserved_name_is_refused_at_once(store, key):
    table = StreamTable(store, "primary", GRID, None)
    with pytest.raises(ValueError, match=f"'{key}' has a name that the store keeps .* rename the"):
        table.declare({"good": Column("number"), key: Column("number")})
    assert not (store / "primary" / "good").exists(), "none is declared"


def test_a_name_that_leaves_the_store_is_refused(store):
    table = StreamTable(store, "primary", GRID, None)
    with pytest.raises(ValueError, match="leaves the store"):
        table.declare({"..": Column("number")})
    with pytest.raises(ValueError, match="leaves the store"):
        StreamTable(store, "../primary", GRID, None)
    with pytest.raises(
        ValueError, match="an axis named 'time' has no place in the stream 'primary'"
    ):
        StreamTable(store, "primary", ScanGeometry.from_spec(Linspace("time", 0, 1, 2)), None)


def test_the_name_of_a_frame_array_or_its_counts_is_refused(store):
    ZarrWriter(store).prepare(SourceInfo("cam", "uint16", (4, 4), geometry=GRID), key="primary/cam")
    table = StreamTable(store, "primary", GRID, None)
    with pytest.raises(
        ValueError, match="'cam' has the name of an array that the stream 'primary'"
    ):
        table.declare({"cam": Column("number")})
    with pytest.raises(ValueError, match=r"'cam_written' .*the counts of the frames 'cam'"):
        table.declare({"cam_written": Column("number")})
    table.declare({"cam-sum": Column("number")})


def test_two_readings_for_one_array_are_refused(store):
    table = StreamTable(store, "primary", GRID, None)
    with pytest.raises(ValueError, match="would be stored as 'x_readback', and so would another"):
        table.declare({"x": Column("number"), "x_readback": Column("number")})


def test_declaring_again_is_fine_unless_it_differs(store):
    table = StreamTable(store, "primary", GRID, None)
    table.declare({"diode": Column("number")})
    table.declare({"diode": Column("number"), "more": Column("integer")})
    with pytest.raises(ValueError, match=r"'diode' was declared as .*use another stream for it"):
        table.declare({"diode": Column("string")})


def test_a_stream_with_rows_and_a_published_store_are_left_alone(store):
    StreamTable(store, "primary", GRID, None).declare({"diode": Column("number")})
    table = StreamTable(store, "primary", GRID, None)  # without a row, it may be begun again
    table.put(0, seq_num=1, time=T0, data={})
    with pytest.raises(ValueError, match="the stream 'primary' has rows already"):
        StreamTable(store, "primary", GRID, None)
    table.close()
    ZarrWriter(store).publish()
    with pytest.raises(ValueError, match=r"is published \(complete\); a published store is never"):
        StreamTable(store, "other", GRID, None)


def test_a_position_outside_of_the_scan_is_refused_but_journalled(store):
    with Journal(store) as journal:
        table = StreamTable(store, "primary", GRID, journal)
        with pytest.raises(
            IndexError, match="no position 6 in the stream 'primary': its scan has 6"
        ):
            table.put(6, seq_num=1, time=T0, data={})
    assert [kind for kind, _ in Journal.read(store)] == ["stream", "row"]


# ------------------ misfits


@pytest.mark.parametrize(
    ("column", "value", "stored", "words"),
    [
        (Column("number"), None, math.nan, "is no number"),
        (Column("number"), "12", math.nan, "is no number"),
        (Column("number"), 10**400, math.nan, "is no number"),
        (Column("integer"), 1.5, 0, "is no whole number"),
        (Column("integer"), None, 0, "is no whole number"),
        (Column("integer"), 2**63, 0, "is not between"),
        (Column("uint64"), -1, 0, "is not between"),
        (Column("boolean"), "yes", False, "is neither true nor false"),
        (Column("string"), None, "", "is no text"),
        (Column("string"), "\udcff", "", "is no text that UTF-8 can hold"),
    ],
)
def test_a_value_that_does_not_fit_is_missing_and_said_and_journalled(
    store, caplog, column, value, stored, words
):
    with Journal(store) as journal, caplog.at_level(logging.WARNING):
        table = StreamTable(store, "primary", GRID, journal)
        table.declare({"odd": column, "even": Column("number")})
        for k in range(3):
            table.put(k, seq_num=k + 1, time=T0, data={"odd": value, "even": k})
        table.close()
    assert opened(store)["odd"].values.ravel()[:1].tolist() == pytest.approx([stored], nan_ok=True)
    assert opened(store)["even"].values[0].tolist() == [0, 1, 2], "the event is not lost"
    assert table.misfits == {"odd": 3}
    (message,) = caplog.messages
    assert "'odd' of the stream 'primary' at position 0" in message
    assert words in message
    assert [p["data"]["odd"] for k, p in Journal.read(store) if k == "row"] == [value] * 3


def test_the_setpoints_of_an_axis_are_stored_whatever_its_reading_once_said(store):
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    table.declare({"x": Column("number")})
    table.put(0, seq_num=1, time=T0, data={"x": "stuck"})
    table.put(1, seq_num=2, time=T0, data={"x": 0.1}, setpoints={"x": 1.0})
    table.put(2, seq_num=3, time=T0, data={"x": "stuck"}, setpoints={"x": 2.0})
    table.close()
    group = opened(store)
    np.testing.assert_array_equal(group["x"].values, [np.nan, 1, 2])
    np.testing.assert_array_equal(group["x_readback"].values, [np.nan, 0.1, np.nan])
    assert table.misfits == {"x": 2}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([1, 2], r"has the shape \(2,\), not \(3,\)"),
        ([1, 2, 70_000], "does not fit into uint16"),
        ([1, 2, -1], "does not fit into uint16"),
        ([1, 2, 0.5], "is of type float64, not uint16"),
        (["a", "b", "c"], "is of type"),
        ([1, [2], 3], "is no array"),
    ],
)
def test_an_array_that_does_not_fit_is_missing_and_never_wraps(store, caplog, value, words):
    table = StreamTable(store, "primary", GRID, None)
    table.declare({"mca": Column("uint16", shape=(3,))})
    table.put(0, seq_num=1, time=T0, data={"mca": value})
    table.close()
    assert opened(store)["mca"].values[0, 0].tolist() == [0, 0, 0]
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(caplog.text)


def test_readings_that_were_not_declared_are_in_the_journal(store):
    with Journal(store) as journal:
        table = StreamTable(store, "primary", GRID, journal)
        table.put(0, seq_num=1, time=T0, data={"late": 1})
    assert next(p for k, p in Journal.read(store) if k == "row")["data"] == {"late": 1}
    assert not (store / "primary" / "late").exists()
