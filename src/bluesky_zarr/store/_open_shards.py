"""The shard files of one array that are open: few at a time, and which of them the disk has yet to
take.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bluesky_zarr.store._files import fsync_dir
from bluesky_zarr.store._shard import ShardFile

MAX_OPEN_SHARDS = 16
"""How many shard files an array keeps open."""


class Place(NamedTuple):
    """Where a part of a frame belongs: a shard, by its number and coordinates, and its first entry
    there.
    """

    number: int
    coordinates: tuple[int, ...]
    first: int


class _Open:
    __slots__ = ("file", "place", "users")

    def __init__(self, file: ShardFile, place: Place) -> None:
        self.file = file
        self.place = place
        self.users = 0


class OpenShards:
    """The shard files beneath `node`, an array, made and opened when they are needed. Safe from
    several threads.

    Each has `entries` inner chunks with `lead` bytes before the head of each, and becomes about
    `expected_bytes` long.
    """

    def __init__(self, node: Path, *, entries: int, expected_bytes: int, lead: int) -> None:
        self._node = node
        self._entries = entries
        self._expected_bytes = expected_bytes
        self._lead = lead
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._unsynced: dict[int, Place] = {}

    @contextlib.contextmanager
    def using(self, places: Sequence[Place], *, written: bool = True) -> Iterator[list[ShardFile]]:
        """The files of these places, which stay open meanwhile; `written` says that they change."""
        files = self.acquire(places)
        try:
            yield files
        finally:
            self.release(places, written=written)

    def acquire(self, places: Sequence[Place]) -> list[ShardFile]:
        """As `using`, until `release`."""
        files = []
        with self._lock:
            for place in places:
                shard = self._open.get(place.number)
                if shard is None:
                    self._close_idle()
                    try:
                        shard = _Open(self._open_file(place.coordinates), place)
                    except BaseException:
                        for done in places[: len(files)]:
                            self._open[done.number].users -= 1
                        raise
                    self._open[place.number] = shard
                else:
                    self._open.move_to_end(place.number)
                shard.users += 1
                files.append(shard.file)
        return files

    def release(self, places: Sequence[Place], *, written: bool = True) -> None:
        """The end of `acquire`."""
        with self._lock:
            for place in places:
                self._open[place.number].users -= 1
                if written:
                    self._unsynced[place.number] = place

    def _open_file(self, coordinates: tuple[int, ...]) -> ShardFile:
        path = self._node.joinpath("c", *map(str, coordinates))
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            ShardFile.create(path, self._entries)
        return ShardFile(path, self._entries, expected_bytes=self._expected_bytes, lead=self._lead)

    def _close_idle(self) -> None:
        for number in list(self._open):
            if len(self._open) < MAX_OPEN_SHARDS:
                break
            if not self._open[number].users:
                self._open.pop(number).file.close()

    def sync(self) -> bool:
        """Wait until what is stored is on disk, with the names of the files beneath `node`; whether
        there was anything to wait for. Raises OSError, and does not try the same bytes again.
        """
        with self._lock:
            unsynced, self._unsynced = self._unsynced, {}
            # What is being stored may be readable already.
            unsynced |= {n: shard.place for n, shard in self._open.items() if shard.users}
        directories: set[Path] = set()
        try:
            for place in unsynced.values():
                with self.using([place], written=False) as (file,):
                    file.sync()
                parents = itertools.takewhile(lambda path: path != self._node, file.path.parents)
                directories.update(parents)
            for directory in directories:
                fsync_dir(directory)
        except KeyboardInterrupt:  # nothing of the disk's: they are to be asked for again
            with self._lock:
                self._unsynced = unsynced | self._unsynced
            raise
        return bool(unsynced)

    def close(self) -> None:
        """Close all files; nobody may be using them."""
        with self._lock:
            for shard in self._open.values():
                shard.file.close()
            self._open.clear()
