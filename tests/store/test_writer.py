"""Frames, groups and blocks of several writers lie in one store, each described where it is."""

from __future__ import annotations

import multiprocessing
import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import FrameSink, Layout, SourceInfo, Writer, ZarrWriter
from bluesky_zarr.store._metadata import read_document
from tests.store.reading import READERS, document, zarr_python
from tests.store.sinks import full_disk

CAM = SourceInfo("cam", "uint16", (4, 6), units="counts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.zarr"


# ---------------------------------------------------------------------- arrays of frames


def test_a_frame_array_describes_itself(path: Path) -> None:
    geometry = ScanGeometry(
        tuple(Dim(n, 3, False, (Coordinate(n, np.arange(3)),)) for n in ("mono", "x"))
    )
    writer = ZarrWriter(path)
    source = SourceInfo(
        "cam", "uint16", (4, 6), units="counts", geometry=geometry, extra={"long_name": "Camera"}
    )
    sink = writer.prepare(source, key="primary/cam")
    assert sink.uri == f"file://localhost{path}/primary/cam"
    assert sink.shape == (3, 3, 4, 6)
    assert sink.chunk_shape == (1, 1, 4, 6)
    found = document(path / "primary/cam")
    assert found["dimension_names"] == ["mono", "x", "cam_y", "cam_x"]
    assert found["attributes"]["_ARRAY_DIMENSIONS"] == ["mono", "x", "cam_y", "cam_x"]
    assert found["attributes"]["units"] == "counts"
    assert found["attributes"]["long_name"] == "Camera"
    ours = found["attributes"]["bluesky_zarr"]
    assert len(bytes.fromhex(ours["array_id"])) == 16
    assert ours["scan_ndim"] == 2
    assert [c["name"] for c in found["codecs"][0]["configuration"]["codecs"]] == [
        "bytes",
        "blosc",
        "crc32c",
    ]
    assert document(path / "primary/cam_written")["dimension_names"] == ["mono", "x"]


def test_positions_without_a_frame_are_0_or_nan(path: Path) -> None:
    writer = ZarrWriter(path)
    for dtype in ("uint16", "float32"):
        sink = writer.prepare(SourceInfo(dtype, dtype, (2,)))
        sink.write(np.ones(2, dtype), 1)
    writer.publish()
    assert zarr_python(path, "uint16").tolist() == [[0, 0], [1, 1]]
    assert np.isnan(zarr_python(path, "float32")[0]).all()


def test_each_device_needs_its_own_key(path: Path) -> None:
    writer, other = ZarrWriter(path), ZarrWriter(path)
    writer.prepare(CAM, key="primary/cam")
    words = r"array 'primary/cam' already exists in '.*scan.zarr' \(written by process \d+ on "
    for again in (writer, other):
        with pytest.raises(FileExistsError, match=words):
            again.prepare(CAM, key="primary/cam")
    with pytest.raises(FileExistsError, match="array 'primary/cam_written' already exists"):
        writer.prepare(SourceInfo("cam_written", "u1", ()), key="primary/cam_written")
    with pytest.raises(FileExistsError, match="group 'primary' already exists"):
        writer.prepare(CAM, key="primary")
    with pytest.raises(FileExistsError, match="is an array, so 'primary/cam' cannot be a group"):
        writer.prepare(CAM, key="primary/cam/roi")
    writer.create_array("x_written", shape=(2,), dtype="f8", dims=("x",))
    with pytest.raises(FileExistsError, match="array 'x_written' already exists"):
        writer.prepare(CAM, key="x")
    assert not (path / "x").exists()


@pytest.mark.parametrize("key", ["", "../cam", "/cam", "a\\b", "__cam", "a/zarr.json"])
def test_a_key_stays_in_the_store(path: Path, key: str) -> None:
    writer = ZarrWriter(path)
    with pytest.raises(ValueError, match="the key "):
        writer.prepare(CAM, key=key)
    assert os.listdir(path) == ["zarr.json"]


def test_a_link_does_not_lead_out_of_the_store(path: Path, tmp_path: Path) -> None:
    writer = ZarrWriter(path)
    (path / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="is a symbolic link"):
        writer.prepare(CAM, key="out/cam")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "string"}, "source 'cam': 'string' is not a numpy dtype|cannot be stored"),
        ({"dtype": "object"}, "frames of dtype object cannot be stored"),
        ({"shape": (0, 5)}, r"a frame of shape \(0, 5\) has no elements"),
        ({"shape": (1.5,)}, "is not a tuple of whole numbers"),
        ({"dims": ("y",)}, r"dims \('y',\) do not name each of the 2 dims"),
        ({"dims": ("y", "y")}, "do not name each of the 2 dims of the shape .* once"),
    ],
)
def test_a_source_that_cannot_be_stored_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SourceInfo(**{"name": "cam", "dtype": "uint16", "shape": (4, 6), **options})


