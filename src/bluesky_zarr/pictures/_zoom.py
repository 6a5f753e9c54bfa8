"""An adaptive scan: where it measured in which pass, what fired where, and the peaks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr._text import with_error
from bluesky_zarr.catalog import open as open_store

from ._labels import label_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset, DataTree

__all__ = ["plot_zoom"]

Floats = npt.NDArray[np.float64]

#: Widths of a peak on either side of its centre over which its curve is drawn.
_SPAN = 3.0


def plot_zoom(path: str | os.PathLike[str], signal: str = "") -> Figure:
    """Draw an adaptive scan from its store: all passes, fitted curves, and what fired where.

    Over one axis the signal is drawn against it, a colour for each pass, with the peaks' curves and
    a mark where a decision was made. Over two, or inside of a nested scan, the points are drawn
    where they were measured, coloured by the signal, with an outline of each peak.

    Parameters
    ----------
    path
        The store's.
    signal
        The reading to draw; by default the one that the scan decided by.

    Returns
    -------
    Figure
        Matplotlib's; ``figure.savefig("zoom.png")``.

    Raises
    ------
    ValueError
        For the store of another plan, before the run was published, or for a reading that is not in
        it.
    ImportError
        Without matplotlib, which the ``plot`` extra installs.

    Examples
    --------
    >>> plot_zoom("/data/2026-11/b1946ac9.zarr").savefig("zoom.png")  # doctest: +SKIP
    """
    from matplotlib.figure import Figure

    tree = open_store(path)
    if "merged" not in tree.children:
        plan = tree.attrs.get("plan_name", "another plan")
        raise ValueError(
            f"{os.fspath(path)} has no group 'merged': it is not the published store of an "
            f"adaptive scan (its plan is '{plan}', its status '{tree.attrs.get('status')}'); "
            "draw it with plot_run."
        )
    merged = tree["merged"].to_dataset().load()
    peaks = _table(tree, "peaks")
    decisions = _table(tree, "decisions")
    signal = signal or _signal(merged, decisions)
    if signal not in merged:
        numbers = [str(n) for n, v in merged.items() if v.dtype.kind in "iuf"]
        raise ValueError(
            f"There is no reading '{signal}' in {os.fspath(path)}. There are: {', '.join(numbers)}."
        )
    (line,) = merged["time"].dims
    axes = _axes(tree, merged)
    figure = Figure(figsize=(9, 5.5), layout="constrained")
    picture = figure.subplots()
    if len(axes) == 1:
        _draw_line(picture, merged, axes[0], signal, peaks, decisions)
    else:
        _draw_map(figure, picture, merged, axes, signal, peaks)
    found = 0 if peaks is None else peaks.sizes["event"]
    picture.set_title(
        f"{found} peak{'' if found == 1 else 's'} of {signal} in {merged.sizes[line]} exposures"
    )
    return figure


def _signal(merged: Dataset, decisions: Dataset | None) -> str:
    """The reading that a scan decided by; one that ended before it decided names none."""
    if decisions is not None:
        return str(decisions["signal"].values[0])
    ours = ("pass", "parent", "seq_num", "time")
    return next((str(n) for n, v in merged.items() if n not in ours and v.dtype.kind in "iuf"), "")


def _axes(tree: DataTree, merged: Dataset) -> list[str]:
    """The axes of a scan, slowest first, as the dims of its first pass lie."""
    names = {str(name) for name in merged.coords if not str(name).endswith("_readback")}
    axes: list[str] = []
    primary = tree["primary"].to_dataset()
    for dim in primary["seq_num"].dims:
        along = [str(n) for n, c in primary.coords.items() if c.dims == (dim,) and str(n) in names]
        axes += along if str(dim) not in along else [str(dim)]
    return axes


def _table(tree: DataTree, name: str) -> Dataset | None:
    return tree[name].to_dataset().load() if name in tree.children else None


def _draw_line(
    picture: Axes,
    merged: Dataset,
    axis: str,
    signal: str,
    peaks: Dataset | None,
    decisions: Dataset | None,
) -> None:
    x, y = merged[axis].values, merged[signal].values
    passes = merged["pass"].values
    picture.plot(x, y, "-", color="0.85", zorder=1)
    for number in np.unique(passes):
        here = passes == number
        label = "coarse pass" if number == 0 else f"pass {number}"
        picture.plot(x[here], y[here], "o", ms=4, label=f"{label}: {here.sum()}", zorder=3)
    if peaks is not None:
        _draw_curves(picture, peaks.sortby("center"), float(x.min()), float(x.max()))
    if decisions is not None:
        acted = decisions["approved"].values & np.isfinite(decisions["center"].values)
        centers = decisions["center"].values[acted]
        heights = np.interp(centers, x, y)
        picture.plot(
            centers, heights, "v", ms=9, mfc="none", mec="crimson", label="fired", zorder=4
        )
    picture.set_xlabel(label_of(merged, axis))
    picture.set_ylabel(label_of(merged, signal))
    picture.legend(fontsize=8)


def _draw_curves(picture: Axes, peaks: Dataset, low: float, high: float) -> None:
    """Each peak's own curve, thin, and all of them together where there is one."""
    centers, widths, heights = (peaks[name].values for name in ("center", "fwhm", "height"))
    levels = np.nan_to_num(peaks["background"].values)
    parts = zip(centers, widths, peaks["shape"].values, peaks["mixing"].values, strict=True)
    # The backgrounds of neighbouring peaks differ a little: between them it goes over.
    line = np.unique(
        np.concatenate(
            [
                np.linspace(c - _SPAN * w, c + _SPAN * w, 400)
                for c, w in zip(centers, widths, strict=True)
            ]
        ).clip(low, high)
    )
    level = np.interp(line, centers, levels)
    total = level.copy()
    near = np.zeros(len(line), dtype=bool)
    for height, (center, width, shape, mixing) in zip(heights, parts, strict=True):
        curve = height * _curve(line, center, width, str(shape), float(mixing))
        total += curve
        here = np.abs(line - center) <= _SPAN * width
        near |= here
        picture.plot(line[here], (level + curve)[here], "-", color="crimson", lw=0.7, alpha=0.6)
    picture.plot(
        line, np.where(near, total, np.nan), "-", color="crimson", lw=1.4, label="fitted curve"
    )
    errors = peaks["center_error"].values, peaks["fwhm_error"].values
    for n, (center, width) in enumerate(zip(centers, widths, strict=True)):
        picture.annotate(
            f"{with_error(center, errors[0][n])}\nFWHM {with_error(width, errors[1][n])}",
            (center, np.interp(center, line, total)),
            xytext=(0, 8),
            textcoords="offset points",
            fontsize=8,
            ha="center",
            bbox={"boxstyle": "round", "fc": "white", "ec": "none", "alpha": 0.7},
        )
    picture.margins(y=0.15)


