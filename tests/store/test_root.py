"""A store belongs to those who write it, says where it comes from, and is never overwritten."""

from __future__ import annotations

import errno
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

from bluesky_zarr.store import SourceInfo, ZarrWriter
from bluesky_zarr.store import _provenance as provenance_module
from bluesky_zarr.store import _root as root_module
from bluesky_zarr.store._identity import is_alive, process_identity, process_start
from tests.machine import by_an_ordinary_user
from tests.store.reading import document, zarr_python

CAM = SourceInfo("cam", "uint16", (4, 6), units="counts")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "scan.zarr"


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
    assert document(path)["attributes"]["status"] == "running"


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
