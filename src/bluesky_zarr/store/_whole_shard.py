"""A shard file that is written once, whole: its inner chunks one after the other, then their index.

It holds nothing but what Zarr's `sharding_indexed` codec asks for, so the same chunks in the same
order give the same bytes. The file stands under a temporary name until it is whole, so a reader,
or who comes after a crash, finds all of it or none. Live shards of frames are another thing: see
`_shard`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bluesky_zarr.store._appender import Appender
from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._files import temporary_path
from bluesky_zarr.store._shard import MISSING

if TYPE_CHECKING:
    from typing_extensions import Buffer


class WholeShard:
    """A new shard file for `path` with room for `entries` inner chunks; those that are never
    appended are missing.

    As a context manager it takes its place when the block ends well, and leaves nothing when it
    does not. Where no chunk was appended there is no file.
    """

    def __init__(self, path: Path, entries: int) -> None:
        self.path = path
        self._index = np.full((entries, 2), MISSING, "<u8")
        self._temporary = temporary_path(path)
        self._fd = -1
        self._file: Appender | None = None

    def append(self, number: int, parts: Sequence[Buffer]) -> None:
        """Append an encoded chunk, given in parts; its number in the shard is in C order.

        Raises
        ------
        ValueError
            That chunk is there already: its first bytes would be dead weight for ever.
        OSError
            The disk does not take it.
        """
        if self._index[number, 0] != MISSING:
            raise ValueError(
                f"chunk {number} of {str(self.path)!r} is there already; append each chunk once"
            )
        if self._fd < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._fd = os.open(self._temporary, flags, 0o666)
            self._file = Appender(self._fd)
        assert self._file is not None
        start = self._file.end
        for part in parts:
            self._file.append(part)
        self._index[number] = start, self._file.end - start

    def commit(self) -> None:
        """Append the index and put the file in its place, instead of one that may be there."""
        if self._file is None:
            return
        index = self._index.tobytes()
        try:
            self._file.append(index + checksum(index))
            self._file.finish()
            os.replace(self._temporary, self.path)
        except BaseException:
            self.discard()
            raise
        self._close()

    def discard(self) -> None:
        """Take the temporary file away; does nothing after `commit`."""
        if self._fd >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self._temporary.unlink()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        self._file = None
        os.close(fd)

    def __enter__(self) -> WholeShard:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.commit() if kind is None else self.discard()
