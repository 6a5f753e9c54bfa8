"""One at a time, whoever comes, and whatever interrupts them."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.store import Layout, SourceInfo, ZarrWriter
from bluesky_zarr.store._grouped_sink import GroupedSink
from bluesky_zarr.store._turn import Turn, taking_turns
from tests.store.reading import zarr_python
from tests.store.test_interrupts import interrupted_at


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads that are put aside at nearly every step."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(*works: threading.Thread) -> None:
    for work in works:
        work.start()
    for work in works:
        work.join(60)
        assert not work.is_alive()


class Shared:
    def __init__(self) -> None:
        self.turn = Turn()
        self.count = 0

    @taking_turns
    def call(self, work: Callable[[], object]) -> None:
        work()

    def add(self) -> None:
        before = self.count
        len(str(before))  # so that others may come in between
        self.count = before + 1


def test_one_thread_at_a_time_has_the_turn(hasty: None) -> None:
    shared = Shared()
    ready = threading.Barrier(4)

    def work() -> None:
        ready.wait()
        for _ in range(5_000):
            shared.call(shared.add)

    together(*(threading.Thread(target=work) for _ in range(4)))
    assert shared.count == 20_000
    assert (len(shared.turn.free), shared.turn.waiting) == (2, 0)


def test_who_waits_goes_on_when_the_turn_is_given_up() -> None:
    shared = Shared()
    inside = threading.Event()
    thread = threading.Thread(target=shared.call, args=(inside.set,))

    def work() -> None:
        thread.start()
        while not shared.turn.waiting:
            time.sleep(0.001)
        assert not inside.is_set()

    shared.call(work)
    thread.join(60)
    assert inside.is_set()


def test_who_takes_turn_after_turn_keeps_nobody_waiting_for_long() -> None:
    shared = Shared()
    done = threading.Event()
    taken = 0

    def work() -> None:
        nonlocal taken
        while not done.is_set() and taken < 20_000:
            # The interpreter is free for others while the turn is not, as in a write to a disk.
            shared.call(lambda: time.sleep(0.0001))
            taken += 1

    thread = threading.Thread(target=work)
    thread.start()
    for _ in range(20):
        shared.call(shared.add)
    done.set()
    thread.join(60)
    assert shared.count == 20
    assert taken < 20_000


def test_an_error_gives_the_turn_up() -> None:
    shared = Shared()
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            shared.call(lambda: 1 / 0)


def test_ctrl_c_while_waiting_keeps_nobody_from_the_turn() -> None:
    shared = Shared()
    for step in range(5):
        del shared.turn.free[1]
        assert interrupted_at(step, lambda: shared.call(shared.add))
        other = threading.Thread(target=shared.turn.wake, daemon=True)
        other.start()
        other.join(10)
        assert not other.is_alive(), f"interrupted at line {step}"
        shared.turn.free.append(None)
        assert shared.turn.waiting == 0


def test_threads_that_write_at_once_lose_no_frame(tmp_path: Path, hasty: None) -> None:
    writer = ZarrWriter(
        tmp_path / "s.zarr", layout=Layout((16, 2, 2), (4096, 2, 2)), group_seconds=0.01
    )
    sink = writer.prepare(SourceInfo("cam", "uint16", (2, 2), flown=True), key="cam")
    numbers: list[int] = []
    ready = threading.Barrier(3)

    def work(value: int) -> None:
        frame = np.full((2, 2), value, "uint16")
        ready.wait()
        for _ in range(500):
            numbers.append(sink.write(frame))

    together(*(threading.Thread(target=work, args=(value,)) for value in (1, 2, 3)))
    writer.complete()
    writer.publish()
    frames = zarr_python(tmp_path / "s.zarr", "cam")
    assert np.bincount(frames.reshape(-1)).tolist() == [0, 2000, 2000, 2000]
    assert (frames == frames[:, :1, :1]).all()
    assert sorted(numbers) == list(range(1, 1501))


@pytest.mark.parametrize("way", ["write", "write_many", "flush"])
def test_an_interrupted_call_does_not_keep_the_turn(tmp_path: Path, way: str) -> None:
    writer = ZarrWriter(tmp_path / "s.zarr", layout=Layout((65_536, 2, 2), (65_536, 2, 2)))
    sink = writer.prepare(SourceInfo("cam", "uint16", (2, 2), flown=True), key="cam")
    assert isinstance(sink, GroupedSink)
    frame = np.ones((2, 2), "uint16")
    calls: dict[str, Callable[[], object]] = {
        "write": lambda: sink.write(frame),
        "write_many": lambda: sink.write_many(frame[np.newaxis]),
        "flush": sink.flush,
    }
    call = calls[way]

    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    interrupted = 0
    try:
        while interrupted < 300:
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-5 + 1e-7 * interrupted)
                while True:
                    call()
            except Interrupt:
                interrupted += 1
                assert len(sink._run.turn.free) == 2
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
