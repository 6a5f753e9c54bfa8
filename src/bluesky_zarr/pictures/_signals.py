"""Readings over a scan: a line over one axis, a map over two, slices of more."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from ._labels import label_of, place_of
from ._scan import Scan

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import SubFigure

__all__ = ["draw_map", "draw_signals"]

Floats = npt.NDArray[np.float64]

#: A picture of more panels than this has to be looked for, not at.
_MOST_SIGNALS = 6
_MOST_ROWS = 4
_MOST_SLICES = 5
_COLUMNS = 3


def draw_signals(scan: Scan, signals: Sequence[str]) -> Figure:
    """Draw each of the signals over the scan."""
    slices = _slices(scan.shape[:-2])
    sliced = len(scan.shape) > 2
    if sliced:
        shown = signals[:_MOST_ROWS]
        rows, columns = len(shown), len(slices)
    else:
        shown = signals[:_MOST_SIGNALS]
        columns = 2 if len(shown) == 4 else min(len(shown), _COLUMNS)
        rows = -(-len(shown) // columns)
    figure = Figure(figsize=_size(scan, rows, columns), layout="compressed")
    grid = figure.subplots(rows, columns, squeeze=False)
    for number, name in enumerate(shown):
        values = np.where(scan.measured, np.asarray(scan.data[name], dtype=np.float64), np.nan)
        if sliced:
            _draw_slices(figure, list(grid[number]), scan, name, values, slices)
        else:
            _draw(figure, grid[number // columns, number % columns], scan, name, values)
    for spare in () if sliced else grid.flat[len(shown) :]:
        spare.remove()
    return figure


def _slices(slow: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Positions of the slow dims, evenly from the first to the last, in order of acquisition."""
    number = math.prod(slow)
    chosen = np.linspace(0, number - 1, min(number, _MOST_SLICES)).astype(int)
    return [tuple(int(i) for i in np.unravel_index(n, slow)) for n in chosen]


def _size(scan: Scan, rows: int, columns: int) -> tuple[float, float]:
    """Inches of a figure whose panels lie close to each other, with room for their labels."""
    if len(scan.shape) == 1:
        return (6.4 if columns == 1 else 4.2 * columns), 3.4 * rows + 0.5
    sliced = len(scan.shape) > 2
    longer = 2.4 if sliced else 4.6 if columns == 1 else 3.2
    width, height = longer, 0.8 * longer
    slow, fast = scan.dims[-2:]
    down, across = _positions(scan, slow)[0], _positions(scan, fast)[0]
    if _comparable(scan, slow, fast, down, across):
        ratio = float(np.ptp(_edges(down)) / np.ptp(_edges(across)))
        width, height = longer * min(1.0, 1 / ratio), longer * min(1.0, ratio)
    # Slices share the labels of their rows and one bar.
    beside = 0.15 * columns + 1.8 if sliced else 1.8 * columns
    return columns * width + beside, rows * (height + 0.75) + 0.3


def _draw(figure: Figure | SubFigure, axes: Axes, scan: Scan, name: str, values: Floats) -> None:
    along = scan.axes_along(scan.dims[-1])
    if values.ndim > 1:
        image, *_ = draw_map(axes, scan, values)
        figure.colorbar(image, ax=axes, label=label_of(scan.data, name))
    elif len(along) == 2 and scan.dims[0] == "event":
        # A spiral, or any other list of points: only their places tell where they are.
        slow, fast = along if along[0] > along[1] else along[::-1]
        points = axes.scatter(scan.data[fast], scan.data[slow], c=values, s=24)
        axes.set(xlabel=label_of(scan.data, fast), ylabel=label_of(scan.data, slow))
        figure.colorbar(points, ax=axes, label=label_of(scan.data, name))
    else:
        _draw_line(axes, scan, name, values)


def _draw_slices(
    figure: Figure,
    row: Sequence[Axes],
    scan: Scan,
    name: str,
    values: Floats,
    slices: Sequence[tuple[int, ...]],
) -> None:
    known = values[np.isfinite(values)]
    low, high = (known.min(), known.max()) if known.size else (0.0, 1.0)
    image = None
    for axes, index in zip(row, slices, strict=True):
        image, *_ = draw_map(axes, scan, values[index], float(low), float(high))
        axes.set_title(
            place_of(scan.data, dict(zip(scan.dims, index, strict=False))), fontsize="medium"
        )
        if axes is not row[0]:
            axes.set_ylabel("")
            axes.tick_params(labelleft=False)
    if image is not None:
        figure.colorbar(image, ax=row, label=label_of(scan.data, name))


def _draw_line(axes: Axes, scan: Scan, name: str, values: Floats) -> None:
    positions, text = _positions(scan, scan.dims[0])
    order = np.argsort(positions, kind="stable")
    axes.plot(positions[order], values[order], "o-", ms=4, lw=1)
    axes.set(xlabel=text, ylabel=label_of(scan.data, name))
    axes.grid(alpha=0.3)


def draw_map(
    axes: Axes, scan: Scan, values: Floats, low: float | None = None, high: float | None = None
) -> tuple[QuadMesh, Floats, Floats]:
    """Draw values over the two fast dims; the mesh, and where its rows and columns are."""
    slow, fast = scan.dims[-2:]
    rows, row_text = _positions(scan, slow)
    columns, column_text = _positions(scan, fast)
    mesh = axes.pcolormesh(
        _edges(columns), _edges(rows), np.ma.masked_invalid(values), vmin=low, vmax=high
    )
    axes.set(xlabel=column_text, ylabel=row_text)
    if _comparable(scan, slow, fast, rows, columns):
        axes.set_aspect("equal")
    return mesh, rows, columns


def _edges(positions: Floats) -> Floats:
    """Where the cells around positions begin and end: halfway to their neighbours.

    >>> _edges(np.array([1.0, 2.0, 4.0])).tolist(), _edges(np.array([3.0])).tolist()
    ([0.5, 1.5, 3.0, 5.0], [2.5, 3.5])
    """
    if len(positions) == 1:
        return positions[0] + np.array([-0.5, 0.5])
    steps = np.diff(positions) / 2
    inner = positions[:-1] + steps
    return np.concatenate([[positions[0] - steps[0]], inner, [positions[-1] + steps[-1]]])


def _positions(scan: Scan, dim: Hashable) -> tuple[Floats, str]:
    """Positions along a dim, and what they are called; their numbers, where a map has no others."""
    along = scan.axes_along(dim)
    for name in along:
        positions = np.asarray(scan.data[name], dtype=np.float64)
        steps = np.diff(positions)
        # A cell lies between its neighbours: a map needs positions that go one way.
        if len(scan.dims) == 1 or np.all(steps > 0) or np.all(steps < 0):
            others = [other for other in along if other != name and dim != "event"]
            text = label_of(scan.data, name)
            return positions, f"{text}, with {' and '.join(others)}" if others else text
    return np.arange(scan.data.sizes[dim], dtype=np.float64), f"{dim} [number]"


def _comparable(scan: Scan, slow: Hashable, fast: Hashable, rows: Floats, columns: Floats) -> bool:
    """Whether both axes have one scale: the same units, and lengths that are not far apart."""
    units = [
        next((scan.data[n].attrs.get("units") for n in scan.axes_along(dim)), None)
        for dim in (slow, fast)
    ]
    lengths = sorted((np.ptp(rows), np.ptp(columns)))
    return units[0] is not None and units[0] == units[1] and bool(0 < lengths[1] <= 4 * lengths[0])
