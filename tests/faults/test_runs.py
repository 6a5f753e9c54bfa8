"""A run whose disk refuses ends at once, in words; the next one goes on in the same session."""

from __future__ import annotations

import errno
import os
import threading
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.utils import FailedStatus
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from bluesky_zarr.store import validate
from bluesky_zarr.store._metadata import read_document
from tests.fakes import code_of, frame_of
from tests.faults.calls import failing, watched

CALLS = [
    pytest.param(errno.ENOSPC, ("pwritev", "pwrite"), "cam/c/", 6, id="ENOSPC-append"),
    pytest.param(errno.EIO, ("pwrite",), "cam/c/", 3, id="EIO-entry"),
    pytest.param(errno.EDQUOT, ("link",), "cam/c/", 0, id="EDQUOT-link"),
    pytest.param(errno.EMFILE, ("open",), "cam/c/", 0, id="EMFILE-create"),
    pytest.param(errno.EACCES, ("mkdir",), "primary/cam", 0, id="EACCES-array"),
    pytest.param(errno.ENOSPC, ("write",), ".journal", 4, id="ENOSPC-journal"),
]


def said(error: BaseException) -> str:
    return f"{error} {error.__cause__ or ''}"


@pytest.mark.parametrize(("number", "kinds", "where", "after"), CALLS)
def test_a_disk_that_refuses_fails_the_point_and_the_next_run_works(
    lab: SimpleNamespace, number: int, kinds: tuple[str, ...], where: str, after: int
) -> None:
    announced: list[int] = []

    def note(name: str, doc: Any) -> None:
        if name == "stream_datum":
            announced.extend(range(doc["indices"]["start"], doc["indices"]["stop"]))

    lab.RE.subscribe(note)
    spec = Linspace(lab.a, 0, 3, 4) * ~Linspace(lab.b, 0, 4, 5)
    with watched(lab.storage.base, failing(number, *kinds, where=where, after=after)):
        with pytest.raises((OSError, FailedStatus)) as raised:
            lab.RE(nested_scan([lab.cam], spec))
        assert os.strerror(number) in said(raised.value)
        assert lab.RE.state == "idle"
    kept = list(announced)
    if after:
        assert kept
    failed = lab.storage.last_path
    lab.RE(nested_scan([lab.cam], spec))
    assert lab.storage.last_path != failed
    assert read_document(lab.storage.last_path)["attributes"]["status"] == "complete"
    assert validate(lab.storage.last_path, deep=True)

    assert read_document(failed)["attributes"]["status"] == "failed"
    assert os.strerror(number) in read_document(failed)["attributes"]["reason"]
    assert validate(failed, deep=True), str(validate(failed, deep=True))
    if kept:
        data = bz.open(failed)["primary"]["cam"].values
        for flat in kept:
            cell = tuple(int(n) for n in np.unravel_index(flat, (4, 5)))
            np.testing.assert_array_equal(data[cell], frame_of(code_of(cell), data.shape[2:]))


def test_a_publication_that_the_disk_refused_is_tried_again_before_the_next_plan(
    lab: SimpleNamespace,
) -> None:
    with (
        watched(lab.storage.base, failing(errno.EROFS, "ftruncate", times=1)),
        pytest.raises(OSError, match="Read-only file system"),
    ):
        lab.RE(bp.count([lab.cam], 2))
    first = lab.storage.last_path
    assert read_document(first)["attributes"]["status"] == "running"
    lab.RE(bp.count([lab.cam], 2))
    assert read_document(first)["attributes"]["status"] == "complete"
    assert validate(first, deep=True)


def test_a_run_that_could_not_be_synced_becomes_failed_not_complete(lab: SimpleNamespace) -> None:
    with (
        watched(lab.storage.base, failing(errno.EIO, "fsync", where="cam/c/", times=1)),
        pytest.raises((OSError, FailedStatus), match="Input/output error"),
    ):
        lab.RE(bp.count([lab.cam], 2))
    first = lab.storage.last_path
    lab.RE(bp.count([lab.cam], 2))
    attributes = read_document(first)["attributes"]
    assert attributes["status"] == "failed"
    assert "Input/output error" in attributes["reason"]
    assert read_document(lab.storage.last_path)["attributes"]["status"] == "complete"


def test_frames_that_the_end_of_a_run_could_not_store_make_it_failed(
    lab: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    retire = lab.cam.retire

    def full(run_uid: str) -> None:
        retire(run_uid)
        monkeypatch.undo()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(lab.cam, "retire", full)
    with pytest.raises(OSError, match="No space left"):
        lab.RE(bp.count([lab.cam], 2))
    attributes = read_document(lab.storage.last_path)["attributes"]
    assert attributes["status"] == "failed"
    assert "No space left" in attributes["reason"]


def test_runs_that_fail_leave_no_threads_and_no_open_files(lab: SimpleNamespace) -> None:
    def fails() -> None:
        fault = failing(errno.ENOSPC, "pwritev", where="cam/c/", after=2)
        with watched(lab.storage.base, fault), pytest.raises((OSError, FailedStatus)):
            lab.RE(bp.count([lab.cam], 4))

    def ours() -> int:
        # asyncio's own pool makes its threads when it first needs them.
        return sum(thread.name.startswith("bluesky-zarr") for thread in threading.enumerate())

    fails()
    files, threads = len(os.listdir("/proc/self/fd")), ours()
    for _ in range(5):
        fails()
    assert len(os.listdir("/proc/self/fd")) <= files
    assert ours() <= threads
