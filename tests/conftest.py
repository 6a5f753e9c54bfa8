"""What all tests have in common: a RunEngine, storage, what the machine has to give."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from bluesky.run_engine import RunEngine

from bluesky_zarr import Storage
from tests.machine import SmallDisk

# How long an example takes is up to the machine, and to what else it does.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")


@contextlib.contextmanager
def an_engine(**options: Any) -> Iterator[RunEngine]:
    engine = RunEngine(call_returns_result=True, **options)
    engine.log.setLevel("CRITICAL")
    yield engine
    if engine.state not in ("idle", "panicked"):
        engine.halt()
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()


@pytest.fixture
def RE() -> Iterator[RunEngine]:
    with an_engine() as engine:
        yield engine


@pytest.fixture
def other_RE() -> Iterator[RunEngine]:
    """A second one, which may run in another thread."""
    with an_engine(context_managers=[]) as engine:  # signals are for the main thread
        yield engine


@pytest.fixture
def docs(RE: RunEngine) -> list[tuple[str, Any]]:
    collected: list[tuple[str, Any]] = []
    RE.subscribe(lambda name, doc: collected.append((name, doc)))
    return collected


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"file://{tmp_path}/data")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], SmallDisk]]:
    """Makes a file system in memory, of a size such as "size=3m" or "size=3m,nr_inodes=200"."""
    made: list[SmallDisk] = []

    def make(options: str) -> SmallDisk:
        made.append(SmallDisk(tmp_path / f"disk{len(made)}", options))
        return made[-1]

    yield make
    for disk in made:
        disk.close()
