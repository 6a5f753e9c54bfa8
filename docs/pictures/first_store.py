"""first-store.png, first-frame.png: the scan of the first tutorial."""

from common import beamline, save
from scanspec.specs import Linspace

from bluesky_zarr.plans import nested_scan

with beamline() as b:
    spec = Linspace(b.mono, 7.0, 7.4, 5) * Linspace(b.y, -1, 1, 6) * ~Linspace(b.x, -1, 1, 8)
    b.RE(nested_scan([b.cam], spec))
    save(b.storage.plot("cam-sum"), "first-store.png", dpi=80)
    save(b.storage.plot(frame=(1, 3, 5)), "first-frame.png", dpi=80)
