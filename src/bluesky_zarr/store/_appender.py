"""Writes a new file from its beginning to its end, past the page cache where the system can.

What is written once and not read soon needs no page cache: to find memory for it takes more
processor time than everything else but the codec, and it drives out what others would read again.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
from typing import TYPE_CHECKING

import numpy as np

from bluesky_zarr.store._files import pwrite_all

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Written at a time: a multiple of every block size, and long enough for disks that turn.
_PART_BYTES = 8 * 2**20
# A multiple of the blocks of disks and file systems, of which a write past the cache is made.
_BLOCK_BYTES = 4096


class Appender:
    """Appends to a new file that is open for writing. The last bytes, up to 8 MiB, are there only
    after `finish`.

    Parameters
    ----------
    fd
        Of the file; it is closed by who opened it.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._end = 0
        # Begins at a page, as the kernel asks of who goes past its cache.
        self._memory = mmap.mmap(-1, _PART_BYTES)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):
                self._memory.madvise(mmap.MADV_HUGEPAGE)
        self._part = np.frombuffer(self._memory, "u1")
        self._filled = 0
        self._direct = _set_direct(fd, True)

    @property
    def end(self) -> int:
        """Where the next byte comes to lie in the file."""
        return self._end + self._filled

    def append(self, data: Buffer) -> None:
        """Append bytes.

        Raises
        ------
        OSError
            The disk does not take it.
        """
        values = np.frombuffer(memoryview(data), "u1")
        while len(values):
            count = min(len(values), _PART_BYTES - self._filled)
            # As an array, since that lets other threads go on meanwhile.
            self._part[self._filled : self._filled + count] = values[:count]
            self._filled += count
            values = values[count:]
            if self._filled == _PART_BYTES:
                self._write(_PART_BYTES)

    def finish(self) -> None:
        """Write what is left."""
        if self._direct:
            self._write(self._filled // _BLOCK_BYTES * _BLOCK_BYTES)
            self._use_cache()
        self._write(self._filled)

    def _write(self, count: int) -> None:
        """Write so many of the bytes that wait; the others begin the next part."""
        part = self._part[:count].data
        try:
            pwrite_all(self._fd, part, self._end)
        except OSError as error:
            if not self._direct or error.errno != errno.EINVAL:
                raise
            # Of a file system that takes back what it promised, or of a disk that is nearly full.
            self._use_cache()
            pwrite_all(self._fd, part, self._end)
        self._end += count
        self._filled -= count
        self._part[: self._filled] = self._part[count : count + self._filled]

    def _use_cache(self) -> None:
        self._direct = False
        _set_direct(self._fd, False)


def _set_direct(fd: int, direct: bool) -> bool:
    """Let writes go past the page cache, or not; False where the system cannot."""
    flag = getattr(os, "O_DIRECT", 0)
    if not flag:
        return False
    import fcntl

    flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, flags | flag if direct else flags & ~flag)
    except OSError:
        return False
    return True
