"""Motors, and a camera that knows where they are, with storage attached."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices

from bluesky_zarr import Storage
from tests.fakes import PositionCamera, instant_motor


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