def _curve(x: Floats, center: float, fwhm: float, shape: str, mixing: float) -> Floats:
    """A curve of height 1: `bluesky_zarr.peaks.Peak` says what its mixing is."""
    u = 2 * (x - center) / fwhm
    if shape == "flat-top":
        return np.exp2(-(np.abs(u) ** (2 / (1 - mixing))))
    part = {"lorentzian": 1.0, "pseudo-voigt": mixing}.get(shape, 0.0)
    part = 0.5 if np.isnan(part) else part
    return part / (1 + u**2) + (1 - part) * np.exp2(-(u**2))


def _draw_map(
    figure: Figure,
    picture: Axes,
    merged: Dataset,
    axes: Sequence[str],
    signal: str,
    peaks: Dataset | None,
) -> None:
    inner = [a for a in axes if peaks is not None and f"center_{a}" in peaks]
    slow, fast = inner[:2] if len(inner) > 1 else axes[-2:]
    points = picture.scatter(
        merged[fast].values, merged[slow].values, c=merged[signal].values, s=14, cmap="viridis"
    )
    figure.colorbar(points, ax=picture, label=label_of(merged, signal))
    picture.set_xlabel(label_of(merged, fast))
    picture.set_ylabel(label_of(merged, slow))
    if peaks is None:
        return
    for n in range(peaks.sizes["event"]):
        peak = peaks.isel(event=n)
        if f"center_{fast}" in peak:
            _draw_outline(picture, peak, slow, fast)
        else:  # one axis inside of another: the peak is somewhere on the line of its outer point
            here = merged[slow].values[merged["parent"].values == int(peak["parent"])]
            picture.errorbar(
                float(peak["center"]),
                float(here[0]),
                xerr=float(peak["fwhm"]) / 2,
                fmt="|",
                color="crimson",
                capsize=4,
            )


def _draw_outline(picture: Axes, peak: Any, slow: str, fast: str) -> None:
    from matplotlib.patches import Ellipse

    picture.add_patch(
        Ellipse(
            (float(peak[f"center_{fast}"]), float(peak[f"center_{slow}"])),
            float(peak[f"fwhm_{fast}"]),
            float(peak[f"fwhm_{slow}"]),
            fill=False,
            edgecolor="crimson",
            lw=1.5,
        )
    )
