"""A shard file is an append-only log of records behind an index that readers can always trust."""

from __future__ import annotations

import errno
import os
import resource
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from bluesky_zarr.store import _shard
from bluesky_zarr.store._codecs import checksum
from bluesky_zarr.store._files import preallocate
from bluesky_zarr.store._shard import (
    BEYOND_BYTES,
    HEAD_BYTES,
    MAGIC,
    MISSING,
    RESERVE_BYTES,
    Record,
    ShardFile,
    pack_head,
    unpack_head,
)
from tests.store.sinks import full_disk

ARRAY = bytes(range(16))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "0"
    assert ShardFile.create(made, entries=4)
    return made


def append(
    shard: ShardFile, index: int, number: int, data: bytes, array_id: bytes = ARRAY
) -> Record:
    chunk = data + checksum(data)
    offset = shard.reserve(HEAD_BYTES + len(chunk)) + HEAD_BYTES
    record = Record(array_id, 7, index, number, 1.5, offset, len(chunk))
    shard.write([pack_head(record), data, checksum(data)], offset - HEAD_BYTES)
    shard.set_entries(index, [(offset, len(chunk))])
    return record


def test_it_is_born_whole_with_every_chunk_missing(path: Path) -> None:
    assert path.read_bytes() == b"\xff" * 64
    assert [name.name for name in path.parent.iterdir()] == ["0"]


