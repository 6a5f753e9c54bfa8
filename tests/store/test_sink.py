"""What goes into a sink is what is read, from wherever, in whatever order it came."""

from __future__ import annotations

import logging
import os
import threading

import numpy as np
import pytest

from bluesky_zarr.store import FrameError, Layout, inspect, publish
from bluesky_zarr.store import _progress as progress_module
from bluesky_zarr.store import _sink as sink_module
from bluesky_zarr.store._shard import ShardFile
from tests.store.reading import READERS, zarr_python
from tests.store.sinks import MakeSink, frame, full_disk, grid, read, store_of

# ---------------------------------------------------------------------- what is written is read


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd-3", "blosc-lz4-5", "blosc-zstd-1"])
@pytest.mark.parametrize("layout", ["frames", "balanced", "series"])
def test_every_codec_and_layout_is_read_by_zarr_python_and_tensorstore(
    make_sink: MakeSink, codec: str, layout: str
) -> None:
    shape = (300, 140)
    sink = make_sink(shape, geometry=grid(2, 3), codec=codec, layout=layout)
    expected = np.zeros((2, 3, *shape), "uint16")
    for k in (4, 0, 5, 2):
        expected[divmod(k, 3)] = frame(k, shape)
        sink.write(expected[divmod(k, 3)], k)
    sink.drain()
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), sink.key), expected)
    sink.close()
    publish(store_of(sink))
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), sink.key), expected)


@pytest.mark.parametrize("dtype", ["bool", "int8", ">u2", "uint64", "float32", ">f8", "complex64"])
@pytest.mark.parametrize("shape", [(), (7,), (3, 4), (2, 3, 4), (1, 2, 3, 4)])
def test_every_dtype_and_rank_is_read_as_it_was(
    make_sink: MakeSink, dtype: str, shape: tuple[int, ...], small_is_large: None
) -> None:
    sink = make_sink(shape, dtype)
    for k in range(3):
        sink.write(frame(k, shape, dtype))
    sink.close()
    found = read(sink)
    assert found.shape == (3, *shape)
    assert found.dtype == np.dtype(dtype).newbyteorder("<")
    for k in range(3):
        np.testing.assert_array_equal(found[k], frame(k, shape, dtype))


def test_python_numbers_are_frames_of_scalars(make_sink: MakeSink) -> None:
    sink = make_sink((), "float64")
    sink.write(1.5)
    sink.write(np.float64(2.5))
    sink.close()
    assert read(sink).tolist() == [1.5, 2.5]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("copy", [True, False])
def test_views_of_larger_frames_are_stored_right(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch, inline: bool, copy: bool
) -> None:
    monkeypatch.setattr(sink_module, "INLINE_BYTES", 10**6 if inline else 0)
    sink = make_sink(capacity=2)
    whole = frame(1, (20, 30))
    sink.write(whole[5:15, 3:23:2], copy=copy)
    sink.write(frame(2).T, copy=copy)
    sink.drain()
    np.testing.assert_array_equal(read(sink)[0], whole[5:15, 3:23:2])
    np.testing.assert_array_equal(read(sink)[1], frame(2).T)


def test_a_buffer_can_be_filled_again_as_soon_as_write_returns(
    make_sink: MakeSink, small_is_large: None
) -> None:
    sink = make_sink((200, 300), capacity=50)
    buffer = np.empty((200, 300), "uint16")
    for k in range(50):
        buffer[:] = k
        sink.write(buffer)
    sink.drain()
    np.testing.assert_array_equal(read(sink)[:50, 7, 9], np.arange(50))


def test_a_frame_without_an_index_goes_to_the_next_place_in_order_of_acquisition(
    make_sink: MakeSink,
) -> None:
    geometry = grid(3, 2, 4, snaked=(1, 2))
    sink = make_sink((), "int64", geometry)
    for k in range(10):
        sink.write(k)
    # After a frame that was placed, the next one goes where the scan goes on from there.
    sink.write(100, geometry.position(5))
    for k in range(6, 24):
        sink.write(k)
    sink.close()
    for k in range(24):
        assert read(sink)[geometry.position(k)] == (100 if k == 5 else k)


