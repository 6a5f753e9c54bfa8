"""Grouped frames against a model: whatever comes in whatever order, nothing is lost or mixed up."""

from __future__ import annotations

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import FrameError, FrameSink, Layout, SourceInfo, ZarrWriter, recover
from tests.store.crashed import died
from tests.store.reading import zarr_python

SHAPE = (2, 3)
# Groups of 4: the last one of a row has 2 positions.
GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * ~Linspace("x", 0, 1, 10))
pytestmark = pytest.mark.filterwarnings("ignore:the layout")


def prepare(path: Path, *, growing: bool, codec: str, tiles: bool, seconds: float) -> FrameSink:
    tile = (2, 2) if tiles else SHAPE
    layout = Layout((4, *tile), (8, *tile)) if growing else Layout((1, 4, *tile), (3, 12, *tile))
    writer = ZarrWriter(path, codec=codec, layout=layout, group_seconds=seconds)
    geometry = None if growing else GRID
    return writer.prepare(SourceInfo("cam", "uint16", SHAPE, geometry=geometry, flown=True))


class GroupsAgainstNumpy(RuleBasedStateMachine):
    """Versions of each position in the order in which they came."""

    @initialize(
        growing=st.booleans(), codec=st.sampled_from(["none", "blosc-lz4-1"]), tiles=st.booleans()
    )
    def begin(self, growing: bool, codec: str, tiles: bool) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.store = Path(self.directory.name) / "s.zarr"
        self.sink = prepare(self.store, growing=growing, codec=codec, tiles=tiles, seconds=1000)
        self.growing = growing
        self.versions: dict[int, list[int]] = {}
        self.count = 0
        self.last = -1

    def frames(self, count: int) -> np.ndarray:
        values = np.arange(self.count + 1, self.count + 1 + count, dtype="uint16")
        self.count += count
        return np.broadcast_to(values[:, None, None], (count, *SHAPE))

    def wrote(self, flat: int, value: int) -> None:
        self.versions.setdefault(flat, []).append(value)
        self.last = flat

    @rule(data=st.data())
    def write_at(self, data: st.DataObject) -> None:
        flat = data.draw(st.integers(0, 29))
        (frame,) = self.frames(1)
        assert self.sink.write(frame.copy(), flat) == self.count
        self.wrote(flat, self.count)

    @rule(count=st.integers(1, 12), first=st.none() | st.integers(0, 29), block=st.booleans())
    def write_on(self, count: int, first: int | None, block: bool) -> None:
        flats, flat = [], self.last if first is None else first
        for n in range(count):
            if n or first is None:
                k = -1 if flat < 0 else flat if self.growing else GRID_ORDER.index(flat)
                if not self.growing and k + 1 >= GRID.size:
                    break
                flat = k + 1 if self.growing else GRID.flat(k + 1)
            flats.append(flat)
        before = self.count
        frames = self.frames(len(flats))
        if not flats:
            with pytest.raises(FrameError):
                self.sink.write(np.zeros(SHAPE, "uint16"), first)
            return
        if block:
            assert self.sink.write_many(frames, first) == self.count
        else:
            for n, frame in enumerate(frames):
                self.sink.write(frame, first if n == 0 else None)
        for n, flat in enumerate(flats):
            self.wrote(flat, before + n + 1)

    @rule()
    def too_many(self) -> None:
        if self.growing:
            return
        # The last frame of the scan fits, the one after it does not.
        last = GRID.flat(GRID.size - 1)
        frames = np.concatenate([self.frames(1), np.zeros((2, *SHAPE), "uint16")])
        with pytest.raises(FrameError, match="out of bounds"):
            self.sink.write_many(frames, last)
        self.wrote(last, self.count)

    @rule(twice=st.booleans())
    def time_passes(self, twice: bool) -> None:
        assert self.sink._grouping is not None
        for _ in range(1 + twice):
            self.sink._grouping.flush_if_waiting()

    @precondition(lambda self: any(self.versions.values()))
    @rule(data=st.data())
    def take_back(self, data: st.DataObject) -> None:
        flat = data.draw(st.sampled_from(sorted(k for k, v in self.versions.items() if v)))
        self.sink.retract(flat)
        self.versions[flat].pop()

    @rule()
    def drain(self) -> None:
        self.sink.drain()
        self.compare(every=True)

    @invariant()
    def what_is_announced_is_there(self) -> None:
        if hasattr(self, "sink"):
            self.sink._queue.wait()
            self.compare(every=False)

    def compare(self, *, every: bool) -> None:
        found = zarr_python(self.store, "cam").reshape(-1, *SHAPE)[:, 0, 0]
        counts = self.sink.written.ravel()
        for flat, count in enumerate(counts):
            versions = self.versions.get(flat, [])
            assert count == len(versions) if every else count <= len(versions)
            if flat < len(found):
                assert found[flat] == (versions[count - 1] if count else 0), flat
        assert self.sink.readable == np.count_nonzero(counts)

    def teardown(self) -> None:
        if not hasattr(self, "sink"):
            return
        self.sink.drain()
        written = self.sink.written.ravel()
        # As if the process had died now: everything is in the files.
        died(self.store)
        report = recover(self.store)
        assert report, str(report)
        counts = zarr_python(self.store, "cam_written").ravel()
        assert counts.tolist() == written[: len(counts)].tolist()
        assert not written[len(counts) :].any()
        self.compare(every=True)
        self.directory.cleanup()


