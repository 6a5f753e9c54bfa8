"""Everything small of a stream: at its position, in its units, read by xarray, never lost."""

import math
import tracemalloc

import numpy as np
import pytest
import tensorstore
import zarr
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import Column, Journal, SourceInfo, StreamTable, ZarrWriter
from bluesky_zarr.store import _table as table_module
from bluesky_zarr.store._length import level
from tests.store.sinks import full_disk
from tests.store.tables import GRID, T0, fill, opened

# ------------------ a grid


def test_coordinates_readings_and_events_lie_over_the_dims_of_the_scan(store):
    table = StreamTable(store, "primary", GRID, None)
    columns = {
        "diode": Column("number", units="A", long_name="diode current"),
        "x": Column("float64", units="mm"),
        "scan_index": Column("integer"),
        "open": Column("boolean"),
        "sample": Column("string"),
    }
    table.declare(columns)
    fill(
        table,
        6,
        lambda k: {
            "diode": k / 2,
            "x": k + 0.1,
            "scan_index": k,
            "open": k % 2 == 0,
            "sample": "é",
        },
    )
    table.close()
    group = opened(store)
    assert group["diode"].dims == ("mono", "x")
    assert group["diode"].attrs["units"] == "A"
    assert group["diode"].attrs["long_name"] == "diode current"
    assert group["diode"].values.tolist() == [[0, 0.5, 1], [1.5, 2, 2.5]]
    assert group["x"].values.tolist() == [0, 1, 2], "the setpoints"
    assert group["x"].attrs["units"] == "mm"
    assert group["x_readback"].values[1].tolist() == pytest.approx([3.1, 4.1, 5.1])
    assert group["x_readback"].attrs["data_key"] == "x"
    assert set(group.coords) == {"mono", "x", "x_readback"}
    assert group["scan_index"].dtype == np.int64
    assert group["open"].dtype == bool
    assert group["sample"].values[1, 2] == "é"
    assert group["seq_num"].values.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert group.sel(mono=7.4, x=1)["diode"] == 2
    assert table.names == {key: key for key in columns} | {"x": "x_readback"}


def test_time_is_exact_and_decoded_and_what_was_not_measured_is_not_a_time(store):
    table = StreamTable(store, "primary", GRID, None)
    table.put(4, seq_num=1, time=T0, data={})
    table.close()
    times = opened(store)["time"].values
    off = times[1, 1] - np.datetime64("2025-11-20T00:53:20.123456")
    assert abs(off) < np.timedelta64(1, "us"), "xarray multiplies floats"
    assert np.isnat(np.delete(times.ravel(), 4)).all()
    raw = zarr.open_array(store / "primary" / "time", mode="r")[...]
    assert raw[1, 1] == T0
    assert np.isnan(np.delete(raw.ravel(), 4)).all()


def test_axes_that_share_a_dim_are_coordinates_along_it(store):
    geometry = ScanGeometry.from_spec(Linspace("y", 0, 1, 3).zip(Linspace("x", 5, 7, 3)))
    table = StreamTable(store, "primary", geometry, None)
    table.declare({"diode": Column("number"), "x": Column("number")})
    table.close()
    group = opened(store)
    (dim,) = geometry.names
    assert group["diode"].dims == group["y"].dims == group["x"].dims == (dim,)
    assert set(group.coords) == {"y", "x", "x_readback"}
    assert group["x"].values.tolist() == [5, 6, 7]


def test_small_arrays_as_readings_have_dims_of_their_own(store):
    table = StreamTable(store, "primary", GRID, None)
    columns = {
        "mca": Column("<u2", shape=(4,), dims=("channel",)),
        "image": Column(">f4", shape=(2, 3)),
    }
    table.declare(columns)
    image = np.arange(6, dtype="f4").reshape(2, 3)
    table.put(5, seq_num=1, time=T0, data={"mca": [1, 2, 3, 65535], "image": image})
    table.close()
    group = opened(store)
    assert group["mca"].dims == ("mono", "x", "mca_channel")
    assert group["mca"].dtype == np.uint16
    assert group["mca"].values[1, 2].tolist() == [1, 2, 3, 65535]
    assert group["image"].dims == ("mono", "x", "image_dim_0", "image_dim_1")
    assert (group["image"].values[1, 2] == image).all()
    assert np.isnan(group["image"].values[0]).all()


