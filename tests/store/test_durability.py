"""When frames go to disk before publication: after so many, or so often; nobody waits for it."""

from __future__ import annotations

import errno
import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import FrameSink, Layout, SourceInfo, ZarrWriter, publish
from bluesky_zarr.store import _files as files_module
from bluesky_zarr.store._files import SyncError
from bluesky_zarr.store._shard import ShardFile

pytestmark = pytest.mark.filterwarnings("ignore:the layout")
LARGE = (300, 300)  # stored by a worker
SCAN = ScanGeometry((Dim("x", 20, False, (Coordinate("x", np.arange(20.0)),)),))
# A shard holds 5 positions.
FIVES = Layout((1, *LARGE), (5, *LARGE))
FOREVER = "flush-10000-s"


def prepare(path: Path, durability: str, *, flown: bool = False) -> FrameSink:
    if flown:
        writer = ZarrWriter(path, durability=durability, layout=Layout((5, 4, 4), (5, 4, 4)))
        return writer.prepare(SourceInfo("cam", "uint16", (4, 4), geometry=SCAN, flown=True))
    writer = ZarrWriter(path, durability=durability, layout=FIVES, codec="none")
    return writer.prepare(SourceInfo("cam", "uint16", LARGE, geometry=SCAN), key="primary/cam")


def frame(k: int) -> np.ndarray:
    return np.full(LARGE, k + 1, "uint16")


