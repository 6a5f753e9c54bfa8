"""The simulated beamline: copy this file, and put your own devices in.

A startup script makes its RunEngine and its storage first, and then says what there is:

    RE = RunEngine(call_returns_result=True)
    storage = Storage("file:///data/2026-11")
    storage.attach(RE)
    globals().update(vars(make_beamline()))
    storage.inject(cam, cam2)
"""

from dataclasses import dataclass

from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor

from bluesky_zarr.devices import SimCamera, SimPointDetector, SimSample


@dataclass
class Beamline:
    """Everything that plans can use."""

    mono: SimMotor
    y: SimMotor
    x: SimMotor
    cam: SimCamera
    cam2: SimCamera
    diode: SimPointDetector


def make_beamline(instant: bool = True) -> Beamline:
    """Make and connect all devices; a RunEngine must be there already.

    `instant` motors are where they were sent at once; others take their time.
    """
    sample = SimSample(seed=11)
    with init_devices():  # connects them, and names each one like its variable
        mono = SimMotor(initial_value=7.0, units="keV", instant=instant)
        y = SimMotor(units="mm", instant=instant)
        x = SimMotor(units="mm", instant=instant)
        # A camera that sees details, an overview, and a diode: all behind the same sample.
        cam = SimCamera((256, 256), sample=sample, x=x, y=y, wavelength=mono)
        cam2 = SimCamera(
            (64, 96), sample=sample, x=x, y=y, wavelength=mono, field_of_view=1.5, seed=1
        )
        diode = SimPointDetector(sample=sample, x=x, y=y, wavelength=mono, seed=2)
    return Beamline(mono=mono, y=y, x=x, cam=cam, cam2=cam2, diode=diode)
