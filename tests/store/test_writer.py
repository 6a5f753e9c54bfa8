"""A store belongs to those who write it, says where it comes from, and is never overwritten."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import platform
import re
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import FrameSink, Layout, SourceInfo, Writer, ZarrWriter
from bluesky_zarr.store import _provenance as provenance_module
from bluesky_zarr.store import _root as root_module
from bluesky_zarr.store._identity import is_alive, process_identity, process_start
from bluesky_zarr.store._metadata import read_document
from tests.machine import by_an_ordinary_user
from tests.store.reading import READERS, zarr_python

CAM = SourceInfo("cam", "uint16", (4, 6), units="counts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.zarr"


def document(node: Path) -> dict[str, Any]:
    return json.loads((node / "zarr.json").read_bytes())


# ---------------------------------------------------------------------- the root


def test_a_store_stands_at_its_place_from_the_start(path: Path) -> None:
    writer = ZarrWriter(f"file://{path}", attributes={"run_uid": "abc", "status": "nonsense"})
    assert writer.uri == f"file://{path}"
    found = document(path)["attributes"]
    assert found["status"] == "running"
    assert found["run_uid"] == "abc"
    assert found["format"] == {"name": "bluesky-zarr", "version": "1"}
    assert set(found["versions"]) == {"bluesky_zarr", "zarr", "numpy", "numcodecs", "python"}
    assert found["versions"]["python"] == platform.python_version()
    assert found["created_at"].endswith("+00:00")
    assert "published_at" not in found


def test_the_writer_is_named_so_that_nobody_takes_it_for_dead(path: Path) -> None:
    ZarrWriter(path)
    writer = document(path)["attributes"]["writer"]
    assert writer["pid"] == os.getpid()
    assert is_alive(writer)


def test_a_process_is_told_apart_from_those_that_had_its_number() -> None:
    me = process_identity()
    assert is_alive(me)
    assert is_alive({**me, "process_start": "1"}) is False
    assert is_alive({**me, "boot_id": "another boot"}) is False
    assert is_alive({**me, "host": "elsewhere"}) is None
    assert is_alive({**me, "pid": "1"}) is False
    assert is_alive({}) is None
    child = subprocess.Popen(["sleep", "60"])
    start = process_start(child.pid)
    there = {**me, "pid": child.pid, "process_start": start}
    assert is_alive(there)
    child.kill()
    child.wait()
    assert is_alive(there) is False


def test_the_commit_of_the_working_directory_is_kept(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert "git_commit" not in provenance_module.provenance()
    provenance_module.git_commit.cache_clear()
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "first"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    ZarrWriter(path)
    assert document(path)["attributes"]["git_commit"] == head.stdout.strip()


def test_several_writers_share_a_running_store(path: Path) -> None:
    first, second = ZarrWriter(path), ZarrWriter(path, attributes={"sample": "gold"})
    for writer, name in ((first, "a"), (second, "b")):
        writer.prepare(SourceInfo(name, "uint8", ()), key=f"primary/{name}").write(np.uint8(1))
    first.complete()
    second.publish()
    assert document(path)["attributes"]["sample"] == "gold"
    assert zarr_python(path, "primary/a").tolist() == zarr_python(path, "primary/b").tolist() == [1]


def test_writers_that_begin_a_store_at_once_begin_one(path: Path) -> None:
    barrier = threading.Barrier(8)
    failures = []

    def begin(number: int) -> None:
        barrier.wait()
        try:
            ZarrWriter(path).prepare(SourceInfo(f"d{number}", "uint8", ()), key=f"p/d{number}")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=begin, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert [name for name in os.listdir(path) if name.endswith(".tmp")] == []


def test_a_published_store_is_never_changed(path: Path) -> None:
    writer = ZarrWriter(path)
    writer.prepare(CAM).write(np.zeros((4, 6), "uint16"))
    writer.publish()
    words = r"scan.zarr' is published \(complete\); a published store is never changed; choose an"
    for call in (
        lambda: ZarrWriter(path),
        lambda: writer.prepare(CAM, key="more"),
        lambda: writer.set_attributes("", {"a": 1}),
        lambda: writer.create_group("group"),
        lambda: writer.create_array("x", shape=(2,), dtype="f8", dims=("x",)),
    ):
        with pytest.raises(FileExistsError, match=words):
            call()


def test_what_is_not_ours_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.tex").write_text("text")
    zarr.create_group(str(tmp_path / "theirs"), zarr_format=3)
    for name, words in [
        ("file", "file' is a file; choose another path"),
        ("file/scan.zarr", "cannot be a store: '.*/file' is a file; choose another path"),
        ("full", r"with other things in it \(thesis.tex\) and no Zarr store; choose another path"),
        ("theirs", "is a Zarr group that bluesky-zarr did not make; choose another path"),
    ]:
        with pytest.raises(FileExistsError, match=words):
            ZarrWriter(tmp_path / name)
    assert sorted(os.listdir(tmp_path)) == ["file", "full", "theirs"]


def test_an_empty_directory_can_become_a_store(path: Path) -> None:
    path.mkdir()
    ZarrWriter(path)


MAY_NOT_WRITE = (
    r"scan.zarr' \(Permission denied\); this process may not write in '.*': change its perm"
)


def test_a_read_only_directory_is_named(path: Path) -> None:
    program = "import sys; from bluesky_zarr.store import ZarrWriter; ZarrWriter(sys.argv[1])"
    path.parent.chmod(0o555)
    refused = by_an_ordinary_user(program, path)
    path.parent.chmod(0o755)
    assert re.search(f"PermissionError: .*{MAY_NOT_WRITE}", refused.stderr), refused.stderr
    assert not path.exists()
    assert by_an_ordinary_user(program, path).returncode == 0


def test_a_directory_that_cannot_be_written_is_named_whichever_call_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*args: Any, **options: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "somewhere")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", refused)
        with pytest.raises(PermissionError, match=MAY_NOT_WRITE):
            ZarrWriter(path)
    with monkeypatch.context() as patch:
        patch.setattr(root_module, "link_new", refused)
        with pytest.raises(PermissionError, match=MAY_NOT_WRITE):
            ZarrWriter(path)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec": "gzip"}, '\'gzip\' is not a codec; choose one of "none", "lz4"'),
        ({"codec": "zstd-40"}, "zstd levels go from 1 to 22"),
        ({"layout": "pixels"}, "'pixels' is none of 'frames'"),
        ({"durability": "always"}, 'durability \'always\' is none of "page" .*"flush-N-frames"'),
        ({"durability": "flush-0-frames"}, "'flush-0-frames' is none of"),
        ({"durability": "flush-0.0-s"}, "'flush-0.0-s' is none of"),
        ({"durability": None}, "None is none of"),
    ],
)
def test_options_that_do_not_exist_are_refused(
    path: Path, options: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        ZarrWriter(path, **options)
    assert not path.exists()


def test_a_uri_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="data/x' is not an absolute path or file:// URI"):
        ZarrWriter("data/x")


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
    def full(fd: int, buffers: Any, offset: int) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer: Writer = ZarrWriter(path)
    writer.kickoff()
    bad, good = (writer.prepare(SourceInfo(name, "uint8", ())) for name in ("bad", "good"))
    good.write(np.uint8(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwritev", full)
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
