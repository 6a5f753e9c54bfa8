"""Images that lie in their files as they go into a cube, but for the order of bytes and axes:
float32, neither scaled nor compressed, and nothing behind them. As most do, they are read without
astropy, which would take as long as everything else but the codec.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from crc32c import crc32c

from bluesky_zarr.ingest.cubes._axes import Axes, card_value
from bluesky_zarr.ingest.cubes._tiles import Tiles
from bluesky_zarr.store._files import pread_into

if TYPE_CHECKING:
    from astropy.io.fits import Header

# FITS files come in blocks of so many bytes.
_BLOCK_BYTES = 2880
# Pixels that are read at a time, half a MiB: they are in the cache still when they are checksummed
# and turned. But so many rows at least, and not more than are needed for whole lines of the cache.
_PIXELS = 2**17
_ROWS = (16, 64)

# With one of these cards it takes more to know the values, or that they are right.
_OF_ASTROPY = ("BLANK", "CHECKSUM", "DATASUM", "GROUPS", "XTENSION")


@dataclass(frozen=True, slots=True)
class Plain:
    """Where the pixels of an image begin in its file, and how many there are: (polarization, dec,
    ra), in C order, big-endian float32.
    """

    offset: int
    shape: tuple[int, int, int]

    @property
    def nbytes(self) -> int:
        """Of the pixels."""
        planes, rows, columns = self.shape
        return 4 * planes * rows * columns

    @classmethod
    def of(cls, header: Header, axes: Axes, offset: int, nbytes: int) -> Plain | None:
        """Where the pixels of a file of `nbytes` are, or None where astropy has to read it.

        Parameters
        ----------
        header
            As it stands in the file.
        axes
            Which axis is which.
        offset
            Where the pixels begin, of `read_header`.
        nbytes
            The size of the file.
        """
        n_l, n_m = (int(card_value(header, f"NAXIS{axis}")) for axis in (1, 2))
        planes = int(card_value(header, f"NAXIS{axes.stokes}", 1)) if axes.stokes else 1
        found = cls(offset, (planes, n_m, n_l))
        end = offset + -(-found.nbytes // _BLOCK_BYTES) * _BLOCK_BYTES
        is_plain = (
            offset > 0
            and (axes.ra, axes.dec) == (1, 2)
            and card_value(header, "BITPIX") == -32
            and card_value(header, "BSCALE", 1) == 1
            and card_value(header, "BZERO", 0) == 0
            and not any(card in header for card in _OF_ASTROPY)
            and end == nbytes
        )
        return found if is_plain else None


def read_plain(path: Path, plain: Plain, nbytes: int, tiles: Tiles) -> int:
    """Read an image; returns the crc32c of its file of so many bytes, which is read once.

    Raises
    ------
    OSError
        The file cannot be read, or is shorter.
    """
    planes, n_m, n_l = plain.shape
    least, most = _ROWS
    rows = min(n_m, max(least, min(most, _PIXELS // n_l)))
    strip = np.empty((rows, n_l), ">f4")
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        checksum = _rest(fd, 0, plain.offset, 0)
        at = plain.offset
        for plane in range(planes):
            for row in range(0, n_m, rows):
                found = strip[: n_m - row]
                view = found.reshape(-1).view("u1").data
                pread_into(fd, view, at)
                at += view.nbytes
                checksum = crc32c(view, checksum)
                tiles.put(plane, row, found)
        return _rest(fd, at, nbytes, checksum)
    finally:
        os.close(fd)


def _rest(fd: int, start: int, end: int, checksum: int) -> int:
    """The checksum with the bytes between `start` and `end`: of a header, or behind the pixels."""
    content = memoryview(bytearray(end - start))
    pread_into(fd, content, start)
    return crc32c(content, checksum)
