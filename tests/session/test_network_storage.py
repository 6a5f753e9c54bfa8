"""A run where the file system refuses what network file systems refuse, and a copy of its store."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import numpy as np
import pytest
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from bluesky_zarr.store import _files, recover, relayout, validate


@pytest.fixture(params=[errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP], ids=errno.errorcode.get)
def network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No locks, no renames with flags, no preallocation."""

    def refuse(*_: Any) -> NoReturn:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)
    monkeypatch.setattr(_files, "_renameat2", lambda: None)
    monkeypatch.setattr(_files, "_fallocate", lambda: None)


def test_a_run_is_stored_published_and_cut_anew_where_nothing_can_be_locked(
    network: None, lab: SimpleNamespace, tmp_path: Path
) -> None:
    lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 2, 3)))
    path = lab.storage.last_path
    assert bz.open(path).attrs["status"] == "complete"
    assert validate(path, deep=True)
    assert recover(path), "nothing is to be done, and that is no error"
    series = tmp_path / "series.zarr"
    relayout(path, series, access="series")
    assert validate(series, deep=True)
    np.testing.assert_array_equal(
        bz.open(series)["primary"]["cam"], bz.open(path)["primary"]["cam"]
    )


def test_a_copy_of_a_published_store_is_as_good_as_the_store(
    lab: SimpleNamespace, tmp_path: Path
) -> None:
    lab.RE(nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 2, 3)))
    copy = tmp_path / "archive" / lab.storage.last_path.name
    shutil.copytree(lab.storage.last_path, copy)
    assert validate(copy, deep=True)
    (shard,) = (file for file in (copy / "primary/cam/c").rglob("*") if file.is_file())
    data = bytearray(shard.read_bytes())
    offset, length = struct.unpack_from("<QQ", data, len(data) - 16 * 6 - 4)  # of the first frame
    data[offset + length // 2] ^= 1
    shard.write_bytes(data)
    assert not validate(copy, deep=True), "what a copy lost is seen on the other side"
