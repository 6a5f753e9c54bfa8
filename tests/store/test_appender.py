"""What is appended to a file is in it, whether it goes past the page cache or not."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.store import _appender
from bluesky_zarr.store._appender import Appender

MIB = 2**20


def appended(path: Path, lengths: list[int]) -> bytes:
    """Append parts of so many bytes; returns all of them."""
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 256, length, "u1").tobytes() for length in lengths]
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        file = Appender(fd)
        for number, part in enumerate(parts):
            assert file.end == sum(lengths[:number])
            file.append(part)
        file.finish()
    finally:
        os.close(fd)
    return b"".join(parts)


LENGTHS = [
    [],
    [1],
    [4096],
    [8 * MIB],
    [8 * MIB + 1],
    [5, 3 * MIB, 20 * MIB + 7, 0, 11],
    [8 * MIB - 3, 3, 4096 + 1],
]


@pytest.mark.parametrize("lengths", LENGTHS)
def test_all_that_is_appended_is_in_the_file(tmp_path: Path, lengths: list[int]) -> None:
    expected = appended(tmp_path / "file", lengths)
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.parametrize("lengths", LENGTHS[-2:])
def test_where_nothing_goes_past_the_cache_the_file_is_the_same(
    tmp_path: Path, monkeypatch, lengths: list[int]
) -> None:
    monkeypatch.delattr(os, "O_DIRECT", raising=False)
    expected = appended(tmp_path / "file", lengths)
    assert (tmp_path / "file").read_bytes() == expected


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="this system has no way past its cache")
def test_a_file_system_that_refuses_it_in_the_end_gets_the_bytes_through_the_cache(
    tmp_path: Path, monkeypatch
) -> None:
    written = _appender.pwrite_all
    refused = 0

    def refuse_once(fd: int, data: memoryview, offset: int) -> None:
        nonlocal refused
        if offset and not refused:
            refused += 1
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        written(fd, data, offset)

    monkeypatch.setattr(_appender, "pwrite_all", refuse_once)
    monkeypatch.setattr(_appender, "_set_direct", lambda fd, direct: True)
    expected = appended(tmp_path / "file", [20 * MIB + 7])
    assert refused
    assert (tmp_path / "file").read_bytes() == expected


def test_a_disk_that_is_full_is_named(tmp_path: Path, monkeypatch) -> None:
    def full(fd: int, data: memoryview, offset: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(_appender, "pwrite_all", full)
    with pytest.raises(OSError, match="No space left on device"):
        appended(tmp_path / "file", [9 * MIB])