def test_readings_larger_than_a_chunk_are_cut(store):
    table = StreamTable(store, "primary", GRID, None)
    table.declare({"trace": Column("float64", shape=(70_000,))})
    trace = np.random.default_rng(1).normal(size=70_000)
    table.put(3, seq_num=1, time=T0, data={"trace": trace})
    table.close()
    array = zarr.open_array(store / "primary" / "trace", mode="r")
    assert math.prod(array.chunks) <= 65536
    assert (array[1, 0] == trace).all()


def test_what_has_no_fixed_type_or_shape_is_kept_as_json(store):
    table = StreamTable(store, "primary", GRID, None)
    columns = {
        "roi": Column("json"),
        "peaks": Column("array", shape=(0,)),
        "names": Column("string", shape=(2,)),
        "z": Column("complex128"),
    }
    table.declare(columns)
    data = {"roi": {"x": [1, 2]}, "peaks": [1.5, 2.5], "names": ["a", "b"], "z": 1j}
    table.put(0, seq_num=1, time=T0, data=data)
    table.close()
    group = opened(store)
    assert group["roi"].values[0, 0] == '{"x": [1, 2]}'
    assert group["peaks"].values[0, 0] == "[1.5, 2.5]"
    assert group["names"].values[0, 0] == '["a", "b"]'
    assert group["z"].values[0, 0] == '"1j"'


def test_the_last_event_of_a_position_wins_whole(store):
    table = StreamTable(store, "primary", GRID, None)
    table.declare({"a": Column("number"), "b": Column("number")})
    table.put(2, seq_num=3, time=T0, data={"a": 1, "b": 2})
    table.put(2, seq_num=3, time=T0 + 9, data={"a": 5})
    table.close()
    group = opened(store)
    assert group["a"].values[0, 2] == 5
    assert np.isnan(group["b"].values[0, 2]), "not the reading of another event"


def test_tensorstore_reads_the_arrays(store):
    table = StreamTable(store, "primary", GRID, None)
    table.declare({"diode": Column("number")})
    fill(table, 6, lambda k: {"diode": k})
    table.close()
    spec = {"driver": "zarr3", "kvstore": f"file://{store}/primary/diode/"}
    assert tensorstore.open(spec).result().read().result().ravel().tolist() == [0, 1, 2, 3, 4, 5]


# ------------------ events


def test_in_order_of_events_arrays_are_as_long_as_there_are_events(store):
    table = StreamTable(store, "primary", ScanGeometry.events(100), None)
    table.declare({"diode": Column("number"), "label": Column("string")})
    assert opened(store).sizes == {"event": 0}
    fill(table, 5, lambda k: {"diode": k, "label": str(k)})
    table.close()
    group = opened(store)
    assert group["diode"].values.tolist() == [0, 1, 2, 3, 4]
    assert group["label"].values.tolist() == ["0", "1", "2", "3", "4"]


def test_many_events_go_on_from_chunk_to_chunk(store):
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    table.declare({"diode": Column("number")})
    for k in range(10_000):
        table.set_row(k, k + 1, T0 + k, {"diode": k})
    table.close()
    assert opened(store)["diode"].values.tolist() == list(range(10_000))


