"""A shard file: an append-only log of records behind a fixed index.

While it is written, a shard file is

- the index: for each inner chunk, in C order of the shard's grid of inner chunks, 16 bytes: the
  offset of its encoded bytes in the file and their length (two little-endian uint64; all ones =
  missing). Each entry is aligned and is changed by one write of 16 bytes, after the bytes it points
  at, so a reader sees the old version or the new one;
- records: a head of 64 bytes and the encoded chunk, one after the other, in any order of positions;
  before the head of a chunk of several frames, a table of them. Records and chunks begin at
  multiples of 64 bytes, with zeros in between.
  No index refers to a head. Heads are for whoever comes after a crash: they say which chunk of
  which array a record is, the how manieth write it was, and when.

Publication appends the index once more, with its crc32c, where Zarr's default (`index_location:
end`) looks for it. Source of the index format: Zarr v3, the `sharding_indexed` codec.
"""

from __future__ import annotations

import errno
import os
import struct
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._files import in_memory, link_new, preallocate, pwrite_all, sync_fd

if TYPE_CHECKING:
    from typing_extensions import Buffer

HEAD = struct.Struct("<8s16sQQQdI")
HEAD_BYTES = HEAD.size + 4
"""Bytes of a record's head: the fields and their crc32c."""
ENTRY = struct.Struct("<QQ")
ENTRY_BYTES = ENTRY.size
MISSING = 2**64 - 1

MAGIC = b"BZREC\x00\x00\x01"
MAGIC_RETRACTED = b"BZRET\x00\x00\x01"

ALIGNMENT = 64
"""Records, and the chunks in them, begin at multiples of this: the kernel copies to a place between
two words at a third of the speed, and between two cache lines at four fifths of it.
"""

EXTENT_BYTES = 64 * 2**20
"""How much is preallocated ahead of the append position at a time, at most."""
RESERVE_BYTES = 64 * 2**10
"""Preallocated beyond the end index: what publication frees again is room for the metadata, even on
a full disk.
"""
BEYOND_BYTES = 2**40
"""On a tmpfs nothing but the room for publication is preallocated, at this offset: to write into
preallocated memory takes a fifth longer there.
"""

_SCAN_BYTES = 2**20
# The kernel takes at most 1024 buffers in one call.
_MAX_BUFFERS = 1000


@dataclass(frozen=True)
class Record:
    """One encoded chunk in a shard file, as its head describes it.

    `offset` and `nbytes` are where the encoded chunk is in the file (what an index entry holds),
    `index` is the inner chunk's number in the shard (C order), `shard` the shard's number in the
    array's chunk grid (C order), `number` counts the writes of the array from 1 (all tiles of a
    frame share one), `time` is in seconds since the epoch. A `retracted` record was taken back by
    its writer and counts for nothing.
    """

    array_id: bytes
    shard: int
    index: int
    number: int
    time: float
    offset: int
    nbytes: int
    retracted: bool = False

    @property
    def head_offset(self) -> int:
        """Where the record begins in the file."""
        return self.offset - HEAD_BYTES

    @property
    def end(self) -> int:
        """Where the record ends in the file."""
        return self.offset + self.nbytes


def aligned(nbytes: int) -> int:
    """The next multiple of `ALIGNMENT`.

    Examples
    --------
    >>> aligned(0), aligned(1), aligned(64)
    (0, 64, 64)
    """
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def record_bytes(lead: int, nbytes: int) -> int:
    """What a record of an encoded chunk of `nbytes` takes in its file, with `lead` bytes before its
    head.
    """
    return aligned(lead + HEAD_BYTES) + aligned(nbytes)


def head_bytes(
    array_id: bytes,
    shard: int,
    index: int,
    number: int,
    time: float,
    nbytes: int,
    *,
    retracted: bool = False,
) -> bytes:
    """The 64 bytes that stand before an encoded chunk; see `Record` for what they say."""
    magic = MAGIC_RETRACTED if retracted else MAGIC
    fields = HEAD.pack(magic, array_id, index, number, nbytes, time, shard)
    return fields + checksum(fields)


