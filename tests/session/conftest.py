"""Motors, and a camera that knows where they are, with storage attached."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import xarray
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices

import bluesky_zarr
from bluesky_zarr import Storage
from tests.fakes import PositionCamera, instant_motor


@pytest.fixture
def lab(RE: RunEngine, storage: Storage) -> SimpleNamespace:
    """Motors a, b, c, d, e; camera `cam` that looks at a and b; storage attached.

    `primary()` is the primary stream of the last run, read.
    """
    with init_devices():
        a, b, c = instant_motor("a"), instant_motor("b"), instant_motor("c")
        d, e = instant_motor("d"), instant_motor("e")
        cam = PositionCamera([a, b], name="cam")
    storage.attach(RE)
    storage.inject(cam)

    def primary() -> xarray.Dataset:
        return bluesky_zarr.open(storage.last_path)["primary"].to_dataset().load()

    return SimpleNamespace(
        RE=RE, storage=storage, a=a, b=b, c=c, d=d, e=e, cam=cam, motors=[a, b, c, d, e],
        primary=primary,
    )  # fmt: skip
