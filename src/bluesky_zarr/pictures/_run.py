"""A run in one call: its readings, a frame of it, or the passes of a search."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from bluesky_zarr.catalog import open as open_store

from ._scan import Scan, scan_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from xarray import Dataset, DataTree

__all__ = ["plot_run"]


def plot_run(
    run: str | os.PathLike[str] | DataTree | Dataset,
    signal: str = "",
    *,
    frame: int | Sequence[int] | None = None,
) -> Figure:
    """Draw a run, finished or not, with names and units.

    Readings over one axis are lines, over two maps, and of more axes the slow ones are cut at up to
    five positions, from the first to the last. Positions that were not measured stay empty. Points
    that lie on no grid are drawn where they were taken. The path of an adaptive scan is drawn by
    `plot_zoom`. A run without readings shows the frames in its middle.

    Parameters
    ----------
    run
        The path of a store, or what `bluesky_zarr.open` gave, or one stream of it as a dataset. Of
        a whole run `primary` is drawn.
    signal
        A reading to draw; by default several, those of point detectors and sums first.
    frame
        Draw frames instead, those of this position: its number in C order, as `scan_index` has it,
        or an index for each dim of the scan.

    Returns
    -------
    Figure
        Matplotlib's; ``figure.savefig("run.png")``.

    Raises
    ------
    ValueError
        For a store without a scan, a reading that is not in it, a frame outside of the scan or one
        that was not taken.
    FileNotFoundError
        Where there is no store.
    ImportError
        Without matplotlib, which the ``plot`` extra installs.

    Examples
    --------
    >>> plot_run("/data/2026-11/00007.zarr", frame=(3, 17)).savefig("f.png")  # doctest: +SKIP
    """
    from xarray import DataTree

    from ._frames import draw_frames
    from ._signals import draw_signals
    from ._zoom import plot_zoom

    path = os.fspath(run) if isinstance(run, str | os.PathLike) else ""
    tree = open_store(path) if path else run
    if path and frame is None and isinstance(tree, DataTree) and "merged" in tree.children:
        return plot_zoom(path, signal)
    scan = scan_of(tree, path or "What was given")
    if frame is not None or not (scan.signals or signal):
        names = _known(scan.frames, signal, "camera")
        figure = draw_frames(scan, names, frame)
    else:
        figure = draw_signals(scan, _known(scan.signals, signal, "reading"))
    title = _title(tree, scan) if isinstance(tree, DataTree) else ""
    earlier = figure.get_suptitle()
    figure.suptitle("\n".join(text for text in (title, earlier) if text), fontsize="large")
    return figure


def _known(names: list[str], wanted: str, kind: str) -> list[str]:
    """Those that are to be drawn, of readings or of cameras.

    Raises
    ------
    ValueError
        When there are none, or not the one that is asked for.
    """
    if wanted and wanted not in names:
        raise ValueError(
            f"There is no {kind} '{wanted}' in this run. There are: {', '.join(names) or 'none'}."
        )
    if not names:
        raise ValueError(
            f"There is no {kind} in this run: nothing of that kind is in its stream. "
            "Look at what it holds with 'bluesky-zarr inspect'."
        )
    return [wanted] if wanted else names


def _title(tree: DataTree, scan: Scan) -> str:
    """Which run this is, and how far it came if it did not come to its end."""
    attrs = tree.attrs
    number = attrs.get("scan_id")
    words = [str(attrs.get("plan_name", "")), "" if number is None else str(number)]
    text = " ".join(word for word in words if word)
    done, size = int(scan.measured.sum()), scan.measured.size
    status = attrs.get("status", "complete")
    if status != "complete" or done < size:
        text += f" ({status}, {done} of {size} positions)"
    return text.strip()
