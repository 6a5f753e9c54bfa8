"""Where pictures of the site go, and a simulated beamline to take them of."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import matplotlib as mpl

mpl.use("Agg")

IMAGES = Path(__file__).parents[1] / "images"


def save(figure, name: str, **options) -> None:
    """Write a picture of the site, and say so."""
    figure.savefig(IMAGES / name, **{"dpi": 100, **options})
    print(IMAGES / name, file=sys.stderr)


@contextmanager
def beamline() -> Iterator[SimpleNamespace]:
    """The beamline of the tutorials, with a session that stores in a temporary folder."""
    from bluesky.run_engine import RunEngine
    from ophyd_async.core import init_devices
    from ophyd_async.sim import SimMotor

    from bluesky_zarr import Storage
    from bluesky_zarr.devices import SimCamera

    RE = RunEngine(call_returns_result=True)
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        storage.attach(RE)
        with init_devices():
            mono = SimMotor(initial_value=7.0, units="keV", instant=True)
            y = SimMotor(units="mm", instant=True)
            x = SimMotor(units="mm", instant=True)
            cam = SimCamera((128, 128), x=x, y=y, wavelength=mono, exposure=0.01)
        storage.inject(cam)
        yield SimpleNamespace(RE=RE, storage=storage, mono=mono, y=y, x=x, cam=cam)
