"""How arrays of a scan look in Tiled."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from bluesky_tiled_plugins.writing.consolidators import (
    CONSOLIDATOR_REGISTRY,
    ConsolidatorBase,
    Patch,
    consolidator_factory,
)

from bluesky_zarr.catalog import TiledServer, register
from bluesky_zarr.catalog._consolidator import ScanArrayConsolidator
from tests.catalog.handmade import MIMETYPE, HandmadeRun


def resource(**parameters: Any) -> dict[str, Any]:
    ours = {
        "chunk_shape": [1, 1, 4, 6],
        "scan_shape": [3, 5],
        "scan_dims": ["y", "x"],
        "frame_shape": [4, 6],
        "growing": False,
    }
    return {
        "uid": "r1",
        "mimetype": MIMETYPE,
        "uri": "file://localhost/data/a.zarr/primary/cam",
        "data_key": "cam",
        "parameters": ours | parameters,
    }


def descriptor(*columns: str, dims: tuple[str, ...] = ("cam_y", "cam_x")) -> dict[str, Any]:
    cam = {"shape": [4, 6], "dims": list(dims), "dtype": "array", "dtype_numpy": "<u2"}
    return {"data_keys": {"cam": cam} | {name: {"shape": []} for name in columns}}


def datum(start: int, stop: int, seq_num: int = 1) -> dict[str, Any]:
    return {
        "indices": {"start": start, "stop": stop},
        "seq_nums": {"start": seq_num, "stop": seq_num + 1},
    }


@pytest.fixture(autouse=True)
def registered() -> None:
    register()


@pytest.fixture
def consolidator() -> ScanArrayConsolidator:
    return consolidator_factory(resource(), descriptor("x", "y"))


def test_the_shape_is_the_scans_from_the_first_frame_on(
    consolidator: ScanArrayConsolidator,
) -> None:
    assert consolidator.shape == (3, 5, 4, 6)
    consolidator.consume_stream_datum(datum(14, 15))
    assert consolidator.shape == (3, 5, 4, 6)
    assert consolidator.chunks == ((1,) * 3, (1,) * 5, (4,), (6,))


def test_a_growing_array_is_as_long_as_its_highest_position() -> None:
    growing = consolidator_factory(
        resource(scan_shape=[100], scan_dims=["event"], growing=True, chunk_shape=[1, 4, 6]),
        descriptor(),
    )
    assert growing.shape == (0, 4, 6)
    for position in (0, 1, 2, 1):
        growing.consume_stream_datum(datum(position, position + 1))
    assert growing.shape == (3, 4, 6)
    assert growing.dims == ("event", "cam_y", "cam_x")


@pytest.mark.parametrize(
    ("start", "stop", "offset", "shape"),
    [
        pytest.param(7, 8, (1, 2, 0, 0), (1, 1, 4, 6), id="one frame"),
        pytest.param(5, 10, (1, 0, 0, 0), (1, 5, 4, 6), id="a line"),
        pytest.param(8, 12, (1, 0, 0, 0), (2, 5, 4, 6), id="around a corner"),
        pytest.param(0, 15, (0, 0, 0, 0), (3, 5, 4, 6), id="everything"),
    ],
)
def test_subscribers_are_told_which_block_changed(
    consolidator: ScanArrayConsolidator,
    start: int,
    stop: int,
    offset: tuple[int, ...],
    shape: tuple[int, ...],
) -> None:
    assert consolidator.consume_stream_datum(datum(start, stop)) == Patch(shape, offset)


def test_a_position_outside_of_the_scan_is_refused(consolidator: ScanArrayConsolidator) -> None:
    with pytest.raises(ValueError, match=r"positions \[15, 16\) are not in a scan of \(3, 5\)"):
        consolidator.consume_stream_datum(datum(15, 16))


def test_a_resumed_run_may_send_the_resource_again(consolidator: ScanArrayConsolidator) -> None:
    consolidator.update_from_stream_resource(resource() | {"uid": "r2"})
    assert len(consolidator.assets) == 1


def test_another_array_for_the_same_key_is_refused(consolidator: ScanArrayConsolidator) -> None:
    other = resource() | {"uri": "file://localhost/data/b.zarr/primary/cam"}
    with pytest.raises(ValueError, match="'cam' has two arrays in one stream of one run"):
        consolidator.update_from_stream_resource(other)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"scan_dims": ["y"]}, r"scan_shape \(3, 5\) does not fit scan_dims \('y',\)"),
        ({"growing": True}, "only an array with one scan dim can grow"),
        ({"chunk_shape": [1, 4, 6]}, r"chunk_shape \(1, 4, 6\) needs one entry for each dim"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(
    parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        consolidator_factory(resource(**parameters), descriptor())


@pytest.mark.parametrize(
    ("columns", "dims"),
    [
        ((), ("scan_y", "scan_x", "cam_y", "cam_x")),
        (("x", "y"), ("scan_y", "scan_x", "cam_y", "cam_x")),
        (("scan_x", "cam_x", "cam_x_"), ("scan_y", "scan_x_", "cam_y", "cam_x__")),
    ],
)
def test_no_dim_has_the_name_of_a_column(columns: tuple[str, ...], dims: tuple[str, ...]) -> None:
    assert consolidator_factory(resource(), descriptor(*columns)).dims == dims


def test_frames_without_dims_get_names() -> None:
    made = consolidator_factory(resource(), descriptor(dims=()))
    assert made.dims == ("scan_y", "scan_x", "cam_dim0", "cam_dim1")


def test_other_peoples_zarr_arrays_are_a_stack_of_rows_as_ever() -> None:
    foreign = resource() | {"parameters": {"chunk_shape": [1, 4, 6]}}
    other = consolidator_factory(foreign, descriptor(dims=("h", "w")))
    assert type(other) is ConsolidatorBase
    other.consume_stream_datum(datum(0, 3))
    assert other.shape == (3, 4, 6)
    assert other.dims == ("time", "h", "w")


def test_somebody_elses_consolidator_keeps_its_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs(ConsolidatorBase):
        supported_mimetypes: ClassVar[set[str]] = {MIMETYPE}

    monkeypatch.setitem(CONSOLIDATOR_REGISTRY, MIMETYPE, Theirs)
    monkeypatch.setattr(ScanArrayConsolidator, "fallback", ConsolidatorBase)
    register()
    foreign = resource() | {"parameters": {"chunk_shape": [1, 4, 6]}}
    assert type(consolidator_factory(foreign, descriptor())) is Theirs
    assert type(consolidator_factory(resource(), descriptor())) is ScanArrayConsolidator


def test_a_scan_is_one_array_with_named_dims(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(), store, (3, 5), ("y", "x"))
    run.points(range(15))
    run.stop()
    cam = server.client()[run.uid]["primary"]["cam"]
    assert cam.dims == ("scan_y", "scan_x", "cam_y", "cam_x")
    np.testing.assert_array_equal(cam.read(), run.expected)
    np.testing.assert_array_equal(cam[1, 2], run.expected[1, 2])


def test_one_read_gives_events_and_frames(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(), store, (3, 5), ("y", "x"))
    run.points(range(15))
    run.stop()
    data = server.client()[run.uid]["primary"].read()
    assert data["x"].dims == ("time",)
    assert data["x"].values.tolist() == [0.0, 0.1, 0.2, 0.3, 0.4] * 3
    np.testing.assert_array_equal(data["cam"].isel(scan_y=2, scan_x=4).values, run.expected[2, 4])
    assert data.sel(time=data["time"][3])["scan_index"] == 3
    # A scan's own labels can be put on, and nothing is replaced by that.
    labelled = data.assign_coords(scan_x=[0.0, 0.1, 0.2, 0.3, 0.4])
    assert labelled["cam"].sel(scan_x=0.3, method="nearest").shape == (3, 4, 6)
    assert labelled["x"].dims == ("time",)


def test_each_announced_frame_can_be_read_while_the_run_is_open(
    server: TiledServer, store: Path
) -> None:
    run = HandmadeRun(server.writer(batch_size=1), store, (2, 3), ("y", "x"))
    client = server.client()
    order = [0, 1, 2, 5, 4, 3]  # snaked
    for done, position in enumerate(order, 1):
        run.points([position])
        data = client[run.uid]["primary"].read()
        got = data["cam"].values.reshape(6, *run.frame_shape)
        expected = run.expected.reshape(6, *run.frame_shape)
        for seen in order[:done]:
            np.testing.assert_array_equal(got[seen], expected[seen])
        assert data.sizes["time"] == done
    run.stop()


def test_a_point_repeated_after_a_pause_leaves_two_rows_and_one_frame(
    server: TiledServer, store: Path
) -> None:
    run = HandmadeRun(server.writer(), store, (4,), ("event",), growing=True)
    run.points([0, 1])
    run.announce_resource("cam")
    run.points([1, 2, 3])
    run.stop()
    data = server.client()[run.uid]["primary"].read()
    assert data.sizes["time"] == 5
    assert data.sizes["event"] == 4
    np.testing.assert_array_equal(data["cam"].values, run.expected)


def test_a_frame_before_its_row_does_not_break_reading(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(), store, (4,), ("event",), growing=True)
    run.points([0])
    run.frame(1)
    data = server.client()[run.uid]["primary"].read()
    assert (data.sizes["time"], data.sizes["event"]) == (1, 2)
    run.stop()


def test_documents_sent_in_batches_give_the_same_array(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(batch_size=10_000), store, (3, 4), ("y", "x"))
    run.points([0, 1, 2, 3, 7, 6, 5, 4, 8, 9, 9, 10, 11])
    run.stop()
    np.testing.assert_array_equal(server.client()[run.uid]["primary"]["cam"].read(), run.expected)


def test_tiled_finds_nothing_to_mend(
    server: TiledServer, store: Path, recwarn: pytest.WarningsRecorder
) -> None:
    run = HandmadeRun(server.writer(), store, (3, 4), ("y", "x"))
    run.points(range(12))
    run.stop()
    client = server.client()[run.uid]
    assert client.validate(raise_on_error=True)
    assert "notes" not in client.metadata
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []
    names = [name for name, _ in client.documents()]
    assert names.count("event") == 12
    assert (names[0], names[-1]) == ("start", "stop")


def test_two_cameras_share_the_scans_dims(server: TiledServer, store: Path) -> None:
    run = HandmadeRun(server.writer(), store, (2, 3), ("y", "x"), cameras=("cam", "side"))
    run.points(range(6))
    run.stop()
    data = server.client()[run.uid]["primary"].read()
    assert data["cam"].dims == ("scan_y", "scan_x", "cam_y", "cam_x")
    assert data["side"].dims == ("scan_y", "scan_x", "side_y", "side_x")
