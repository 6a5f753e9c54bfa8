"""live.gif: a scan as somebody sees it who reads the store while it is written."""

import bluesky.plan_stubs as bps
import numpy as np
from common import IMAGES, beamline
from matplotlib.animation import PillowWriter
from matplotlib.figure import Figure
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan

ROWS, COLUMNS, EVERY = 12, 16, 8

figure = Figure(figsize=(7.2, 3.3), layout="constrained")
left, right = figure.subplots(1, 2)
writer = PillowWriter(fps=8)


def look(path, announced, position: int) -> None:
    """Open the running store as any reader would, and draw the frames that were announced."""
    primary = bz.open(path)["primary"]
    row, column = divmod(position, COLUMNS)
    for axes in (left, right):
        axes.clear()
    sums = primary["cam"].sum(["cam_y", "cam_x"]).where(announced.reshape(ROWS, COLUMNS))
    left.pcolormesh(primary["x"], primary["y"], sums, vmin=0.5e6, vmax=1e7)
    left.plot(primary["x"][column], primary["y"][row], "s", mfc="none", mec="crimson", ms=9)
    left.set(
        xlabel="x [mm]", ylabel="y [mm]", title=f"{announced.sum()} of {announced.size} frames"
    )
    right.imshow(primary["cam"][row, column], cmap="magma", vmax=1200)
    right.set(xticks=[], yticks=[], title=f"the newest frame, [{row}, {column}]")
    writer.grab_frame()


with beamline() as b, writer.saving(figure, str(IMAGES / "live.gif"), dpi=66):
    announced = np.zeros(ROWS * COLUMNS, dtype=bool)

    def watch(name, doc) -> None:
        """Look each time some more frames were announced."""
        if name == "stream_datum":
            position = doc["indices"]["start"]
            announced[position] = True
            if announced.sum() % EVERY == 0:
                look(b.storage.last_path, announced, position)

    b.RE.subscribe(watch)
    b.RE(bps.mv(b.mono, 7.2))  # where the sample is bright
    b.RE(nested_scan([b.cam], Linspace(b.y, -1, 1, ROWS) * ~Linspace(b.x, -1, 1, COLUMNS)))
    for _ in range(12):
        writer.grab_frame()
