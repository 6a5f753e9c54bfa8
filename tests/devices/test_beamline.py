"""The simulated beamline, as a startup script declares it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from bluesky.run_engine import RunEngine

BEAMLINE = Path(__file__).parents[2] / "devices" / "beamline.py"


def test_devices_are_connected_and_named_like_their_variables() -> None:
    spec = importlib.util.spec_from_file_location("beamline", BEAMLINE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    RunEngine()
    beamline = module.make_beamline()
    assert {name: device.name for name, device in vars(beamline).items()} == {
        name: name for name in ("mono", "y", "x", "cam", "cam2", "diode")
    }


def test_it_is_short_enough_to_be_copied() -> None:
    assert len(BEAMLINE.read_text().splitlines()) < 60
