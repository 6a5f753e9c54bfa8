"""A RunEngine with storage attached, motors, and a camera that knows where they are."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices

from bluesky_zarr import Storage
from tests.fakes import PositionCamera, instant_motor


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


@pytest.fixture
def lab(RE: RunEngine, storage: Storage) -> SimpleNamespace:
    """Motors a, b, c, d, e; camera `cam` that looks at all of them; storage attached."""
    with init_devices():
        a, b, c = instant_motor("a"), instant_motor("b"), instant_motor("c")
        d, e = instant_motor("d"), instant_motor("e")
        cam = PositionCamera([a, b], name="cam")
    storage.attach(RE)
    storage.inject(cam)
    return SimpleNamespace(
        RE=RE, storage=storage, a=a, b=b, c=c, d=d, e=e, cam=cam, motors=[a, b, c, d, e]
    )
