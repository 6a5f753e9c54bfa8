"""How a box is cut in equal parts: as runs in C order, as nearly square tiles, by a grid."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

Cell = tuple[int, ...]
Region = tuple[slice, ...]


def run(shape: Sequence[int], most: int, unit: Sequence[int]) -> Cell:
    """The largest part of `shape` in whole units with at most `most` elements, the fastest dims
    first; one unit, if that is larger.

    Examples
    --------
    >>> run((5, 20, 30), 100, (1, 1, 1))
    (1, 3, 30)
    """
    part = list(unit)
    for axis in range(len(shape) - 1, -1, -1):
        rest = math.prod(part[:axis] + part[axis + 1 :])
        units = math.ceil(shape[axis] / unit[axis])
        fits = max(1, most // (rest * unit[axis]))
        if units > fits:
            part[axis] = math.ceil(units / math.ceil(units / fits)) * unit[axis]
            break
        part[axis] = units * unit[axis]
    return tuple(part)


def edges(shape: Sequence[int], most: int) -> Cell:
    """Equal parts of `shape` with about `most` elements, of one length along every dim as far as
    the shape allows.

    Examples
    --------
    >>> edges((2048, 2048), 900)
    (30, 30)
    >>> edges((4, 2048), 900)
    (4, 205)
    """
    part = [1] * len(shape)
    left = most
    # Short dims first: what they do not need is for the others.
    order = sorted(range(len(shape)), key=lambda axis: shape[axis])
    for done, axis in enumerate(order):
        length = max(1, min(shape[axis], round(left ** (1 / (len(shape) - done)))))
        part[axis] = math.ceil(shape[axis] / math.ceil(shape[axis] / length))
        left = max(1, left // part[axis])
    return tuple(part)


def grid(region: Region, size: Sequence[int]) -> list[range]:
    """The cells of a grid that a region touches, as a range along each dim."""
    return [range(r.start // n, -(-r.stop // n)) for r, n in zip(region, size, strict=True)]


def cells(region: Region, size: Sequence[int]) -> Iterator[Region]:
    """The parts of a region in the cells of a grid, in C order.

    Examples
    --------
    >>> [part[0] for part in cells((slice(2, 7),), (3,))]
    [slice(2, 3, None), slice(3, 6, None), slice(6, 7, None)]
    """
    if not region:
        yield ()
        return
    first, n = region[0], size[0]
    for cell in range(first.start // n, -(-first.stop // n)):
        head = slice(max(cell * n, first.start), min((cell + 1) * n, first.stop))
        for tail in cells(region[1:], size[1:]):
            yield (head, *tail)


def pieces(region: Region, size: Sequence[int]) -> Iterator[Region]:
    """As `cells`, of a grid that begins at the corner of the region."""
    for part in cells(whole(lengths(region)), size):
        yield tuple(
            slice(r.start + p.start, r.start + p.stop) for r, p in zip(region, part, strict=True)
        )


def whole(shape: Sequence[int]) -> Region:
    """All of a shape."""
    return tuple(slice(0, n) for n in shape)


def within(region: Region, outer: Region) -> Region:
    """A region as it is counted from the corner of one that holds it."""
    return tuple(
        slice(r.start - o.start, r.stop - o.start) for r, o in zip(region, outer, strict=True)
    )


def lengths(region: Region) -> Cell:
    """The shape of a region."""
    return tuple(r.stop - r.start for r in region)
