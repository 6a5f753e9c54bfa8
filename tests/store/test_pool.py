"""The pool of workers: whose job comes next."""

from __future__ import annotations

import platform
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from bluesky_zarr.store._pool import WorkerPool


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(1)
    yield pool
    pool.finish()


def held(pool: WorkerPool) -> threading.Event:
    """Keep the one worker busy until the event is set."""
    begun, released = threading.Event(), threading.Event()

    def job() -> None:
        begun.set()
        released.wait(10)

    pool.lane(0).submit(job)
    assert begun.wait(10)
    return released


def test_a_lane_of_small_jobs_does_not_wait_for_the_whole_queue_of_large_ones(
    pool: WorkerPool,
) -> None:
    done: list[str] = []
    released = held(pool)
    large, small = pool.lane(4), pool.lane(1)
    for _ in range(3):
        large.submit(lambda: done.append("large"))
    for _ in range(8):
        small.submit(lambda: done.append("small"))
    released.set()
    pool.finish()
    assert done == ["large"] + ["small"] * 4 + ["large"] + ["small"] * 4 + ["large"]


def test_jobs_of_a_lane_are_done_in_the_order_they_came(pool: WorkerPool) -> None:
    done: list[int] = []
    released = held(pool)
    lane = pool.lane(1)
    for number in range(5):
        lane.submit(lambda n=number: done.append(n))
    released.set()
    pool.finish()
    assert done == [0, 1, 2, 3, 4]


def test_a_lane_that_had_nothing_to_do_does_not_hold_the_others_up_later(pool: WorkerPool) -> None:
    done: list[str] = []
    busy, idle = pool.lane(1), pool.lane(1)
    all_done = threading.Event()
    for _ in range(20):
        busy.submit(lambda: None)
    busy.submit(all_done.set)
    assert all_done.wait(10)
    released = held(pool)
    for _ in range(4):
        idle.submit(lambda: done.append("idle"))
        busy.submit(lambda: done.append("busy"))
    released.set()
    pool.finish()
    assert "busy" in done[:3]


def test_a_job_that_fails_is_logged_and_the_next_one_is_done(
    pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    def fails() -> None:
        raise ValueError("the job's own mistake")

    done = threading.Event()
    lane = pool.lane(1)
    lane.submit(fails)
    lane.submit(done.set)
    assert done.wait(10)
    assert "a job of the frame writers failed" in caplog.text


def test_a_child_forked_at_a_bad_moment_has_a_pool_of_its_own_and_ends() -> None:
    program = (
        "import os, sys\n"
        "from bluesky_zarr.store import _pool\n"
        "parents = _pool.shared_pool()\n"
        "with _pool._pool_lock, parents._lock:\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        print(list(_pool.in_order([lambda: 42])), flush=True)\n"
        "        sys.exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    assert done.stdout == "[42]\n"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="how glibc gives memory back")
def test_memory_that_calls_have_freed_is_not_asked_for_again() -> None:
    program = (
        "import resource\n"
        "from bluesky_zarr.store._pool import in_order\n"
        "def call():\n"
        "    return len([b'x' * 2**22 for _ in range(3)])\n"
        "def pages(calls):\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    list(in_order([call] * calls))\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "pages(200)\n"  # each thread had some
        "print(pages(100))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=True
    )
    # 12 MiB are 3072 pages.
    assert int(done.stdout) < 10 * 3072
