"""A bench for adaptive scans: a motor, a diode, a camera, storage, and a call that scans."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices

import bluesky_zarr as bz
from bluesky_zarr.plans import zoom_scan
from tests.fakes import Diode, PositionCamera, instant_motor
from tests.plans.told import Told, hill


@pytest.fixture
def bench(RE: RunEngine, storage: bz.Storage) -> SimpleNamespace:
    with init_devices():
        x, y = instant_motor("x", 1.5), instant_motor("y")
        diode = Diode([x], hill)
        cam = PositionCamera([x], name="cam")
    storage.attach(RE)
    storage.inject(cam)

    def scan(**options):
        options = {"narrowest": 1.0, "strategy": Told()} | options
        detectors = options.pop("detectors", [diode])
        signal = options.pop("signal", "diode")
        ends = options.pop("ends", (0, 10))
        motor = options.pop("motor", x)
        return RE(zoom_scan(detectors, signal, motor, *ends, **options)).plan_result

    def store():
        return bz.open(storage.last_path)

    return SimpleNamespace(
        RE=RE, storage=storage, x=x, y=y, diode=diode, cam=cam, scan=scan, store=store
    )
