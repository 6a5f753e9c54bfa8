"""A disk that refuses: the writer says so at once, and what was announced stays readable."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.store import FrameSink, Layout, SourceInfo, ZarrWriter, publish, recover, validate
from bluesky_zarr.store._metadata import read_document
from tests.faults.calls import Before, failing, nothing, short, watched
from tests.faults.pictures import picture
from tests.faults.promises import read_as_announced
from tests.faults.victims import Scan
from tests.machine import SmallDisk

pytestmark = pytest.mark.filterwarnings("ignore:the layout")

SMALL = Scan("small", (4, 6), (12, 10))
LARGE = Scan("large", (4, 6), (200, 220), "blosc-zstd-1")
GROUPED = Scan("grouped", (4, 60), (16, 16), flown=True)
SCANS = (SMALL, LARGE, GROUPED)
KEY = "primary/cam0"

# The kind of call, the calls that it is made by, and what is in their paths.
CREATE_DIRECTORY = ("mkdir",), "cam0/c/1"
CREATE = ("open",), "cam0/c/1"
LINK = ("link",), "cam0/c/1"
APPEND = ("pwritev",), "cam0/c/"
ENTRY = ("pwrite",), "cam0/c/"
METADATA = ("replace",), ".json"
SYNC = ("fsync", "fdatasync"), "cam0/c/"

FAULTS = [
    pytest.param(number, *call, id=f"{errno.errorcode[number]}-{name}")
    for name, call, numbers in (
        ("mkdir", CREATE_DIRECTORY, (errno.ENOSPC, errno.EACCES, errno.EROFS)),
        ("create", CREATE, (errno.ENOSPC, errno.EMFILE, errno.EACCES, errno.EROFS)),
        ("link", LINK, (errno.ENOSPC, errno.EIO, errno.EDQUOT)),
        ("append", APPEND, (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG)),
        ("entry", ENTRY, (errno.EIO, errno.EROFS)),
    )
    for number in numbers
]


def begun(path: Path, scan: Scan) -> tuple[ZarrWriter, FrameSink]:
    # Two rows a shard, so that shards are made on the way.
    ones = (1,) * len(scan.shape)
    layout = "frames" if scan.flown else Layout((*ones, *scan.frame), (1, 6, *scan.frame))
    if scan.flown:
        layout = Layout((1, 20, *scan.frame), (1, 60, *scan.frame))
    writer = ZarrWriter(path, codec=scan.codec, layout=layout, group_seconds=60)
    info = SourceInfo("cam0", "uint16", scan.frame, geometry=scan.geometry, flown=scan.flown)
    return writer, writer.prepare(info, key=KEY)


def announced(sink: FrameSink) -> list[int]:
    return np.flatnonzero(sink.written).tolist()


def written_until_it_fails(sink: FrameSink, scan: Scan) -> OSError:
    with pytest.raises(OSError, match="could not be written") as raised:  # noqa: PT012
        for write, flat in enumerate(scan.order(), 1):
            sink.write(picture(0, flat, write, scan.frame), flat)
        sink.drain()
    return raised.value


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.name)
@pytest.mark.parametrize(("number", "kinds", "where"), FAULTS)
def test_a_call_that_fails_fails_the_write_and_keeps_what_was_announced(
    tmp_path: Path, scan: Scan, number: int, kinds: tuple[str, ...], where: str
) -> None:
    path = tmp_path / "scan.zarr"
    writer, sink = begun(path, scan)
    fault = failing(number, *kinds, after=3 if "/c/" in where[-3:] else 0, where=where)
    with watched(tmp_path, fault):
        error = written_until_it_fails(sink, scan)
        assert error.errno == number
        assert os.strerror(number) in str(error)
        assert "Mend the cause, then start a new store" in str(error)
        cells = announced(sink)
        assert cells, "the first ones had come through"
        read_as_announced(path, scan, cells)
        with pytest.raises(OSError, match="could not be written"):
            sink.write(picture(0, 0, 1, scan.frame), 0)
        with pytest.raises(OSError, match="could not be written"):
            writer.complete()
    read_as_announced(path, scan, cells)
    writer.publish("failed")
    assert read_document(path)["attributes"]["status"] == "failed"
    assert os.strerror(number) in read_document(path)["attributes"]["reason"]
    assert validate(path, deep=True), str(validate(path, deep=True))
    read_as_announced(path, scan, cells)
    # The cause is mended: the same process goes on with the next store.
    writer, sink = begun(tmp_path / "next.zarr", scan)
    for write, flat in enumerate(scan.order(), 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    writer.publish()
    assert validate(writer.path, deep=True)


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.name)
def test_short_writes_are_gone_on_with(tmp_path: Path, scan: Scan) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", scan)
    with watched(tmp_path, short(700)):
        for write, flat in enumerate(scan.order()[:12], 1):
            sink.write(picture(0, flat, write, scan.frame), flat)
        sink.drain()
        cells = announced(sink)
        writer.publish("stopped")
    assert cells
    read_as_announced(writer.path, scan, cells)
    assert validate(writer.path, deep=True)


def test_of_a_failed_fsync_the_same_bytes_are_never_tried_again(tmp_path: Path) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", SMALL)
    sink.write(picture(0, 0, 1, SMALL.frame), 0)
    synced: list[str] = []

    def before(kind: str, path: str, _: int) -> None:
        if kind in SYNC[0] and SYNC[1] in path:
            synced.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    with watched(tmp_path, before):
        with pytest.raises(OSError, match="could not be written"):
            sink.sync()
        for call in (sink.sync, sink.drain, writer.complete):
            with pytest.raises(OSError, match="Input/output error"):
                call()
    assert len(synced) == 1
    writer.publish("failed")
    assert "Input/output error" in read_document(writer.path)["attributes"]["reason"]


@pytest.mark.parametrize("where", ["cam0/c/", "zarr.json", "primary", ""])
def test_a_store_that_could_not_be_synced_is_not_called_complete(
    tmp_path: Path, where: str
) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", SMALL)
    for flat in range(24):
        sink.write(picture(0, flat, 1, SMALL.frame), flat)
    with (
        watched(tmp_path, failing(errno.EIO, "fsync", "fdatasync", where=where, times=1)),
        pytest.raises(OSError, match="Input/output error"),
    ):
        writer.publish()
    assert read_document(writer.path)["attributes"]["status"] == "running"
    with pytest.raises(OSError, match=r"could not be forced to disk.*status='failed'"):
        publish(writer.path)
    with pytest.raises(OSError, match="could not be forced to disk"):
        publish(writer.path)
    publish(writer.path, status="failed", reason="the disk")
    attributes = read_document(writer.path)["attributes"]
    assert attributes["status"] == "failed"
    assert attributes["reason"].startswith("the disk; ")
    assert "could not be forced to disk (Input/output error)" in attributes["reason"]
    assert validate(writer.path, deep=True)


def test_recover_says_of_a_store_that_it_could_not_be_synced(tmp_path: Path) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", SMALL)
    sink.write(picture(0, 0, 1, SMALL.frame), 0)
    with (
        watched(tmp_path, failing(errno.EIO, "fsync", where="cam0/c/", times=1)),
        pytest.raises(OSError, match="Input/output error"),
    ):
        writer.publish()
    died(writer.path)
    assert recover(writer.path)
    reason = read_document(writer.path)["attributes"]["reason"]
    assert "could not be forced to disk" in reason


def died(path: Path) -> None:
    start = read_document(path)["attributes"]["writer"]["process_start"]
    for node in (path, path / KEY):
        text = (node / "zarr.json").read_text()
        (node / "zarr.json").write_text(text.replace(f'"{start}"', '"1"'))


PUBLICATION = [
    pytest.param(errno.ENOSPC, ("pwrite",), id="ENOSPC-write"),
    pytest.param(errno.EDQUOT, ("open",), id="EDQUOT-create"),
    pytest.param(errno.EIO, ("replace",), id="EIO-rename"),
    pytest.param(errno.EROFS, ("ftruncate",), id="EROFS-trim"),
]


@pytest.mark.parametrize(("number", "kinds"), PUBLICATION)
def test_a_publication_that_fails_at_any_call_is_done_by_calling_it_again(
    tmp_path: Path, number: int, kinds: tuple[str, ...]
) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", SMALL)
    for flat in range(24):
        sink.write(picture(0, flat, 1, SMALL.frame), flat)
    writer.complete()
    for after in range(100):
        with watched(tmp_path, failing(number, *kinds, after=after, times=1)):
            failed = failure_of(lambda: publish(writer.path))
        if failed is None:
            break
        assert failed.errno == number
        assert read_document(writer.path)["attributes"]["status"] == "running"
        read_as_announced(writer.path, SMALL, list(range(24)))
    assert after > 0
    assert read_document(writer.path)["attributes"]["status"] == "complete"
    assert validate(writer.path, deep=True)
    assert not list(writer.path.rglob("*.tmp"))


def test_a_scan_over_many_shards_keeps_few_files_open(tmp_path: Path) -> None:
    scan = Scan("many", (60, 6), (12, 10))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    writer, sink = begun(tmp_path / "scan.zarr", scan)
    before = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 40, hard))
    try:
        for write, flat in enumerate(scan.order(), 1):
            sink.write(picture(0, flat, write, scan.frame), flat)
            assert len(os.listdir("/proc/self/fd")) < before + 20
        writer.publish()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert validate(writer.path, deep=True)


def test_workers_are_drained_before_complete_says_what_failed(tmp_path: Path) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", LARGE)
    at_work = threading.Semaphore(0)

    def before(kind: str, path: str, number: int) -> None:
        if kind == "pwritev":
            at_work.release()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    made: list[tuple[str, str]]
    with watched(tmp_path, before) as made:
        written_until_it_fails(sink, LARGE)
        with pytest.raises(OSError, match="could not be written"):
            writer.complete()
        done = len(made)
        threading.Event().wait(0.05)
        assert len(made) == done, "nobody writes any more"
    assert at_work.acquire(blocking=False)


# ------------------ a real disk


@pytest.fixture
def disk(small_disk: Callable[[str], SmallDisk]) -> Path:
    return small_disk("size=3m,nr_inodes=200").path


def filled(path: Path) -> Path:
    """Take all the room there is left."""
    file = path / "other"
    with file.open("wb", buffering=0) as other:
        for size in (2**16, 2**12, 1):
            while failure_of(lambda size=size: other.write(bytes(size))) is None:
                pass
    return file


def failure_of(action: Callable[[], object]) -> OSError | None:
    try:
        action()
    except OSError as error:
        return error
    return None


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.name)
def test_a_disk_that_fills_up_keeps_what_was_announced(disk: Path, scan: Scan) -> None:
    writer, sink = begun(disk / "scan.zarr", scan)
    for write, flat in enumerate(scan.order()[:9], 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    sink.drain()
    cells = announced(sink)
    other = filled(disk)
    error = written_until_it_fails(sink, scan)
    assert error.errno == errno.ENOSPC
    cells = sorted({*cells, *announced(sink)})
    read_as_announced(writer.path, scan, cells)
    with pytest.raises(OSError, match="No space left"):
        writer.complete()
    # Full as it is, the store is published, from what it had set aside.
    writer.publish("failed")
    assert read_document(writer.path)["attributes"]["status"] == "failed"
    assert validate(writer.path, deep=True), str(validate(writer.path, deep=True))
    read_as_announced(writer.path, scan, cells)
    other.unlink()
    writer, sink = begun(disk / "next.zarr", SMALL)
    for flat in range(24):
        sink.write(picture(0, flat, 1, SMALL.frame), flat)
    writer.publish()
    assert validate(writer.path, deep=True)


@pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.name)
def test_a_disk_that_is_full_at_publication_does_not_keep_it_from_being_complete(
    disk: Path, scan: Scan
) -> None:
    writer, sink = begun(disk / "scan.zarr", scan)
    order = scan.order()[:20]
    for write, flat in enumerate(order, 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    sink.drain()
    filled(disk)
    writer.publish()
    assert read_document(writer.path)["attributes"]["status"] == "complete"
    assert validate(writer.path, deep=True), str(validate(writer.path, deep=True))
    read_as_announced(writer.path, scan, order)


def test_a_disk_without_inodes_is_as_a_full_one(disk: Path) -> None:
    writer, sink = begun(disk / "scan.zarr", SMALL)
    sink.write(picture(0, 0, 1, SMALL.frame), 0)
    taken = 0
    while failure_of((disk / f"other{taken}").touch) is None:
        taken += 1
    error = written_until_it_fails(sink, SMALL)
    assert error.errno == errno.ENOSPC
    read_as_announced(writer.path, SMALL, announced(sink))
    for n in range(60):
        (disk / f"other{n}").unlink()
    writer.publish("failed")
    assert validate(writer.path, deep=True)


def test_a_disk_that_becomes_read_only_is_said(small_disk: Callable[[str], SmallDisk]) -> None:
    disk = small_disk("size=3m")
    writer, sink = begun(disk.path / "scan.zarr", SMALL)
    sink.write(picture(0, 0, 1, SMALL.frame), 0)
    sink._files.close()
    disk.remount("ro")
    error = written_until_it_fails(sink, SMALL)
    assert error.errno == errno.EROFS
    read_as_announced(writer.path, SMALL, announced(sink))
    disk.remount("rw")
    writer.publish("failed")
    assert validate(writer.path, deep=True)


def test_watching_changes_nothing(tmp_path: Path) -> None:
    writer, sink = begun(tmp_path / "scan.zarr", SMALL)
    quiet: Before = nothing
    with watched(tmp_path, quiet) as made:
        sink.write(picture(0, 0, 1, SMALL.frame), 0)
        writer.publish()
    kinds = {kind for kind, _ in made}
    assert {"mkdir", "open", "link", "pwritev", "pwrite", "fsync", "ftruncate", "replace"} <= kinds