def test_threads_that_write_without_an_index_do_not_overwrite_each_other(
    make_sink: MakeSink,
) -> None:
    sink = make_sink((), "int64", capacity=400)
    threads = [
        threading.Thread(target=lambda base=base: [sink.write(base + k) for k in range(100)])
        for base in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sink.close()
    assert sorted(read(sink).tolist()) == list(range(400))


# ---------------------------------------------------------------------- written again


@pytest.mark.parametrize("layout", ["frames", "series"])
def test_the_last_frame_at_a_position_wins(
    make_sink: MakeSink, small_is_large: None, layout: str
) -> None:
    sink = make_sink((200, 130), geometry=grid(4), layout=layout)
    numbers = [sink.write(frame(k, (200, 130)), k % 3) for k in range(60)]
    sink.drain()
    assert numbers == list(range(1, 61))
    for position in range(3):
        np.testing.assert_array_equal(read(sink)[position], frame(57 + position, (200, 130)))
    assert sink.written.tolist() == [20, 20, 20, 0]
    assert (sink.readable, sink.completed) == (3, 60)


def test_an_older_frame_that_is_stored_late_does_not_win(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(2), codec="none")
    sink._files.store(frame(2), 1, number=2, time=0.0)
    sink._files.store(frame(1), 1, number=1, time=0.0)
    np.testing.assert_array_equal(read(sink)[1], frame(2))
    assert sink.written.tolist() == [0, 2]
    assert sink.dead_bytes == 64 + 256  # 200 bytes and a checksum, filled up to 64s


def test_bytes_of_frames_written_again_are_counted_as_dead(make_sink: MakeSink) -> None:
    sink = make_sink(codec="none")
    for _ in range(3):
        sink.write(frame(0), 0)
    assert sink.dead_bytes == 2 * (64 + 256)
    sink.close()
    assert inspect(store_of(sink)).dead_bytes == sink.dead_bytes


@pytest.mark.parametrize("layout", ["frames", "series"])
def test_a_frame_taken_back_gives_way_to_the_one_before(make_sink: MakeSink, layout: str) -> None:
    shape = (150, 140)
    sink = make_sink(shape, geometry=grid(2, 2), layout=layout)
    for k in range(3):
        sink.write(frame(k, shape), (1, 0))
    for k in (1, 0):
        sink.retract((1, 0))
        np.testing.assert_array_equal(read(sink)[1, 0], frame(k, shape))
        assert sink.written.tolist() == [[0, 0], [k + 1, 0]]
    sink.retract((1, 0))
    assert not read(sink).any()
    assert sink.readable == 0
    with pytest.raises(FrameError, match=r"index \(1, 0\) for 'cam': there is no frame to take"):
        sink.retract((1, 0))
    sink.write(frame(9, shape), (1, 0))
    np.testing.assert_array_equal(read(sink)[1, 0], frame(9, shape))
    assert sink.written.tolist() == [[0, 0], [1, 0]]


def test_a_frame_taken_back_stays_so_after_a_crash(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(2))
    sink.write(frame(0), 0)
    sink.write(frame(1), 0)
    sink.retract(0)
    with ShardFile(store_of(sink) / "primary/cam/c/0/0/0", 2, writable=False) as shard:
        assert [(r.number, r.retracted) for r in shard.records()] == [(1, False), (2, True)]


def test_a_damaged_frame_is_not_given_back(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(1), codec="none")
    for k in range(3):
        sink.write(frame(k), 0)
    path = store_of(sink) / "primary/cam/c/0/0/0"
    with ShardFile(path, 1) as shard:
        second = list(shard.records())[1]
        shard.write([b"\xff"], second.offset + 10)
    sink.retract(0)
    np.testing.assert_array_equal(read(sink)[0], frame(0))


# ---------------------------------------------------------------------- growing


def test_a_growing_array_is_long_enough_for_every_frame_and_trimmed_at_the_end(
    make_sink: MakeSink,
) -> None:
    sink = make_sink(layout=Layout((1, 10, 10), (4, 10, 10)), codec="none")
    lengths = []
    for k in range(50):
        sink.write(frame(k))
        lengths.append(len(read(sink)))
        assert sink.shape[0] >= lengths[-1] > k
        np.testing.assert_array_equal(read(sink)[k], frame(k))
    # Few rewritings of the metadata, however many frames come.
    assert len(set(lengths)) < 8
    sink.write(frame(60), 60)
    sink.close()
    assert read(sink).shape == (61, 10, 10)
    assert sink.written.shape == (61,)
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [1] * 50 + [0] * 10 + [1]


def test_counts_that_a_full_disk_refused_are_written_once_there_is_room(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = make_sink(geometry=grid(4))
    sink.write(frame(0))
    monkeypatch.setattr(os, "pwrite", full_disk)
    with pytest.raises(OSError, match="No space left"):
        sink._files.progress.flush()
    monkeypatch.undo()
    sink.close()
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [1, 0, 0, 0]


def test_an_array_without_a_frame_ends_empty(make_sink: MakeSink) -> None:
    sink = make_sink()
    sink.close()
    publish(store_of(sink))
    assert read(sink).shape == (0, 10, 10)


def test_an_array_of_known_size_keeps_it(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(4))
    sink.write(frame(0))
    sink.close()
    assert read(sink).shape == (4, 10, 10)
    assert sink.expected == 4


# ---------------------------------------------------------------------- progress


def test_readable_says_what_a_reader_finds_and_notify_when(
    make_sink: MakeSink, small_is_large: None
) -> None:
    sink = make_sink(geometry=grid(20))
    seen: list[tuple[int, int]] = []
    sink.notify = lambda completed: seen.append((completed, sink.readable))
    for k in range(20):
        sink.write(frame(k))
    sink.drain()
    assert len(seen) == 20
    assert max(seen) == (20, 20)
    assert sink.readable == sink.completed == 20


def test_a_failing_callback_harms_nobody(
    make_sink: MakeSink, caplog: pytest.LogCaptureFixture
) -> None:
    sink = make_sink()
    sink.notify = lambda completed: 1 // 0
    with caplog.at_level(logging.ERROR):
        sink.write(frame(0))
    sink.close()
    assert "the notify callback of the sink of 'primary/cam' failed" in caplog.text
    np.testing.assert_array_equal(read(sink)[0], frame(0))


def test_a_small_frame_is_readable_when_write_returns(make_sink: MakeSink) -> None:
    sink = make_sink()
    for k in range(5):
        sink.write(frame(k))
        assert sink.readable == k + 1


def test_collect_gives_each_range_once(make_sink: MakeSink) -> None:
    sink = make_sink(geometry=grid(10))
    for k in (3, 2, 4, 8, 9, 0):
        sink.write(frame(k), k)
    assert sink.collect() == [(0, 1), (2, 5), (8, 10)]
    assert sink.collect() == []
    for k in (4, 5, 6):
        sink.write(frame(k), k)
    sink.retract(5)
    assert sink.collect() == [(4, 5), (6, 7)]


@pytest.mark.parametrize("shape", [(5, 7), (3, 200, 150), (2, 3, 20000)])
def test_counts_are_in_the_store_after_close(make_sink: MakeSink, shape: tuple[int, ...]) -> None:
    sink = make_sink((), "uint8", grid(*shape))
    expected = np.zeros(shape, "uint32")
    rng = np.random.default_rng(0)
    for _ in range(100):
        position = tuple(int(rng.integers(n)) for n in shape)
        expected[position] += 1
        sink.write(np.uint8(1), position)
    np.testing.assert_array_equal(sink.written, expected)
    sink.close()
    for reader in READERS:
        np.testing.assert_array_equal(reader(store_of(sink), "primary/cam_written"), expected)


def test_counts_are_in_the_store_while_frames_come(
    make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "FLUSH_SECONDS", 0.0)
    sink = make_sink(geometry=grid(3))
    for k in (1, 1, 2):
        sink.write(frame(k), k)
    assert zarr_python(store_of(sink), "primary/cam_written").tolist() == [0, 2, 1]
