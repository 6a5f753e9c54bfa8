"""The journal of a run: what the documents said, line by line, in a file beside the store.

Frames carry their own records in the shard files; everything else that a run knows (its start, the
columns and rows of its events, how it ended) is appended here before it goes anywhere else, so that
a store can be finished from what is on disk alone. The journal of `scan001.zarr` is
`scan001.zarr.journal`. It stays there after publication: it is the run's raw log, and nothing in
the store refers to it.

One line is one JSON object: `{"kind": ..., "payload": {...}, "crc32c": "..."}`, the checksum being
that of the bytes before `,"crc32c"`. NaN and the infinities are written as Python's json writes
them.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import crc32c
import numpy as np

from bluesky_zarr.store._metadata import plain

_MARK = b',"crc32c":"'
_TAIL = len(_MARK) + 8 + len(b'"}')


def _exact(value: Any) -> Any:
    # tolist and item keep NaN as a float; `plain` would turn it into a word, which metadata needs
    # and a log does not.
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        item = value.item()
        return item if isinstance(item, (bool, int, float, str)) else str(item)
    return plain(value)


_encode = json.JSONEncoder(default=_exact, separators=(",", ":")).encode


class Journal:
    """Appends lines to the journal of one store; the file is made if it is not there.

    An entry is one `write`, some tens of microseconds, and survives the death of the process from
    then on; `sync` makes it survive a power cut. May be used from several threads.

    Parameters
    ----------
    store_path
        The store, which need not be there.
    new
        Only make a journal, which claims the name of the store: of several processes that try at
        once, one does it.

    Raises
    ------
    FileExistsError
        There is a journal, and a new one was asked for.
    OSError
        The file cannot be made or has no room.

    Examples
    --------
    >>> import tempfile
    >>> store = Path(tempfile.mkdtemp()) / "scan001.zarr"
    >>> with Journal(store) as journal:
    ...     journal.append("row", {"index": 0, "data": {"x": np.float64(0.5)}})
    >>> list(Journal.read(store))
    [('row', {'index': 0, 'data': {'x': 0.5}})]
    """

    def __init__(self, store_path: Path, *, new: bool = False) -> None:
        self.path = self.path_of(store_path)
        self._lock = threading.Lock()
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | (os.O_EXCL if new else 0)
        self._fd = os.open(self.path, flags, 0o666)
        # A line that a crash or a full disk tore must not swallow the next one.
        size = os.fstat(self._fd).st_size
        self._torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"

    @staticmethod
    def path_of(store_path: Path) -> Path:
        """Where the journal of a store is: beside it."""
        return store_path.with_name(f"{store_path.name}.journal")

    def append(self, kind: str, payload: Mapping[str, Any]) -> None:
        """Write one entry; numpy values are written as numbers and lists."""
        try:
            encoded = _encode(payload)
        except TypeError:
            # A dict with keys that JSON does not have.
            encoded = _encode(plain(payload))
        body = f'{{"kind":{_encode(kind)},"payload":{encoded}'.encode()
        line = b'%b%b%08x"}\n' % (body, _MARK, crc32c.crc32c(body))
        with self._lock:
            if self._fd < 0:
                raise ValueError(
                    f"the journal {str(self.path)!r} is closed; open a new one to append to it"
                )
            if self._torn:
                line = b"\n" + line
            self._torn = True
            while line:
                # More than one turn only on a full disk, where the second raises and says why.
                line = line[os.write(self._fd, line) :]
            self._torn = False

    def sync(self) -> None:
        """Wait until all entries are on disk."""
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)

    def close(self) -> None:
        """Sync and close; may be called again."""
        with self._lock:
            if self._fd >= 0:
                os.fsync(self._fd)
                os.close(self._fd)
                self._fd = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @classmethod
    def read(cls, store_path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
        """The entries in order, lazily; none where there is no journal. Torn and damaged lines are
        left out.
        """
        for _, entry in cls.lines(store_path):
            if entry is not None:
                yield entry

    @classmethod
    def lines(cls, store_path: Path) -> Iterator[tuple[int, tuple[str, dict[str, Any]] | None]]:
        """Number (from 1) and entry of every line; None stands for a torn or damaged line."""
        try:
            file = cls.path_of(store_path).open("rb")
        except FileNotFoundError:
            return
        with file:
            for number, line in enumerate(file, 1):
                if line != b"\n":
                    yield number, _decode(line)


def flown_line(payload: Mapping[str, Any]) -> range:
    """The positions of an entry of the kind "flown", in order of acquisition."""
    first, last = payload["first"], payload["last"]
    return range(first, last + 1) if last >= first else range(first, last - 1, -1)


def _decode(line: bytes) -> tuple[str, dict[str, Any]] | None:
    text = line.removesuffix(b"\n")
    body, tail = text[:-_TAIL], text[-_TAIL:]
    if not line.endswith(b"\n") or tail != b'%b%08x"}' % (_MARK, crc32c.crc32c(body)):
        return None
    try:
        entry = json.loads(text)
        kind, payload = entry["kind"], entry["payload"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return (kind, payload) if isinstance(kind, str) and isinstance(payload, dict) else None
