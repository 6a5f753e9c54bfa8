"""A map beside the frame that the pointer is on."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_zarr.catalog import open as open_store

from ._labels import label_of, place_of
from ._scan import Scan, scan_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset, DataTree

__all__ = ["browse_run"]


def browse_run(
    run: str | os.PathLike[str] | DataTree | Dataset, signal: str = "", camera: str = ""
) -> Figure:
    """Open a window with a map of a reading, and beside it the frame at the pointer's position.

    Frames are read when the pointer comes to them. It needs a backend of matplotlib with windows
    (``%matplotlib`` in IPython, ``matplotlib.pyplot.show()`` in a script).

    Parameters
    ----------
    run
        The path of a store, finished or not, or what `bluesky_zarr.open` gave, or one stream of it
        as a dataset. The scan has two dims; of more, choose two:
        ``open(path)["primary"].to_dataset().isel(mono=2)``.
    signal
        The reading of the map; by default the first one that `plot_run` would draw.
    camera
        Whose frames; by default the first camera's.

    Returns
    -------
    Figure
        Of pyplot, so that it is shown.

    Raises
    ------
    ValueError
        For a scan that has not two dims, one without readings or frames of two dims, or a name
        that is not in it.
    ImportError
        Without matplotlib, which the ``plot`` extra installs.

    Examples
    --------
    >>> browse_run("/data/2026-11/00007.zarr", "cam-sum")  # doctest: +SKIP
    """
    import matplotlib.pyplot as plt

    from ._frames import middle
    from ._signals import draw_map

    path = os.fspath(run) if isinstance(run, str | os.PathLike) else ""
    scan = scan_of(open_store(path) if path else run, path or "What was given")
    if len(scan.dims) != 2:
        raise ValueError(
            f"A map needs a scan of two dims, and this one has {', '.join(map(str, scan.dims))}: "
            "choose a position along the others, as in "
            "bluesky_zarr.open(path)['primary'].to_dataset().isel(mono=2)."
        )
    images = [name for name in scan.frames if scan.data[name].ndim == 4]
    signal = _chosen(scan.signals, signal, "reading")
    camera = _chosen(images, camera, "camera with frames of two dims")

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="compressed")
    values = np.where(scan.measured, np.asarray(scan.data[signal], dtype=np.float64), np.nan)
    mesh, rows, columns = draw_map(left, scan, values)
    figure.colorbar(mesh, ax=left, label=label_of(scan.data, signal))
    (mark,) = left.plot([], [], "s", mfc="none", mec="crimson", ms=9)
    image = right.imshow(np.zeros(scan.data[camera].shape[2:]), cmap="magma")
    height, width = (str(dim) for dim in scan.data[camera].dims[2:])
    right.set(xlabel=f"{width} [pixel]", ylabel=f"{height} [pixel]")
    figure.colorbar(image, ax=right, label=label_of(scan.data, camera))
    shown = (-1, -1)

    def show(index: tuple[int, ...]) -> None:
        nonlocal shown
        if index == shown:
            return
        shown = index
        pixels = _frame(scan, camera, index)
        image.set_data(pixels)
        if np.isfinite(pixels).any():
            low, high = np.nanpercentile(pixels, [0.1, 99.9])
            image.set_clim(low, max(high, low + 1e-9))
        mark.set_data([columns[index[1]]], [rows[index[0]]])
        place = place_of(scan.data, dict(zip(scan.dims, index, strict=True)))
        missing = "" if scan.measured[index] else ": not measured"
        right.set_title(f"Frame {','.join(map(str, index))}, {place}{missing}", fontsize="medium")
        figure.canvas.draw_idle()

    def follow(event: Any) -> None:
        if event.inaxes is left:
            row = int(np.abs(rows - event.ydata).argmin())
            show((row, int(np.abs(columns - event.xdata).argmin())))

    show(middle(scan))
    figure.canvas.mpl_connect("motion_notify_event", follow)
    return figure


def _chosen(names: list[str], wanted: str, kind: str) -> str:
    if not names or (wanted and wanted not in names):
        asked = f"{kind} '{wanted}'" if wanted else kind
        raise ValueError(
            f"There is no {asked} in this run. There are: {', '.join(names) or 'none'}; "
            "give one of those, or draw what there is with plot_run."
        )
    return wanted or names[0]


def _frame(scan: Scan, camera: str, index: tuple[int, ...]) -> np.ndarray:
    """What was taken at a position; NaN where nothing was."""
    if not scan.measured[index]:
        return np.full(scan.data[camera].shape[2:], np.nan)
    values = scan.data[camera].isel(dict(zip(scan.dims, index, strict=True)))
    return np.asarray(values, dtype=np.float64)
