"""Hundreds of runs in one process take no more memory, threads and files than a few."""

from __future__ import annotations

import gc
import os
import threading
from types import SimpleNamespace

import bluesky.plans as bp
import pytest


def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def soak(lab: SimpleNamespace, warm: int, times: int, growth: int) -> None:
    """Run, and run on: what is in use after the first ones is all there is, but for growth."""
    for _ in range(warm):
        lab.RE(bp.count([lab.cam], 2))
    gc.collect()
    files, threads, memory = len(os.listdir("/proc/self/fd")), threading.active_count(), resident()
    for _ in range(times):
        lab.RE(bp.count([lab.cam], 2))
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files + 2
    assert threading.active_count() <= threads + 8  # asyncio makes the threads of its pool late
    assert resident() - memory < growth


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to look at itself")
def test_some_runs_leave_nothing_behind(lab: SimpleNamespace) -> None:
    soak(lab, warm=5, times=15, growth=20 * 2**20)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc to look at itself")
def test_hundreds_of_runs_leave_nothing_behind(lab: SimpleNamespace) -> None:
    soak(lab, warm=20, times=400, growth=30 * 2**20)