def pack_head(record: Record) -> bytes:
    """The head of a record.

    Examples
    --------
    >>> len(
    ...     pack_head(Record(bytes(16), shard=0, index=3, number=1, time=0.0, offset=64, nbytes=10))
    ... )
    64
    """
    return head_bytes(
        record.array_id,
        record.shard,
        record.index,
        record.number,
        record.time,
        record.nbytes,
        retracted=record.retracted,
    )


def unpack_head(head: Buffer, head_offset: int) -> Record | None:
    """The record that a head at `head_offset` describes; None where these are not 64 bytes of a
    whole head.
    """
    view = memoryview(head)
    if len(view) != HEAD_BYTES or bytes(view[:8]) not in (MAGIC, MAGIC_RETRACTED):
        return None
    if checksum(view[: HEAD.size]) != bytes(view[HEAD.size :]):
        return None
    magic, array_id, index, number, nbytes, time, shard = HEAD.unpack(view[: HEAD.size])
    offset = head_offset + HEAD_BYTES
    return Record(array_id, shard, index, number, time, offset, nbytes, magic == MAGIC_RETRACTED)


class ShardFile:
    """An open shard file of `entries` inner chunks, each with `lead` bytes before its head.

    Appending, changing entries and reading are safe from several threads; which of two writes of
    one position is the newer one is for the caller to decide. Raises ValueError where the file is
    shorter than its index.
    """

    def __init__(
        self,
        path: Path,
        entries: int,
        *,
        writable: bool = True,
        expected_bytes: int = 0,
        lead: int = 0,
    ) -> None:
        self.path = path
        self.entries = entries
        self.header_bytes = entries * ENTRY_BYTES
        self.lead = lead
        flags = os.O_RDWR if writable else os.O_RDONLY
        self._fd = os.open(path, flags | os.O_CLOEXEC)
        size = os.fstat(self._fd).st_size
        if size < self.header_bytes:
            os.close(self._fd)
            raise ValueError(
                f"shard file {str(path)!r} has {size} bytes, its index of {entries} inner chunks "
                "alone needs "
                f"{self.header_bytes}: the file was cut off; restore it, or move it away to go "
                "on without its chunks"
            )
        self._end = size
        self._expected_bytes = expected_bytes
        self._reserved_until = 0
        self._preallocates = writable
        self._in_memory = writable and in_memory(self._fd)
        self._lock = threading.Lock()

    @staticmethod
    def create(path: Path, entries: int) -> bool:
        """Make the file with an index of missing chunks, whole in one step; False if it exists
        already.
        """
        return link_new(path, b"\xff" * (entries * ENTRY_BYTES))

    def close(self) -> None:
        """Close the file; the preallocation stays. Does nothing the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __enter__(self) -> ShardFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ writing

    def reserve(self, nbytes: int) -> int:
        """Set `nbytes` at the end of the log aside and return their offset; disk space is
        preallocated ahead.
        """
        with self._lock:
            # What a crash left ends anywhere.
            offset = aligned(self._end)
            end = offset + nbytes
            if self._preallocates and end > self._reserved_until:
                self._preallocate(offset, end)
            self._end = end
            return offset

    def _preallocate(self, start: int, need: int) -> None:
        tail = self.header_bytes + 4 + RESERVE_BYTES
        if self._in_memory:
            self._preallocates = False
            try:
                preallocate(self._fd, BEYOND_BYTES, tail)
            except OSError as error:
                if error.errno != errno.EFBIG:  # `ulimit -f` counts the offset
                    raise
            return
        # As far as the shard is expected to get, in steps; rewritten positions can take it further.
        ahead = min(max(self._expected_bytes, need), need + EXTENT_BYTES)
        begin = max(start, self._reserved_until)
        try:
            self._preallocates = preallocate(self._fd, begin, ahead + tail - begin)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or ahead == need:
                raise
            # What fits without running ahead is still written.
            ahead = need
            self._preallocates = preallocate(self._fd, begin, ahead + tail - begin)
        self._reserved_until = ahead

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        """Write the buffers one after the other at an offset that `reserve` gave."""
        for first in range(0, len(buffers), _MAX_BUFFERS):
            offset = _pwritev_all(self._fd, buffers[first : first + _MAX_BUFFERS], offset)

    def set_entries(self, first: int, extents: Sequence[tuple[int, int]]) -> None:
        """Let the entries from `first` on point at these (offset, length), by one aligned write."""
        if len(extents) == 1:
            data = ENTRY.pack(*extents[0])
        else:
            data = b"".join([ENTRY.pack(*extent) for extent in extents])
        pwrite_all(self._fd, data, first * ENTRY_BYTES)

    def mark_retracted(self, extents: Sequence[tuple[int, int]]) -> None:
        """Write into the heads of the records at these (offset, length) that they were taken
        back.
        """
        for offset, _ in extents:
            head_offset = offset - HEAD_BYTES
            record = unpack_head(os.pread(self._fd, HEAD_BYTES, head_offset), head_offset)
            if record is not None:
                pwrite_all(self._fd, pack_head(replace(record, retracted=True)), head_offset)

    def sync(self) -> None:
        """Wait until the data written so far is on disk; raises SyncError."""
        sync_fd(self._fd, self.path, times=False)

    def publish(self) -> None:
        """`finish`, and wait for the disk; raises SyncError where it does not confirm."""
        self.finish()
        sync_fd(self._fd, self.path)

    def finish(self) -> None:
        """Append the index with its crc32c, and give back the preallocation.

        Does nothing twice: a file that ends with its own index stays as it is. Nobody may write any
        more.
        """
        if self._in_memory:
            # What is set aside is not where the index goes: without it there is room for that.
            os.ftruncate(self._fd, self.size)
        if not self.end_index_is_whole():
            header = self._pread(self.header_bytes, 0)
            # What a crash left ends anywhere, and zeros fill the last record up.
            pwrite_all(self._fd, header + checksum(header), aligned(self.size))
        # The same size again, which frees what is preallocated beyond.
        os.ftruncate(self._fd, self.size)

    # ------------------------------------------------------------------ reading

    @property
    def size(self) -> int:
        """Bytes of the file, without the preallocation."""
        return os.fstat(self._fd).st_size

    def read_index(self) -> np.ndarray:
        """The front index: uint64 of shape (entries, 2), each row (offset, length) in bytes, all
        ones = missing.
        """
        return np.frombuffer(self._pread(self.header_bytes, 0), dtype="<u8").reshape(-1, 2)

    def read_entries(self, first: int, count: int) -> list[tuple[int, int]]:
        """`count` entries from `first` on, as (offset, length)."""
        return list(ENTRY.iter_unpack(self._pread(count * ENTRY_BYTES, first * ENTRY_BYTES)))

    def present(self) -> list[tuple[int, tuple[int, int]]]:
        """Number and (offset, length) of the front index's entries that are not missing."""
        index = self.read_index()
        filled = np.flatnonzero(~np.all(index == np.uint64(MISSING), axis=1))
        return [(int(i), (int(index[i, 0]), int(index[i, 1]))) for i in filled]

    def end_index_is_whole(self) -> bool:
        """Whether the file ends with a copy of its front index and the checksum of that."""
        header = self._pread(self.header_bytes, 0)
        tail = header + checksum(header)
        start = self.size - len(tail)
        return start >= self.header_bytes and self._pread(len(tail), start) == tail

    def chunk_is_whole(self, extent: tuple[int, int]) -> bool:
        """Whether the crc32c at the end of an encoded chunk is that of its bytes."""
        if extent[0] < self.header_bytes or extent[0] + extent[1] > self.size:
            return False
        data = memoryview(self.read_chunk(extent))
        return len(data) == extent[1] and len(data) >= 4 and checksum(data[:-4]) == bytes(data[-4:])

    def is_aligned(self, *, published: bool) -> bool:
        """Whether its records begin and end at multiples of `ALIGNMENT`; those of the first
        versions of this format follow one another without a gap.
        """
        end = self.size - (self.header_bytes + 4 if published else 0)
        return not end % ALIGNMENT and not any(
            offset % ALIGNMENT for _, (offset, _) in self.present()
        )

    def gaps_are_zeros(self, extent: tuple[int, int]) -> bool:
        """Whether only zeros fill up the record of the encoded chunk at (offset, length), and what
        lies between the index and the first record, of a file that `is_aligned`.
        """
        offset, nbytes = extent
        front = offset - aligned(self.lead + HEAD_BYTES)
        gaps = (
            (self.header_bytes, aligned(self.header_bytes)),
            (front, offset - self.lead - HEAD_BYTES),
            (offset + nbytes, offset + aligned(nbytes)),
        )
        return not any(any(self._pread(stop - start, start)) for start, stop in gaps)

    def read_chunk(self, extent: tuple[int, int]) -> bytes:
        """The encoded chunk at (offset, length); shorter where the file ends before it."""
        offset, nbytes = extent
        available = max(0, min(nbytes, self.size - offset))
        return self._pread(available, offset) if available else b""

    def read_record(self, extent: tuple[int, int]) -> Record | None:
        """The record whose encoded chunk is at (offset, length); None where no good head stands
        before it.
        """
        head_offset = extent[0] - HEAD_BYTES
        if head_offset < self.header_bytes or extent[0] > self.size:
            return None
        record = unpack_head(self._pread(HEAD_BYTES, head_offset), head_offset)
        return record if record is not None and record.nbytes == extent[1] else None

    def read_lead(self, extent: tuple[int, int]) -> bytes:
        """The bytes before the head of the encoded chunk at (offset, length)."""
        offset = extent[0] - HEAD_BYTES - self.lead
        inside = offset >= self.header_bytes and extent[0] <= self.size
        return self._pread(self.lead, offset) if inside else b""

    def records(self, array_id: bytes | None = None) -> Iterator[Record]:
        """All records with a good head, in the order of the file, each with all its bytes inside
        the file.

        Where no good head is, the search goes on byte by byte for the next one. With `array_id`,
        records of any other array (a shard file copied to a wrong place) are skipped. Retracted
        ones are among them: look at `Record.retracted`. Whether a chunk's own bytes are whole is
        not looked at.
        """
        size = self.size
        front = aligned(self.lead + HEAD_BYTES) - HEAD_BYTES
        searched = self.header_bytes
        position = aligned(searched) + front
        while searched + HEAD_BYTES <= size:
            record = unpack_head(self._pread(HEAD_BYTES, position), position)
            if (
                record is None
                or record.end > size
                or record.array_id != (array_id or record.array_id)
            ):
                position = self._next_magic(searched, size)
                searched = position + 1
            else:
                yield record
                searched = record.end
                position = aligned(searched) + front

    def _next_magic(self, position: int, size: int) -> int:
        while position + HEAD_BYTES <= size:
            block = self._pread(min(_SCAN_BYTES, size - position), position)
            found = [
                place for magic in (MAGIC, MAGIC_RETRACTED) if (place := block.find(magic)) >= 0
            ]
            if found:
                return position + min(found)
            position += max(1, len(block) - len(MAGIC) + 1)
        return size

    def _pread(self, nbytes: int, offset: int) -> bytes:
        parts = []
        while nbytes > 0:
            part = os.pread(self._fd, nbytes, offset)
            if not part:
                break
            parts.append(part)
            nbytes -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


def _pwritev_all(fd: int, buffers: Sequence[Buffer], offset: int) -> int:
    if not hasattr(os, "pwritev"):
        for buffer in buffers:
            pwrite_all(fd, buffer, offset)
            offset += memoryview(buffer).nbytes
        return offset
    total = sum(memoryview(buffer).nbytes for buffer in buffers)
    done = os.pwritev(fd, buffers, offset)
    if done == total:
        return offset + total
    # A short write: what is left goes out piece by piece, where a full disk then says so.
    for buffer in buffers:
        view = memoryview(buffer).cast("B")
        if done < len(view):
            pwrite_all(fd, view[done:], offset + done)
            offset += len(view)
            done = 0
        else:
            done -= len(view)
            offset += len(view)
    return offset
