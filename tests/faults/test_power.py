"""After a power cut, a published store is whole, and a running one has all up to its last flush."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest

import bluesky_zarr as bz
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    FrameSink,
    Journal,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    recover,
    validate,
)
from bluesky_zarr.store._metadata import read_document
from tests.faults.calls import watched
from tests.faults.pictures import picture
from tests.faults.promises import read_as_announced
from tests.faults.victims import SCANS, Scan
from tests.store.crashed import signed

KEY = "primary/cam0"


@dataclass
class _Inode:
    """A file or directory, and what of it is on the platter: bytes, or names."""

    content: bytes = b""
    names: dict[str, _Inode] | None = None


@dataclass
class Disk:
    """What would be left of a directory if the power went now: only what was synced.

    A name is there once its directory was synced, and its bytes as they were at the last fsync of
    the file, however often it was renamed since. With `names_first`, all names are there, as a file
    system may write them before the bytes: files that were never synced are empty.
    """

    base: Path
    names_first: bool = False
    _inodes: dict[int, _Inode] = field(default_factory=dict)

    def before(self, kind: str, path: str, number: int) -> None:
        place = Path(path)
        if kind in ("fsync", "fdatasync"):
            inode = self._of(place)
            if place.is_dir():
                inode.names = {name: self._of(place / name) for name in os.listdir(place)}
            else:
                inode.content = place.read_bytes()
        elif kind in ("unlink", "replace", "rename"):
            with contextlib.suppress(FileNotFoundError):
                found = place.lstat()
                if found.st_nlink == 1:  # the number may be given to another file
                    self._inodes.pop(found.st_ino, None)

    def _of(self, path: Path) -> _Inode:
        return self._inodes.setdefault(path.lstat().st_ino, _Inode())

    def after_the_cut(self, where: Path) -> Path:
        """Make what is left, beneath another directory."""
        where.mkdir()
        self._make(self._of(self.base), self.base, where)
        return where

    def _make(self, inode: _Inode, was: Path, now: Path) -> None:
        names = inode.names or {}
        if self.names_first:
            names = {name: self._of(was / name) for name in os.listdir(was)}
        for name, child in names.items():
            if child.names is not None or (was / name).is_dir():
                (now / name).mkdir()
                self._make(child, was / name, now / name)
            else:
                (now / name).write_bytes(child.content)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    base = tmp_path / "disk"
    base.mkdir()
    disk = Disk(base)
    with watched(base, disk.before):
        yield disk


def begun(disk: Disk, scan: Scan) -> tuple[ZarrWriter, FrameSink]:
    writer = ZarrWriter(disk.base / "scan.zarr", codec=scan.codec, group_seconds=60)
    info = SourceInfo("cam0", "uint16", scan.frame, geometry=scan.geometry, flown=scan.flown)
    return writer, writer.prepare(info, key=KEY)


TRIED = [SCANS[0], SCANS[2], SCANS[5], Scan("growing", (), (20, 30), "zstd-1")]
scans = pytest.mark.parametrize("scan", TRIED, ids=lambda scan: scan.name)


@scans
def test_a_published_store_is_whole_after_a_power_cut(disk: Disk, scan: Scan) -> None:
    writer, sink = begun(disk, scan)
    for write, flat in enumerate(scan.order(), 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    writer.publish()
    path = disk.after_the_cut(disk.base.with_name("cut")) / "scan.zarr"
    assert read_document(path)["attributes"]["status"] == "complete"
    report = validate(path, deep=True)
    assert report, str(report)
    read_as_announced(path, scan, scan.order())
    assert not list(path.rglob("*.tmp"))


@scans
def test_a_running_store_has_all_up_to_its_last_flush(disk: Disk, scan: Scan) -> None:
    _, sink = begun(disk, scan)
    order = scan.order()
    for write, flat in enumerate(order, 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
        if write in (5, len(order) // 2):
            sink.drain()
            sink.sync()
    flushed = order[: len(order) // 2]
    path = disk.after_the_cut(disk.base.with_name("cut")) / "scan.zarr"
    read_as_announced(path, scan, flushed)
    signed(path, boot_id="another")
    report = recover(path)
    assert report, str(report)
    assert validate(path, deep=True), str(validate(path, deep=True))
    read_as_announced(path, scan, flushed)


@scans
def test_documents_that_the_power_cut_left_empty_are_made_anew(disk: Disk, scan: Scan) -> None:
    disk.names_first = True
    writer, sink = begun(disk, scan)
    order = scan.order()
    with Journal(writer.path) as journal:
        for write, flat in enumerate(order, 1):
            sink.write(picture(0, flat, write, scan.frame), flat)
        sink.drain()
        # Made after the last flush: neither their documents nor their chunks are on disk.
        sink.sync()
        table = StreamTable(writer.path, "primary", scan.geometry, journal)
        table.declare({"diode": Column("number")})
        for write, flat in enumerate(order, 1):
            table.put(flat, seq_num=write, time=1.7e9 + write, data={"diode": write / 2})
        table.close()
        other = StreamTable(writer.path, "baseline", ScanGeometry.events(), journal)
        other.put(0, seq_num=1, time=1.7e9, data={})
        other.close()
    path = disk.after_the_cut(disk.base.with_name("cut")) / "scan.zarr"
    for empty in ("baseline", "baseline/time", "primary/diode", "primary/seq_num"):
        assert (path / empty / "zarr.json").read_bytes() == b""
    signed(path, boot_id="another")
    report = recover(path)
    assert report, str(report)
    assert "primary/diode: its damaged zarr.json was made anew (from the journal)" in str(report)
    assert validate(path, deep=True), str(validate(path, deep=True))
    read_as_announced(path, scan, order)
    last = {flat: write for write, flat in enumerate(order, 1)}
    diode = bz.open(path)["primary"]["diode"].values.reshape(-1)
    assert {flat: diode[flat] * 2 for flat in last} == last
    assert bz.open(path)["baseline"]["seq_num"].values.tolist() == [1]


def test_frames_that_grew_after_the_last_flush_are_there_up_to_it(disk: Disk) -> None:
    disk.names_first = True
    scan = TRIED[-1]
    writer, sink = begun(disk, scan)
    for flat in range(20):
        sink.write(picture(0, flat, 1, scan.frame), flat)
    sink.drain()
    sink.sync()
    before = read_document(writer.path / KEY)["shape"]
    for flat in range(20, before[0] + 20):
        sink.write(picture(0, flat, 1, scan.frame), flat)
    sink.drain()
    assert read_document(writer.path / KEY)["shape"] != before, "it has grown"
    path = disk.after_the_cut(disk.base.with_name("cut")) / "scan.zarr"
    assert (path / KEY / "zarr.json").read_bytes() == b""
    for node in (path, path / KEY):
        document = read_document(path) if node == path else json_of(node / ".zarr.json.flushed")
        ours = document["attributes"] if node == path else document["attributes"]["bluesky_zarr"]
        ours["writer"]["boot_id"] = "another"
        name = "zarr.json" if node == path else ".zarr.json.flushed"
        (node / name).write_text(json.dumps(document))
    assert "would be made anew (that of the last flush" in str(recover(path, dry_run=True))
    report = recover(path)
    assert read_document(path)["attributes"]["status"] == "recovered", str(report)
    assert validate(path, deep=True), str(validate(path, deep=True))
    read_as_announced(path, scan, list(range(20)))
    assert not (path / KEY / ".zarr.json.flushed").exists()


def json_of(path: Path) -> dict[str, Any]:
    return json.loads(path.read_bytes())


@scans
def test_a_power_cut_at_any_sync_of_publication_leaves_a_store_that_can_be_recovered(
    tmp_path: Path, scan: Scan
) -> None:
    base = tmp_path / "disk"
    base.mkdir()
    disk = Disk(base)
    left: list[Path] = []

    turn = threading.Lock()

    def before(kind: str, path: str, number: int) -> None:
        with turn:
            if publishing and kind == "fsync":
                left.append(disk.after_the_cut(tmp_path / f"cut{len(left)}"))
            disk.before(kind, path, number)

    publishing = False
    with watched(base, before):
        writer, sink = begun(disk, scan)
        for write, flat in enumerate(scan.order(), 1):
            sink.write(picture(0, flat, write, scan.frame), flat)
        sink.drain()
        sink.sync()
        publishing = True
        writer.publish()
    assert len(left) > 5
    # One file after the other is synced by several threads: neighbours differ by little.
    for cut in left[::2]:
        path = cut / "scan.zarr"
        if read_document(path)["attributes"]["status"] == "running":
            signed(path, boot_id="another")
            assert recover(path)
        assert validate(path, deep=True), str(validate(path, deep=True))
        read_as_announced(path, scan, scan.order())


def test_the_events_of_a_run_are_there_up_to_its_close_run(lab: SimpleNamespace) -> None:
    base = lab.storage.base
    disk = Disk(base)
    cut: list[Path] = []

    def look(name: str, doc: object) -> None:
        if name == "stop":
            cut.append(disk.after_the_cut(base.with_name("cut")))

    # What was told first is asked first: the session has not heard of the stop yet.
    token = lab.storage._attached[lab.RE]
    lab.RE.unsubscribe(token)
    lab.RE.subscribe(look)
    lab.storage._attached[lab.RE] = lab.RE.subscribe(lab.storage._document)
    with watched(base, disk.before):
        lab.RE(bp.count([lab.cam], 5))
    path = cut[0] / lab.storage.last_path.name
    signed(path, boot_id="another")
    assert recover(path)
    data = bz.open(path)["primary"]
    assert data["seq_num"].values.tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(
        data["cam"].values, bz.open(lab.storage.last_path)["primary"]["cam"].values
    )
