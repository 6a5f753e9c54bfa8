"""The same values through zarr-python, xarray and a stock Tiled server, live and afterwards."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
import zarr
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr import Storage
from bluesky_zarr.catalog import TiledServer, dataset, serve
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.plans import nested_scan, zoom_scan
from tests.fakes import Diode, PositionCamera, code_of, frame_of, instant_motor, spec_of
from tests.pausing import pausing, run_through

SIZES = (3, 2, 2, 2, 2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("catalogued")


@pytest.fixture(scope="module")
def server(base: Path) -> Iterator[TiledServer]:
    with serve(readable_storage=base) as server:
        yield server


@pytest.fixture
def bench(RE: RunEngine, base: Path) -> SimpleNamespace:
    with init_devices():
        motors = [instant_motor(name) for name in "abcde"]
        one = PositionCamera(motors, (3, 4), name="one")
        two = PositionCamera(motors, (5,), offset=7, name="two")
    storage = Storage(f"file://{base}")
    storage.attach(RE)
    storage.inject(one, two)
    return SimpleNamespace(RE=RE, storage=storage, motors=motors, one=one, two=two)


@pytest.mark.parametrize("depth", [2, 3, 4, 5])
def test_every_frame_is_equal_through_zarr_xarray_and_tiled(
    bench: SimpleNamespace, server: TiledServer, depth: int
) -> None:
    bench.RE.subscribe(server.writer(batch_size=1000))
    motors = bench.motors[:depth]
    bench.one.motors = bench.two.motors = motors
    catalog = server.client()
    # The slowest dim is never snaked; each of the others is both ways.
    for snaked in itertools.product((False, True), repeat=depth - 1):
        spec = spec_of(motors, SIZES, (False, *snaked))
        uid = bench.RE(nested_scan([bench.one, bench.two], spec)).run_start_uids[0]
        path = bench.storage.last_path
        run = catalog[uid]["primary"]
        tree = bz.open(path)["primary"]
        for camera in (bench.one, bench.two):
            raw = zarr.open_array(path / "primary" / camera.name, mode="r")[:]
            for cell in np.ndindex(SIZES[:depth]):
                np.testing.assert_array_equal(
                    raw[cell], frame_of(code_of(cell), camera.shape, camera.offset)
                )
            np.testing.assert_array_equal(tree[camera.name].values, raw)
            np.testing.assert_array_equal(run[camera.name].read(), raw)
        assert run["one"].dims == (*(f"scan_{m.name}" for m in motors), "one_y", "one_x")


def test_a_stream_read_from_tiled_is_one_labelled_dataset(
    bench: SimpleNamespace, server: TiledServer
) -> None:
    bench.RE.subscribe(server.writer())
    a, b = bench.motors[:2]
    bench.one.motors = [a, b]
    uid = bench.RE(
        nested_scan([bench.one], Linspace(a, 0, 2, 3) * ~Linspace(b, 0, 1, 2))
    ).run_start_uids[0]
    stream = server.client()[uid]["primary"]
    read = stream.read()
    assert read["a"].dims == ("time",)
    assert read["one"].dims == ("scan_a", "scan_b", "one_y", "one_x")
    rows = read["one"].values.reshape(6, 3, 4)[read["scan_index"].values.astype(int)]
    for row, place in enumerate(zip(read["a"].values, read["b"].values, strict=True)):
        np.testing.assert_array_equal(rows[row], frame_of(code_of(place), (3, 4)))
    labelled = dataset(stream)
    np.testing.assert_array_equal(
        labelled["one"].sel(a=2, b=1).values, frame_of(code_of((2, 1)), (3, 4))
    )
    assert labelled["a_readback"].sel(a=2, b=1) == 2


def test_each_announced_frame_is_right_while_the_scan_runs(
    bench: SimpleNamespace, server: TiledServer
) -> None:
    bench.RE.subscribe(server.writer(batch_size=1))
    a, b = bench.motors[:2]
    bench.one.motors = [a, b]
    catalog = server.client()
    seen = []

    def look(name: str, doc: Any) -> None:
        if name == "start":
            seen.append(doc["uid"])
        if name == "stream_datum":
            position = doc["indices"]["start"]
            cell = tuple(int(i) for i in np.unravel_index(position, (3, 2)))
            frame = catalog[seen[0]]["primary"]["one"][cell]
            np.testing.assert_array_equal(frame, frame_of(code_of(cell), (3, 4)))
            seen.append(position)

    bench.RE.subscribe(look)
    bench.RE(nested_scan([bench.one], Linspace(a, 0, 2, 3) * ~Linspace(b, 0, 1, 2)))
    assert seen[1:] == [0, 1, 3, 2, 4, 5]


def test_a_paused_scan_is_read_through_tiled(bench: SimpleNamespace, server: TiledServer) -> None:
    bench.RE.subscribe(server.writer(batch_size=1))
    a, b = bench.motors[:2]
    bench.one.motors = [a, b]
    bench.RE.preprocessors.append(lambda plan: pausing(plan, set(range(6, 60, 5)), [0]))
    run_through(bench.RE, bp.grid_scan([bench.one], a, 0, 2, 3, b, 0, 1, 2, snake_axes=True))
    run = server.client().values().last()["primary"]
    for cell in np.ndindex(3, 2):
        np.testing.assert_array_equal(run["one"][cell], frame_of(code_of(cell), (3, 4)))
    assert dataset(run)["one"].sel(a=1, b=1).shape == (3, 4)


def test_in_order_of_events_through_tiled(bench: SimpleNamespace, server: TiledServer) -> None:
    bench.RE.subscribe(server.writer(batch_size=1))
    bench.one.motors = []
    uid = bench.RE(bp.count([bench.one], 4)).run_start_uids[0]
    stream = server.client()[uid]["primary"]
    assert stream["one"].dims == ("event", "one_y", "one_x")
    assert stream["one"].shape == (4, 3, 4)
    assert stream.read()["one"].shape == (4, 3, 4)


def test_databroker_reads_the_same_run(
    bench: SimpleNamespace, server: TiledServer, tmp_path: Path
) -> None:
    databroker = pytest.importorskip("databroker", reason="the databroker extra is not installed")
    bench.RE.subscribe(server.writer())
    (a,) = bench.motors[:1]
    bench.one.motors = [a]
    uid = bench.RE(nested_scan([bench.one], Linspace(a, 0, 2, 3))).run_start_uids[0]
    with server.profile("beamline", tmp_path):
        run = databroker.from_profile("beamline")[uid]
        for k in range(3):
            np.testing.assert_array_equal(run["primary"]["one"][k], frame_of(code_of((k,)), (3, 4)))


def test_a_search_inside_of_two_outer_axes_is_ragged_and_right_everywhere(
    bench: SimpleNamespace, server: TiledServer
) -> None:
    bench.RE.subscribe(server.writer(batch_size=1000))
    a, b, c = bench.motors[:3]

    def top(a: float, b: float) -> float:
        return 20 + 15 * a + 5 * b

    with init_devices():
        # The peak wanders with the outer axes; at (1, 1) there is none.
        diode = Diode(
            [a, b, c],
            lambda a, b, c: 10 + (a * b < 1) * 900 * 2 ** -(((c - top(a, b)) / 3) ** 2),
        )
    bench.one.motors = [a, b, c]
    outer = Linspace(a, 0, 1, 2) * ~Linspace(b, 0, 1, 2)
    result = bench.RE(zoom_scan([diode, bench.one], "diode", c, 0, 60, narrowest=4, outer=outer))
    found = result.plan_result
    places = list(ScanGeometry.from_spec(outer).points())
    tree = bz.open(bench.storage.last_path)
    run = server.client()[result.run_start_uids[0]]

    coarse = tree["primary"].to_dataset()
    assert coarse["one"].dims[:3] == ("a", "b", "c")
    for cell in np.ndindex(coarse["diode"].shape):
        at = (*cell[:2], float(coarse["c"][cell[2]]))
        np.testing.assert_array_equal(coarse["one"].values[cell], frame_of(code_of(at), (3, 4)))

    ragged = tree["zoom"].to_dataset()
    assert len(set(np.bincount(ragged["parent"].values, minlength=4))) > 1
    for row, parent in enumerate(ragged["parent"].values):
        at = (places[parent]["a"], places[parent]["b"], float(ragged["c"][row]))
        assert (ragged["a"].values[row], ragged["b"].values[row]) == at[:2]
        np.testing.assert_array_equal(ragged["one"].values[row], frame_of(code_of(at), (3, 4)))

    peaks = tree["peaks"].to_dataset()
    with_peak = [n for n, place in enumerate(places) if place["a"] * place["b"] < 1]
    assert peaks["parent"].values.tolist() == list(found.parents) == with_peak
    tops = [top(**places[n]) for n in with_peak]
    np.testing.assert_allclose(peaks["center"].values, tops, atol=0.05)
    np.testing.assert_allclose(peaks["fwhm"].values, 6, rtol=0.02)
    assert "Outer point 2: " in found.why

    for stream in ("primary", "zoom"):
        np.testing.assert_array_equal(run[stream]["one"].read(), tree[stream]["one"].values)
    np.testing.assert_array_equal(run["peaks"]["center"].read(), peaks["center"].values)
    assert len(tree["merged"]["diode"]) == found.points
