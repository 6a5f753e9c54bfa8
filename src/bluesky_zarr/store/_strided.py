"""Copies between arrays whose fastest axes differ, in pieces that stay in a cache."""

from __future__ import annotations

import numpy as np

# Rows and columns of the source that go through a buffer at a time: a quarter of a MiB of float32.
_ROWS = 64
_COLUMNS = 1024
# The rows of the buffer lie so many elements apart beyond their length. At a distance of a power of
# two, which the rows of images often have, the elements of a column would all contend for the same
# few lines of a cache.
_APART = 16


def copy_values(target: np.ndarray, values: np.ndarray) -> None:
    """Copy an array into another one of the same shape, also from another byte order.

    As ``target[...] = values``, which takes three times as long where the last two axes lie in
    memory the other way round.

    Examples
    --------
    >>> image = np.arange(6, dtype=">f4").reshape(2, 3)
    >>> target = np.empty((3, 2), "<f4")
    >>> copy_values(target, image.T)
    >>> target.tolist()
    [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    """
    if not _crosses(target, values):
        target[...] = values
        return
    for place in np.ndindex(values.shape[:-2]):
        _copy_transposed(target[place], values[place].T)


def _crosses(target: np.ndarray, values: np.ndarray) -> bool:
    if values.ndim < 2 or min(values.shape[-2:]) < _APART:
        return False
    (rows, columns), (from_rows, from_columns) = target.strides[-2:], values.strides[-2:]
    return abs(rows) > abs(columns) and abs(from_rows) < abs(from_columns)


def _copy_transposed(target: np.ndarray, source: np.ndarray) -> None:
    """Copy the rows of `source` into the columns of `target`."""
    rows, columns = source.shape
    buffer = np.empty((_ROWS, min(columns, _COLUMNS) + _APART), target.dtype)
    for c in range(0, columns, _COLUMNS):
        for r in range(0, rows, _ROWS):
            piece = source[r : r + _ROWS, c : c + _COLUMNS]
            strip = buffer[: piece.shape[0], : piece.shape[1]]
            strip[...] = piece
            target[c : c + _COLUMNS, r : r + _ROWS] = strip.T
