"""Frames of one position of a scan."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ._labels import label_of, place_of
from ._scan import Scan

__all__ = ["draw_frames", "middle", "position"]


def position(scan: Scan, frame: int | Sequence[int]) -> tuple[int, ...]:
    """The index over the scan's dims of a position, which may be its number in C order.

    Raises
    ------
    ValueError
        For a position outside of the scan, or one that nothing was measured at.
    """
    shape, size = scan.shape, scan.measured.size
    last = ",".join(str(n - 1) for n in shape)
    outside = ValueError(
        f"frame {frame} lies outside of the scan {_sizes(scan)}: give 0 to {size - 1}, or one "
        f"index for each dim, up to {last}."
    )
    if not isinstance(frame, Sequence):
        if not 0 <= frame < size:
            raise outside
        index = tuple(int(i) for i in np.unravel_index(frame, shape))
    else:
        index = tuple(int(i) for i in frame)
        if len(index) != len(shape) or any(
            not 0 <= i < n for i, n in zip(index, shape, strict=True)
        ):
            raise outside
    if not scan.measured[index]:
        raise ValueError(
            f"Nothing was measured at frame {frame} of the scan {_sizes(scan)}: "
            f"{int(scan.measured.sum())} of {size} positions were; give one of those, the first "
            f"is {_first(scan)}."
        )
    return index


def middle(scan: Scan) -> tuple[int, ...]:
    """The position in the middle of those that were measured."""
    measured = np.argwhere(scan.measured)
    if not len(measured):
        raise ValueError(
            f"Nothing was measured yet in the scan {_sizes(scan)}: wait for the first frame."
        )
    return tuple(int(i) for i in measured[len(measured) // 2])


def draw_frames(scan: Scan, names: Sequence[str], frame: int | Sequence[int] | None) -> Figure:
    """Draw what each camera took at a position; by default the one in the middle.

    Frames of one dim are drawn as a line, and of more than two dims the middle plane is.
    """
    index = middle(scan) if frame is None else position(scan, frame)
    place = dict(zip(scan.dims, index, strict=True))
    figure = Figure(figsize=_size(scan, names), layout="compressed")
    panels = figure.subplots(1, len(names), squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        values = scan.data[name].isel(place)
        cut = {dim: n // 2 for dim, n in list(values.sizes.items())[:-2]}
        pixels = np.asarray(values.isel(cut), dtype=np.float64)
        dims = [str(dim) for dim in values.dims][-2:]
        text = name + "".join(f", {dim} {n}" for dim, n in cut.items())
        axes.set_title(text, fontsize="medium")
        if pixels.ndim == 1:
            axes.plot(pixels, lw=1)
            axes.set(xlabel=f"{dims[-1]} [number]", ylabel=label_of(scan.data, name))
            continue
        # A hot pixel takes the contrast from all others.
        low, high = np.nanpercentile(pixels, [0.1, 99.9])
        image = axes.imshow(pixels, vmin=low, vmax=high, cmap="magma")
        axes.set(xlabel=f"{dims[1]} [pixel]", ylabel=f"{dims[0]} [pixel]")
        figure.colorbar(image, ax=axes, label=label_of(scan.data, name))
    figure.suptitle(f"Frame {','.join(map(str, index))}: {place_of(scan.data, place)}")
    return figure


def _size(scan: Scan, names: Sequence[str]) -> tuple[float, float]:
    """Inches of a figure in which frames beside each other leave little around them."""
    ratios = []
    for name in names:
        *_, rows, columns = (1, *scan.data[name].shape[len(scan.dims) :])
        ratios.append(rows / columns if scan.data[name].ndim > len(scan.dims) + 1 else 0.8)
    longer = 4.4
    widths = [max(longer * min(1.0, 1 / ratio), 1.5) for ratio in ratios]
    heights = [max(longer * min(1.0, ratio), 1.5) for ratio in ratios]
    return max(sum(widths) + 1.7 * len(names), 5.0), max(heights) + 1.0


def _sizes(scan: Scan) -> str:
    return "(" + ", ".join(f"{d}: {n}" for d, n in zip(scan.dims, scan.shape, strict=True)) + ")"


def _first(scan: Scan) -> str:
    measured = np.argwhere(scan.measured)
    return ",".join(str(int(i)) for i in measured[0]) if len(measured) else "still to come"