def test_dims_of_scan_and_frame_must_differ(path: Path) -> None:
    geometry = ScanGeometry((Dim("cam_y", 2, False, (Coordinate("cam_y", np.arange(2)),)),))
    source = SourceInfo("cam", "uint16", (4, 6), geometry=geometry)
    with pytest.raises(ValueError, match="are not all different; rename the device or its dims"):
        ZarrWriter(path).prepare(source)


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout((1, 6), (1, 6)), "has 2 dims, frames of 'cam' make an array of 3: event, cam_y"),
        (Layout((2, 4, 6), (2, 4, 6)), "spans several positions of the scan"),
    ],
)
def test_a_layout_that_does_not_fit_is_refused(path: Path, layout: Layout, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ZarrWriter(path, layout=layout).prepare(CAM)


def test_a_chunk_that_the_codec_cannot_take_is_refused(path: Path) -> None:
    source = SourceInfo("cam", "uint16", (40_000, 40_000))
    with pytest.raises(
        ValueError, match=r"an inner chunk of 3\.2 GB is more than codec 'blosc-zstd"
    ):
        ZarrWriter(path).prepare(source)
    ZarrWriter(path, layout="balanced").prepare(source)


def test_complete_closes_every_sink_and_raises_the_first_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer: Writer = ZarrWriter(path)
    writer.kickoff()
    bad, good = (writer.prepare(SourceInfo(name, "uint8", ())) for name in ("bad", "good"))
    good.write(np.uint8(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full_disk)
        with pytest.raises(OSError, match="array 'bad'"):
            bad.write(np.uint8(1))
    with pytest.raises(OSError, match=r"array 'bad' in .*No space left on device"):
        writer.publish()
    assert document(path)["attributes"]["status"] == "running"
    assert writer.collect("good") == [(0, 1)]
    with pytest.raises(KeyError, match="this writer prepared no array 'ugly'"):
        writer.collect("ugly")
    writer.publish("failed")
    assert zarr_python(path, "good").tolist() == [1]


def test_the_error_is_the_reason_of_a_store_that_failed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = ZarrWriter(path)
    sink: FrameSink = writer.prepare(CAM)
    monkeypatch.setattr(sink._files, "store", lambda *args: 1 // 0)
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError.*0 positions that are readable"):
        sink.write(np.zeros((4, 6), "uint16"))
    writer.publish("failed")
    assert "ZeroDivisionError" in document(path)["attributes"]["reason"]


def write_from_another_process(path: Path, name: str) -> None:
    sink = ZarrWriter(path).prepare(SourceInfo(name, "int64", ()), key=f"primary/{name}")
    for k in range(20):
        sink.write(k)
    sink.close()


def test_processes_share_a_store_and_one_publishes(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=write_from_another_process, args=(path, name)) for name in "ab"
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    ZarrWriter(path).publish()
    for name in "ab":
        assert zarr_python(path, f"primary/{name}").tolist() == list(range(20))


# ---------------------------------------------------------------------- groups and blocks


def test_attributes_that_several_writers_set_at_once_are_all_there(path: Path) -> None:
    def add(name: str) -> None:
        writer = ZarrWriter(path)
        for n in range(30):
            writer.set_attributes("", {f"{name}{n}": n})

    ZarrWriter(path)
    threads = [threading.Thread(target=add, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    attributes = read_document(path)["attributes"]
    assert all(attributes[f"{name}{n}"] == n for name in "abc" for n in range(30))


def test_groups_and_their_attributes(path: Path) -> None:
    writer = ZarrWriter(path)
    writer.create_group("a/b", {"one": 1})
    writer.create_group("a/b", {"two": np.int64(2)})
    writer.set_attributes("a", {"three": (3.0,)})
    assert document(path / "a/b")["attributes"] == {"one": 1, "two": 2}
    assert document(path / "a")["attributes"] == {"three": [3.0]}
    with pytest.raises(FileNotFoundError, match="is not a Zarr v3 array or group"):
        writer.set_attributes("nothing", {})


@pytest.mark.parametrize("codec", ["none", "blosc-zstd-1"])
@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_blocks_are_read_as_they_were_written(
    path: Path, codec: str, shards: tuple[int, int] | None
) -> None:
    writer = ZarrWriter(path, codec=codec)
    writer.create_array(
        "cube", shape=(10, 9), dtype="float32", dims=("y", "x"), chunks=(2, 3), shards=shards,
        units="Jy", attributes={"origin": "sky"},
    )  # fmt: skip
    expected = np.random.default_rng(0).random((10, 9)).astype("float32")
    for y in (0, 4, 8):
        writer.write_chunk("cube", (y, 0), expected[y : y + 4, :5])
        writer.write_chunk("cube", (y, 5), expected[y : y + 4, 5:])
    writer.publish()
    for reader in READERS:
        np.testing.assert_array_equal(reader(path, "cube"), expected)
    found = document(path / "cube")
    assert found["dimension_names"] == found["attributes"]["_ARRAY_DIMENSIONS"] == ["y", "x"]
    assert (found["attributes"]["units"], found["attributes"]["origin"]) == ("Jy", "sky")
    assert "crc32c" in str(found["codecs"])


def test_a_large_array_is_cut_by_itself(path: Path) -> None:
    writer = ZarrWriter(path)
    writer.create_array("big", shape=(500, 1000, 1000), dtype="f4", dims=("z", "y", "x"))
    writer.create_array("small", shape=(5, 10), dtype="f4", dims=("y", "x"))
    array = zarr.open_array(str(path), path="big", mode="r")
    assert array.shards is not None
    assert np.prod(array.shards) * 4 <= 512e6
    assert 1e6 <= np.prod(array.chunks) * 4 <= 100e6
    assert zarr.open_array(str(path), path="small", mode="r").chunks == (5, 10)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dims": ("y",)}, r"dims \('y',\) do not name each of the 2 dims of the shape \(10, 9\)"),
        ({"chunks": (2,)}, r"a chunk of \(2,\) has 1 dims, the shape \(10, 9\) has 2"),
        ({"chunks": (11, 3)}, r"a chunk of \(11, 3\) is larger than the shape .*\(10, 3\) is the"),
        ({"chunks": (2, 3), "shards": (4,)}, r"a shard of \(4,\) has 1 dims"),
        ({"chunks": (2, 3), "shards": (5, 3)}, "not a whole number of inner chunks"),
        ({"shards": (4, 6)}, "are given without chunks"),
        ({"dtype": "object"}, "object"),
        ({"codec": "gzip"}, "'gzip' is not a codec"),
    ],
)
def test_an_array_that_does_not_fit_is_refused(
    path: Path, options: dict[str, Any], words: str
) -> None:
    writer = ZarrWriter(path)
    with pytest.raises(ValueError, match=words):
        writer.create_array(
            "cube", **{"shape": (10, 9), "dtype": "f4", "dims": ("y", "x"), **options}
        )
    assert not (path / "cube").exists()


@pytest.mark.parametrize(
    ("start", "block", "words"),
    [
        ((0,), np.zeros((2, 2), "f4"), "start .* has 1 dims and the block 2, the array has 2"),
        ((0, 0), np.zeros(2, "f4"), "the block 1, the array has 2"),
        ((0, 0), np.zeros((2, 2)), "float32 expected, got float64; convert it explicitly"),
        (
            (9, 0),
            np.zeros((2, 2), "f4"),
            r"\(2, 2\) from \(9, 0\) on is out of bounds of the shape",
        ),
        ((-1, 0), np.zeros((2, 2), "f4"), "is out of bounds"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(
    path: Path, start: tuple[int, ...], block: np.ndarray, words: str
) -> None:
    writer = ZarrWriter(path)
    writer.create_array("cube", shape=(10, 9), dtype="f4", dims=("y", "x"))
    with pytest.raises(ValueError, match=words):
        writer.write_chunk("cube", start, block)


def test_frames_and_blocks_do_not_mix(path: Path) -> None:
    writer = ZarrWriter(path)
    writer.prepare(CAM)
    with pytest.raises(ValueError, match="array 'cam' takes frames from its sink"):
        writer.write_chunk("cam", (0, 0, 0), np.zeros((1, 4, 6), "uint16"))
    with pytest.raises(FileNotFoundError, match="is not a Zarr v3 array or group"):
        writer.write_chunk("nothing", (0,), np.zeros(1))