GRID_ORDER = [GRID.flat(k) for k in range(GRID.size)]


def test_frames_are_numbered_on_after_some_that_did_not_fit(tmp_path: Path) -> None:
    sink = prepare(tmp_path / "s.zarr", growing=False, codec="none", tiles=False, seconds=1000)
    last = GRID.flat(GRID.size - 1)
    with pytest.raises(FrameError, match="out of bounds"):
        sink.write_many(np.ones((2, *SHAPE), "uint16"), last)
    assert sink.write(np.ones(SHAPE, "uint16"), 0) == 2
    sink.close()
    assert sink.readable == 2


class TestGroupsAgainstNumpy(GroupsAgainstNumpy.TestCase):
    settings = settings(max_examples=15, stateful_step_count=12)


@pytest.mark.slow
@pytest.mark.timeout(600)
class TestGroupsAgainstNumpyForLong(GroupsAgainstNumpy.TestCase):
    settings = settings(max_examples=60, stateful_step_count=20)


@pytest.mark.parametrize("codec", ["none", "blosc-lz4-1"])
def test_threads_that_write_rewrite_and_take_back_while_the_time_runs_out_mix_nothing_up(
    tmp_path: Path, codec: str
) -> None:
    sink = prepare(tmp_path / "s.zarr", growing=True, codec=codec, tiles=False, seconds=0.002)
    errors: list[BaseException] = []

    def write(odd: int) -> None:
        try:
            for turn in range(2):
                for k in range(odd, 400, 2):
                    sink.write(np.full(SHAPE, 2 * k + turn, "uint16"), k)
                    if k % 50 == odd:
                        time.sleep(0.003)
                    if k % 90 == odd and turn:
                        sink.retract(k)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(odd,)) for odd in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    sink.close()
    assert errors == []
    taken = {k for k in range(400) if k % 90 in (0, 1) and k % 90 == k % 2}
    found = zarr_python(tmp_path / "s.zarr", "cam")[:, 0, 0]
    assert found.tolist() == [2 * k + (k not in taken) for k in range(400)]
    assert sink.written.tolist() == [1 + (k not in taken) for k in range(400)]


@pytest.mark.parametrize("codec", ["none", "blosc-lz4-1"])
def test_who_is_notified_may_wait_for_a_lock_that_a_writing_thread_holds(
    tmp_path: Path, codec: str
) -> None:
    sink = prepare(tmp_path / "s.zarr", growing=True, codec=codec, tiles=False, seconds=0.002)
    own = threading.Lock()
    told = []

    def notify(completed: int) -> None:
        with own:
            told.append(completed)

    sink.notify = notify
    done = threading.Event()

    def write() -> None:
        for _ in range(40):
            with own:
                sink.write(np.ones(SHAPE, "uint16"))
            time.sleep(0.001)
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(20)
    sink.close()
    assert max(told) == 40


def test_closing_while_the_time_runs_out_loses_nothing_and_waits_for_nobody(
    tmp_path: Path,
) -> None:
    for turn in range(20):
        store = tmp_path / f"{turn}.zarr"
        sink = prepare(store, growing=True, codec="none", tiles=False, seconds=0.002)
        refused = threading.Event()

        def write(sink: FrameSink = sink, refused: threading.Event = refused) -> None:
            k = 0
            try:
                while True:
                    sink.write(np.full(SHAPE, k + 1, "uint16"))
                    k += 1
            except RuntimeError:
                refused.set()

        thread = threading.Thread(target=write)
        thread.start()
        time.sleep(0.001 * (turn % 7))
        sink.close()
        thread.join(20)
        assert refused.is_set()
        found = zarr_python(store, "cam")[:, 0, 0]
        assert found.tolist() == list(range(1, len(found) + 1))
        assert sink.completed == len(found)
