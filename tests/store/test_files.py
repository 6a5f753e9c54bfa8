"""Files are replaced or born whole, and a full disk is said, whatever the kernel says."""

import errno
import os
import sys
import tempfile
from pathlib import Path

import pytest

from bluesky_zarr.store import _files
from bluesky_zarr.store._files import in_memory, link_new, preallocate, pwrite_all, replace_bytes
from tests.store.sinks import full_disk


def test_a_file_is_replaced_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "zarr.json"
    for content in (b"old", b"new"):
        replace_bytes(path, content, sync=True)
    assert path.read_bytes() == b"new"
    assert [p.name for p in tmp_path.iterdir()] == ["zarr.json"]


def test_a_failed_replacement_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "zarr.json"
    replace_bytes(path, b"old")

    monkeypatch.setattr(_files.os, "pwrite", full_disk)
    with pytest.raises(OSError, match="No space left on device"):
        replace_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["zarr.json"]


def test_the_longest_name_there_is_can_be_replaced(tmp_path):
    path = tmp_path / ("x" * 255)
    replace_bytes(path, b"1")
    assert path.read_bytes() == b"1"


def test_of_two_that_create_a_file_the_second_finds_the_first_ones(tmp_path):
    path = tmp_path / "shard"
    assert link_new(path, b"first")
    assert not link_new(path, b"second")
    assert path.read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["shard"]


def test_short_writes_are_gone_on_with(tmp_path, monkeypatch):
    real = os.pwrite
    monkeypatch.setattr(_files.os, "pwrite", lambda fd, data, at: real(fd, data[:3], at))
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    try:
        pwrite_all(fd, b"0123456789", 2)
        assert os.pread(fd, 100, 0) == b"\0\x000123456789"
    finally:
        os.close(fd)


def test_an_error_names_the_file(tmp_path):
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
            pwrite_all(fd, b"x", 0)
    finally:
        os.close(fd)


def test_a_write_that_takes_nothing_does_not_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(_files.os, "pwrite", lambda *_: 0)
    with pytest.raises(OSError, match="took no more bytes"):
        pwrite_all(1, b"x", 0)


def test_preallocation_reserves_room_and_leaves_the_size_alone(tmp_path):
    fd = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    try:
        reserved = preallocate(fd, 0, 1 << 20)
        assert os.fstat(fd).st_size == 0
        assert (os.fstat(fd).st_blocks > 0) == reserved
    finally:
        os.close(fd)


def test_where_nothing_can_be_preallocated_nothing_is_wrong(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "_fallocate", lambda: None)
    assert not preallocate(-1, 0, 100)
    monkeypatch.setattr(_files, "_fallocate", lambda: lambda *_: -1)
    monkeypatch.setattr(_files.ctypes, "get_errno", lambda: errno.EOPNOTSUPP)
    assert not preallocate(-1, 0, 100)
    monkeypatch.setattr(_files.ctypes, "get_errno", lambda: errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        preallocate(-1, 0, 100)


@pytest.mark.skipif(sys.platform != "linux", reason="a tmpfs is Linux's")
def test_a_file_on_a_tmpfs_is_in_memory(tmp_path):
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for directory in (Path("/dev/shm"), tmp_path):
        above = [(len(place), kind) for place, kind in mounts if directory.is_relative_to(place)]
        with tempfile.TemporaryFile(dir=directory) as file:
            assert in_memory(file.fileno()) == (max(above)[1] == "tmpfs"), directory