def flushing() -> bool:
    return any(thread.name == "bluesky-zarr-flush" for thread in threading.enumerate())


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not true():
        assert time.monotonic() < end
        time.sleep(0.002)


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The shard files and directories that went to disk."""
    found: list[Path] = []
    sync, sync_fd = ShardFile.sync, files_module.sync_fd

    def file(self: ShardFile) -> None:
        sync(self)
        found.append(self.path)

    def directory(fd: int, path: Path) -> None:
        sync_fd(fd, path)
        if path.is_dir():
            found.append(path)

    monkeypatch.setattr(ShardFile, "sync", file)
    monkeypatch.setattr(files_module, "sync_fd", directory)
    return found


def test_after_so_many_frames_every_shard_they_are_in_goes_to_disk_with_its_directories(
    tmp_path: Path, synced: list[Path]
) -> None:
    store = tmp_path / "s.zarr"
    sink = prepare(store, "flush-12-frames")
    for k in range(11):
        sink.write(frame(k))
    sink.drain()
    assert synced == []
    sink.write(frame(11))
    shards = {store / "primary/cam/c" / name / "0/0" for name in "012"}
    directories = {path.parent for path in shards} | {path.parent.parent for path in shards}
    directories |= {store / "primary/cam/c", store / "primary/cam", store / "primary", store}
    until(lambda: set(synced) >= shards | directories | {tmp_path})
    sink.close()


def test_after_so_many_grouped_frames_data_goes_to_disk(tmp_path: Path, synced: list[Path]) -> None:
    sink = prepare(tmp_path / "s.zarr", "flush-10-frames", flown=True)
    for k in range(9):
        sink.write(np.full((4, 4), k, "uint16"))
    sink.drain()
    assert synced == []
    sink.write(np.full((4, 4), 9, "uint16"))
    until(lambda: sum(path.name == "0" and path.is_file() for path in synced) == 2)
    sink.close()


def test_after_so_many_seconds_data_goes_to_disk_though_no_more_frames_come(
    tmp_path: Path, synced: list[Path]
) -> None:
    sink = prepare(tmp_path / "s.zarr", "flush-0.05-s")
    sink.write(frame(0))
    until(lambda: bool(synced))
    sink.drain()
    time.sleep(0.2)
    count = len(synced)
    time.sleep(0.2)
    # What is on disk is left alone.
    assert len(synced) == count
    sink.close()


def test_only_what_changed_since_goes_to_disk(tmp_path: Path, synced: list[Path]) -> None:
    sink = prepare(tmp_path / "s.zarr", "flush-5-frames")
    for k in range(5):
        sink.write(frame(k))
    sink.drain()
    until(lambda: any(path.is_file() for path in synced))
    sink.sync()
    synced.clear()
    for k in range(5, 10):
        sink.write(frame(k))
    until(lambda: any(path.is_file() for path in synced))
    sink.sync()
    assert {path.parts[-3] for path in synced if path.is_file()} == {"1"}
    sink.close()


def test_what_ctrl_c_kept_from_the_disk_is_asked_for_again(
    tmp_path: Path, synced: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = prepare(tmp_path / "s.zarr", FOREVER)
    for k in range(10):
        sink.write(frame(k))
    sink.drain()
    whole = ShardFile.sync

    def cut_off(self: ShardFile) -> None:
        if synced:
            raise KeyboardInterrupt
        whole(self)

    with monkeypatch.context() as patch:
        patch.setattr(ShardFile, "sync", cut_off)
        with pytest.raises(KeyboardInterrupt):
            sink.sync()
    synced.clear()
    sink.sync()
    assert {path.parts[-3] for path in synced if path.is_file()} == {"0", "1"}
    sink.close()


@pytest.mark.parametrize("flown", [False, True])
def test_neither_writing_nor_draining_waits_for_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flown: bool
) -> None:
    asked, finished = threading.Event(), threading.Event()

    def slow(self: ShardFile) -> None:
        asked.set()
        assert finished.wait(20)

    monkeypatch.setattr(ShardFile, "sync", slow)
    sink = prepare(tmp_path / "s.zarr", "flush-5-frames", flown=flown)
    frames = [np.ones((4, 4), "uint16") if flown else frame(k) for k in range(20)]
    for k in range(5):
        sink.write(frames[k])
    assert asked.wait(20)
    for k in range(5, 20):
        sink.write(frames[k])
    sink.drain()
    assert sink.readable == 20
    finished.set()
    sink.close()


def test_sync_waits_for_a_flush_that_is_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, finished = threading.Event(), threading.Event()

    def slow(self: ShardFile) -> None:
        asked.set()
        assert finished.wait(20)

    monkeypatch.setattr(ShardFile, "sync", slow)
    sink = prepare(tmp_path / "s.zarr", "flush-1-frames")
    sink.write(frame(0))
    assert asked.wait(20)
    done = threading.Event()
    thread = threading.Thread(target=lambda: (sink.sync(), done.set()))
    thread.start()
    assert not done.wait(0.1)
    finished.set()
    thread.join(20)
    assert done.is_set()
    sink.close()


def test_what_is_readable_but_still_in_a_workers_hands_goes_to_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, synced: list[Path]
) -> None:
    entered, go_on = threading.Event(), threading.Event()
    sink = prepare(tmp_path / "s.zarr", "page")
    release = sink._files._shards.release

    def slow(*arguments: Any, **options: Any) -> None:
        if threading.current_thread().name.startswith("bluesky-zarr"):
            entered.set()
            assert go_on.wait(20)
        release(*arguments, **options)

    monkeypatch.setattr(sink._files._shards, "release", slow)
    sink.write(frame(0))
    assert entered.wait(20)
    assert sink.readable == 1
    sink.sync()
    assert any(path.is_file() for path in synced)
    go_on.set()
    sink.close()


def test_a_flush_that_fails_is_raised_and_never_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[Path] = []

    def broken(self: ShardFile) -> None:
        tries.append(self.path)
        raise OSError(errno.EIO, "Input/output error", str(self.path))

    monkeypatch.setattr(ShardFile, "sync", broken)
    sink = prepare(tmp_path / "s.zarr", "flush-1-frames")
    sink.write(frame(0))
    until(lambda: sink.error is not None)
    for call in (lambda: sink.write(frame(1)), sink.drain, sink.sync, sink.close):
        with pytest.raises(OSError, match=r"'primary/cam'.*\(Input/output error\)"):
            call()
    assert len(tries) == 1


def test_what_a_flush_lost_is_known_to_whoever_publishes_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShardFile) -> None:
        raise SyncError(errno.EIO, "Input/output error", str(self.path))

    sink = prepare(tmp_path / "s.zarr", "flush-1-frames")
    with monkeypatch.context() as patch:
        patch.setattr(ShardFile, "sync", broken)
        sink.write(frame(0))
        with pytest.raises(OSError, match="Input/output error"):
            sink.close()
    with pytest.raises(OSError, match=r"'primary/cam/c/0/0/0' could not be forced to disk"):
        publish(tmp_path / "s.zarr")
    publish(tmp_path / "s.zarr", status="failed")


def test_a_flush_that_ends_by_any_other_error_is_raised_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(self: ShardFile) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(ShardFile, "sync", broken)
    sink = prepare(tmp_path / "s.zarr", "flush-1-frames")
    sink.write(frame(0))
    until(lambda: sink.error is not None)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        sink.write(frame(1))
    monkeypatch.undo()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        sink.close()


def test_page_leaves_it_to_the_system(tmp_path: Path, synced: list[Path]) -> None:
    sink = prepare(tmp_path / "s.zarr", "page")
    for k in range(20):
        sink.write(frame(k))
    sink.close()
    assert synced == []


@pytest.mark.parametrize("durability", [FOREVER, "flush-1000000-frames"])
def test_a_closed_sink_is_on_disk_and_its_thread_has_ended(
    tmp_path: Path, synced: list[Path], durability: str
) -> None:
    sink = prepare(tmp_path / "s.zarr", durability)
    for k in range(7):
        sink.write(frame(k))
    sink.close()
    assert len({path for path in synced if path.is_file()}) == 2
    assert not flushing()


def test_a_sink_that_is_forgotten_takes_its_thread_along(tmp_path: Path) -> None:
    sink = prepare(tmp_path / "s.zarr", "flush-1000000-frames")
    sink.write(frame(0))
    sink.drain()
    gone = weakref.ref(sink)
    assert flushing()
    del sink

    def are_gone() -> bool:
        gc.collect()
        return gone() is None and not flushing()

    until(are_gone)
    until(lambda: not any(t.name == "bluesky-zarr-flush" for t in threading.enumerate()))