@pytest.mark.parametrize("flushed_before", [False, True])
def test_setpoints_of_events_become_coordinates_and_make_their_readings_readbacks(
    store, flushed_before
):
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    table.declare({"x": Column("number", units="mm"), "diode": Column("number")})
    if flushed_before:
        table.put(0, seq_num=1, time=T0, data={"x": 0.01, "diode": 1})
    for k in range(flushed_before, 3):
        data = {"x": k + 0.01, "diode": 1}
        table.put(k, seq_num=k + 1, time=T0, data=data, setpoints={"x": float(k)})
    table.close()
    group = opened(store)
    assert group["x_readback"].values.tolist() == pytest.approx([0.01, 1.01, 2.01])
    expected = [math.nan if flushed_before else 0, 1, 2]
    assert group["x"].values.tolist() == pytest.approx(expected, nan_ok=True)
    assert set(group.coords) == {"x", "x_readback"}
    assert group["x"].attrs["units"] == "mm"


def test_a_running_table_is_as_long_as_the_frames_beside_it(store):
    writer = ZarrWriter(store)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 4)), key="primary/cam")
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    table.declare({"diode": Column("number")})
    for k in range(3):
        sink.write(np.full((4, 4), k, "uint16"))
        sink.drain()
        table.put(k, seq_num=k + 1, time=T0, data={"diode": k})
    table.flush(force=True)
    group = opened(store)
    assert group["cam"].shape[0] == group["diode"].shape[0]
    assert group["diode"].values[:3].tolist() == [0, 1, 2]


def test_at_the_end_arrays_in_order_of_events_have_one_length(store):
    writer = ZarrWriter(store)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 4)), key="primary/cam")
    table = StreamTable(store, "primary", ScanGeometry.events(), None)
    fill(table, 5, lambda k: {})
    sink.write(np.ones((4, 4), "uint16"))
    writer.complete()
    table.close()
    level(store)
    group = opened(store)
    assert group["cam"].shape == (5, 4, 4)
    assert group["cam_written"].values.tolist() == [1, 0, 0, 0, 0]
    assert group["seq_num"].values.tolist() == [1, 2, 3, 4, 5]


# ------------------ writing


def test_nothing_is_written_more_than_once_a_second(store, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(table_module.clock, "monotonic", lambda: now[0])
    table = StreamTable(store, "primary", GRID, None)
    for k in range(3):
        table.put(k, seq_num=k + 1, time=T0, data={})
    assert opened(store)["seq_num"].values.ravel().tolist() == [1, 0, 0, 0, 0, 0]
    now[0] += 1.01
    table.put(3, seq_num=4, time=T0, data={})
    assert opened(store)["seq_num"].values.ravel().tolist() == [1, 2, 3, 4, 0, 0]
    table.put(4, seq_num=5, time=T0, data={})
    table.flush(force=True)
    assert opened(store)["seq_num"].values.ravel().tolist() == [1, 2, 3, 4, 5, 0]


def test_what_the_disk_refused_is_written_the_next_time(store, monkeypatch):
    from bluesky_zarr.store import _small

    table = StreamTable(store, "primary", GRID, None)
    real = _small.replace_bytes

    monkeypatch.setattr(_small, "replace_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        table.put(0, seq_num=1, time=T0, data={})
    monkeypatch.setattr(_small, "replace_bytes", real)
    table.close()
    assert opened(store)["seq_num"].values[0, 0] == 1


def test_a_scan_of_a_million_points_takes_little_memory_and_disk(store):
    geometry = ScanGeometry.from_spec(Linspace("y", 0, 1, 1000) * Linspace("x", 0, 1, 1000))
    tracemalloc.start()
    try:
        with Journal(store) as journal:
            table = StreamTable(store, "primary", geometry, journal)
            table.declare({f"c{n}": Column("number") for n in range(10)})
            data = {f"c{n}": n * 1.1 for n in range(10)}
            for k in range(1000):
                table.put(k, seq_num=k + 1, time=T0, data=data)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 20e6, "of the 80 MB that the columns would have"
    sizes = [f.stat().st_size for f in (store / "primary" / "c0" / "c").rglob("*") if f.is_file()]
    assert len(sizes) == 1
    assert sizes[0] < 300_000