def test_who_creates_second_finds_the_file_of_the_first(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        append(shard, 0, 1, b"data")
    before = path.read_bytes()
    assert not ShardFile.create(path, entries=4)
    assert path.read_bytes() == before


def test_a_head_is_64_bytes_and_says_what_its_chunk_is() -> None:
    record = Record(ARRAY, shard=3, index=9, number=2, time=12.25, offset=1064, nbytes=77)
    head = pack_head(record)
    assert len(head) == 64
    assert head[:8] == MAGIC
    assert struct.unpack("<QQQdI", head[24:60]) == (9, 2, 77, 12.25, 3)
    assert unpack_head(head, 1000) == record


@pytest.mark.parametrize("place", range(64))
def test_a_head_with_a_flipped_bit_is_no_head(place: int) -> None:
    head = bytearray(pack_head(Record(ARRAY, 3, 9, 2, 12.25, 1064, 77)))
    head[place] ^= 1
    assert unpack_head(bytes(head), 1000) is None


def test_entries_point_at_the_chunk_and_not_at_its_head(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        record = append(shard, 2, 1, b"hello")
        assert shard.read_index().tolist() == [
            [MISSING] * 2,
            [MISSING] * 2,
            [record.offset, 9],
            [MISSING] * 2,
        ]
        assert shard.read_chunk((record.offset, 9))[:5] == b"hello"
        assert shard.read_record((record.offset, 9)) == record
        assert shard.read_record((record.offset + 1, 9)) is None


def test_records_are_found_in_the_order_they_were_written(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        made = [append(shard, index, k, bytes([k]) * k) for k, index in enumerate((3, 0, 3, 1), 1)]
        assert list(shard.records()) == made


def test_an_array_does_not_take_the_records_of_another_for_its_own(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        append(shard, 0, 1, b"other", array_id=bytes(16))
        mine = append(shard, 1, 2, b"mine")
        assert list(shard.records(ARRAY)) == [mine]
        assert len(list(shard.records())) == 2


def test_a_torn_tail_is_no_record(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        whole = append(shard, 0, 1, b"whole")
        torn = append(shard, 1, 2, b"torn")
    for length in range(whole.end, torn.end):
        os.truncate(path, length)
        with ShardFile(path, 4) as shard:
            assert list(shard.records()) == [whole]
        path.write_bytes(path.read_bytes() + bytes(torn.end - length))


def test_the_search_goes_on_behind_a_damaged_head(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        # Data that looks like the beginning of a head, over the border of what is read at once.
        first = append(shard, 0, 1, b"x" * (_shard._SCAN_BYTES - 4) + MAGIC + b"y" * 500)
        second = append(shard, 1, 2, b"second")
    data = bytearray(path.read_bytes())
    data[first.head_offset + 30] ^= 0xFF
    path.write_bytes(data)
    with ShardFile(path, 4) as shard:
        assert list(shard.records()) == [second]


def test_records_begin_at_multiples_of_64_bytes_behind_whatever_a_crash_left(path: Path) -> None:
    for number in range(1, 4):
        with ShardFile(path, 4) as shard:
            assert append(shard, 0, number, b"odd").head_offset % 64 == 0
        with path.open("ab") as file:
            file.write(b"torn")
    with ShardFile(path, 4) as shard:
        assert [record.number for record in shard.records()] == [1, 2, 3]


def test_records_that_begin_anywhere_are_found_too(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        first, second = append(shard, 0, 1, b"odd"), append(shard, 1, 2, b"even")
    data = path.read_bytes()
    path.write_bytes(data[: first.end] + data[second.head_offset :])
    with ShardFile(path, 4) as shard:
        assert [record.number for record in shard.records()] == [1, 2]


def test_a_record_that_was_taken_back_says_so(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        first, second = append(shard, 0, 1, b"first"), append(shard, 0, 2, b"second")
        shard.mark_retracted([(second.offset, second.nbytes)])
        assert list(shard.records()) == [first, replace(second, retracted=True)]


def test_preallocation_does_not_change_the_size(path: Path) -> None:
    with ShardFile(path, 4, expected_bytes=10 * 2**20) as shard:
        record = append(shard, 0, 1, b"data")
        assert shard.size == record.end
        if os.stat(path).st_blocks * 512 < 2**20:
            pytest.skip("this file system does not preallocate")
        shard.publish()
    assert os.stat(path).st_blocks * 512 < 2**20


def test_on_a_nearly_full_disk_only_what_is_needed_is_preallocated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def nearly_full(fd: int, offset: int, length: int) -> bool:
        asked.append(length)
        if length > 2**20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return True

    monkeypatch.setattr(_shard, "preallocate", nearly_full)
    with ShardFile(path, 4, expected_bytes=10 * 2**20) as shard:
        append(shard, 0, 1, b"data")
    assert asked[-1] == HEAD_BYTES + 8 + 64 + 4 + RESERVE_BYTES


def test_in_memory_only_the_room_for_publication_is_set_aside(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def noted(fd: int, offset: int, length: int) -> bool:
        asked.append((offset, length))
        return preallocate(fd, offset, length)

    monkeypatch.setattr(_shard, "in_memory", lambda fd: True)
    monkeypatch.setattr(_shard, "preallocate", noted)
    with ShardFile(path, 4, expected_bytes=10 * 2**20) as shard:
        for number in range(4):
            append(shard, number, number + 1, b"data")
        assert asked == [(BEYOND_BYTES, 64 + 4 + RESERVE_BYTES)]
        shard.publish()
        assert shard.end_index_is_whole()
    assert os.stat(path).st_blocks * 512 < RESERVE_BYTES


def test_in_memory_a_limit_of_the_size_of_files_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_shard, "in_memory", lambda fd: True)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**30, before[1]))
    try:
        with ShardFile(path, 4) as shard:
            append(shard, 0, 1, b"data")
            shard.publish()
            assert shard.end_index_is_whole()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_on_a_full_disk_nothing_is_set_aside(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ShardFile(path, 4) as shard:
        with monkeypatch.context() as patch:
            patch.setattr(_shard, "preallocate", full_disk)
            with pytest.raises(OSError, match="No space left"):
                shard.reserve(1000)
        assert shard.reserve(10) == 64


def test_short_writes_are_completed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.pwritev

    for length in range(30):

        def short(fd: int, buffers: list, offset: int, length: int = length) -> int:
            return whole(fd, [b"".join(map(bytes, buffers))[:length]], offset)

        with ShardFile(path, 4) as shard:
            offset = shard.reserve(26)
            with monkeypatch.context() as patch:
                patch.setattr(os, "pwritev", short)
                shard.write([b"abcdefgh", b"", b"ijklmnopqrst", b"uvwxyz"], offset)
            assert shard.read_chunk((offset, 26)) == b"abcdefghijklmnopqrstuvwxyz"


def test_where_there_is_no_pwritev_pwrite_will_do(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pwritev")
    with ShardFile(path, 4) as shard:
        record = append(shard, 1, 1, b"data")
        assert list(shard.records()) == [record]


def test_more_buffers_than_the_kernel_takes_at_once(path: Path) -> None:
    buffers = [bytes([k % 251]) * 3 for k in range(3000)]
    with ShardFile(path, 4) as shard:
        offset = shard.reserve(9000)
        shard.write(buffers, offset)
        assert shard.read_chunk((offset, 9000)) == b"".join(buffers)


def test_publication_appends_the_index_with_its_checksum_once(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        append(shard, 2, 1, b"data")
        shard.publish()
        once = path.read_bytes()
        shard.publish()
    assert path.read_bytes() == once
    assert once.endswith(once[:64] + checksum(once[:64]))


def test_publication_that_was_cut_off_is_completed(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        append(shard, 2, 1, b"data")
    log = path.read_bytes()
    for length in range(1, 68):
        path.write_bytes(log + (log[:64] + checksum(log[:64]))[:length])
        with ShardFile(path, 4) as shard:
            shard.publish()
            assert len(list(shard.records())) == 1
        assert path.read_bytes().endswith(log[:64] + checksum(log[:64]))


def test_an_empty_shard_can_be_published(path: Path) -> None:
    with ShardFile(path, 4) as shard:
        shard.publish()
    assert path.read_bytes() == b"\xff" * 64 + b"\xff" * 64 + checksum(b"\xff" * 64)


def test_a_file_without_a_whole_index_is_refused(path: Path) -> None:
    os.truncate(path, 63)
    with pytest.raises(
        ValueError, match=r"has 63 bytes, its index of 4 inner chunks alone needs 64"
    ):
        ShardFile(path, 4)
