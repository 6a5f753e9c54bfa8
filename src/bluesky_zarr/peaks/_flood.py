"""Which points are next to each other, and how prominent the maxima among them are."""

from __future__ import annotations

import numpy as np

from ._models import Floats

__all__ = ["grid_neighbours", "neighbours_of", "prominences"]


def prominences(values: Floats, neighbours: list[list[int]]) -> dict[int, tuple[float, int]]:
    """How far each local maximum rises above the pass that leads to a higher one.

    The highest of all, and of others that are not joined with it, is measured from the lowest
    value. Found by flooding in reverse: values are
    taken from the highest down, and where two islands meet, the lower one's summit is as prominent
    as it stands above the place where they met.

    Parameters
    ----------
    values
        One number for each point, shape (n,), all finite.
    neighbours
        For each point the indices of those next to it.

    Returns
    -------
    dict
        For the index of each local maximum its prominence, and the index of the point where it
        meets a higher one.
    """
    heights = values.tolist()
    order = np.argsort(-values, kind="stable").tolist()
    summit = [-1] * len(order)
    found: dict[int, tuple[float, int]] = {}
    for at in order:
        home = -1
        for near in neighbours[at]:
            top = near
            if summit[top] < 0:
                continue
            while summit[top] != top:
                summit[top] = summit[summit[top]]
                top = summit[top]
            if home < 0:
                home = top
            elif top != home:
                # An island's name is its highest point: of two the higher one keeps it.
                lower, home = (home, top) if heights[home] < heights[top] else (top, home)
                # A plateau is no maximum of its own where it joins its equal.
                if heights[lower] > heights[at]:
                    found[lower] = heights[lower] - heights[at], at
                summit[lower] = home
        summit[at] = at if home < 0 else home
    for at in order:
        if summit[at] == at:
            found[at] = heights[at] - heights[order[-1]], order[-1]
    return found


def neighbours_of(points: Floats) -> list[list[int]]:
    """The neighbours of each point: on a full grid those around it, else those of Delaunay."""
    axes = [np.unique(column) for column in points.T]
    shape = tuple(len(axis) for axis in axes)
    if int(np.prod(shape)) == len(points):
        index = tuple(
            np.searchsorted(axis, column) for axis, column in zip(axes, points.T, strict=True)
        )
        flat = np.ravel_multi_index(index, shape)
        if len(np.unique(flat)) == len(points):
            at = np.empty(len(points), dtype=np.intp)
            at[flat] = np.arange(len(points))
            near = grid_neighbours(shape)
            names = at.tolist()
            return [[names[j] for j in near[k]] for k in np.atleast_1d(flat)]
    from scipy.spatial import Delaunay

    # Joggled: points on a grid with a few beside it lie on common circles.
    scale = np.maximum(np.ptp(points, axis=0), 1e-300)
    start, near = Delaunay(points / scale, qhull_options="QJ").vertex_neighbor_vertices
    begins, names = np.asarray(start).tolist(), np.asarray(near).tolist()
    return [names[begins[k] : begins[k + 1]] for k in range(len(points))]


def grid_neighbours(shape: tuple[int, ...]) -> list[list[int]]:
    """The neighbours of each point of a grid, diagonal ones too, points in C order."""
    index = np.arange(int(np.prod(shape))).reshape(shape)
    padded = np.pad(index, 1, constant_values=-1)
    offsets = [
        offset for offset in np.ndindex(*(3,) * len(shape)) if any(step != 1 for step in offset)
    ]
    near = np.stack(
        [
            padded[tuple(slice(o, o + n) for o, n in zip(offset, shape, strict=True))].ravel()
            for offset in offsets
        ],
        axis=1,
    )
    return [[k for k in row if k >= 0] for row in near.tolist()]
