"""What all tests have in common: markers that depend on the machine, a RunEngine, storage."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from bluesky.run_engine import RunEngine

from bluesky_zarr import Storage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    skip = pytest.mark.skip(reason="needs the rights of root")
    for item in items:
        if "needs_root" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def RE() -> Iterator[RunEngine]:
    engine = RunEngine(call_returns_result=True)
    engine.log.setLevel("CRITICAL")
    yield engine
    if engine.state not in ("idle", "panicked"):
        engine.halt()
    engine.loop.call_soon_threadsafe(engine.loop.stop)
    engine._th.join()


@pytest.fixture
def docs(RE: RunEngine) -> list[tuple[str, Any]]:
    collected: list[tuple[str, Any]] = []
    RE.subscribe(lambda name, doc: collected.append((name, doc)))
    return collected


@pytest.fixture
def storage(tmp_path: Any) -> Storage:
    return Storage(f"file://{tmp_path}/data")
