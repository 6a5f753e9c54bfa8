"""Who writes frames, each in its fastest way: ours, the machine's own limits, and peers.

A contender is a function from a `Job` to the seconds from the first frame to the moment when all
can be read; it leaves its files in `job.directory`. Nothing here is imported before it is asked
for, so that a contender's process holds that contender alone.
"""

from __future__ import annotations

import ast
import itertools
import math
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

AHEAD = 64 * 2**20
"""How much raw writing preallocates at a time; all at once is slower."""
IN_FLIGHT = 4
"""Writes that peers with futures are given at a time."""
GROUP_BYTES = 2**20
"""Small frames that are stored together, by whoever can."""


@dataclass(frozen=True)
class Job:
    """`count` frames, those of `frames` in turn, to be written below `directory`.

    `level` and `cname` are those of Blosc with bitshuffle; no `cname` is no compression.
    """

    frames: np.ndarray
    count: int
    directory: Path
    cname: str = ""
    level: int = 0

    @property
    def codec(self) -> str:
        return f"blosc-{self.cname}-{self.level}" if self.cname else "none"

    @property
    def frame_shape(self) -> tuple[int, ...]:
        return self.frames.shape[1:]

    @property
    def frame_bytes(self) -> int:
        return self.frames[0].nbytes

    @property
    def grouped(self) -> int:
        """How many small frames go into one chunk."""
        return max(1, min(self.count, GROUP_BYTES // self.frame_bytes))

    def each(self) -> itertools.chain[np.ndarray]:
        turns = itertools.repeat(list(self.frames))
        return itertools.chain.from_iterable(turns)

    def blocks(self) -> list[np.ndarray]:
        """As many frames as go into a chunk, in one piece, for each start of a block."""
        n = len(self.frames)
        return [
            self.frames[np.arange(start, start + self.grouped) % n]
            for start in range(0, n, math.gcd(n, self.grouped) or 1)
        ]


def _blosc(job: Job) -> dict[str, Any] | None:
    if not job.cname:
        return None
    return {
        "name": "blosc",
        "configuration": {
            "cname": job.cname,
            "clevel": job.level,
            "shuffle": "bitshuffle",
            "typesize": job.frames.itemsize,
            "blocksize": 0,
        },
    }


def _zarr_metadata(job: Job, chunk: int, shard: int = 0) -> dict[str, Any]:
    codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
    blosc = _blosc(job)
    codecs += [blosc] if blosc else []
    codecs += [{"name": "crc32c"}]
    inner = [chunk, *job.frame_shape]
    outer = [shard or chunk, *job.frame_shape]
    if shard:
        index = [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}]
        sharding = {"chunk_shape": inner, "codecs": codecs, "index_codecs": index}
        codecs = [{"name": "sharding_indexed", "configuration": sharding}]
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [job.count, *job.frame_shape],
        "data_type": job.frames.dtype.name,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": outer}},
        "chunk_key_encoding": {"name": "default"},
        "fill_value": 0,
        "codecs": codecs,
    }


# ---------------------------------------------------------------------------- the machine's limits


def raw(job: Job) -> float:
    """pwrite of one preallocated file, by one thread."""
    from bluesky_zarr.store._files import preallocate

    fd = os.open(job.directory / "raw", os.O_CREAT | os.O_RDWR)
    size, ahead = job.frame_bytes, 0
    started = time.perf_counter()
    for number, frame in zip(range(job.count), job.each(), strict=False):
        if (number + 1) * size > ahead:
            preallocate(fd, ahead, max(AHEAD, size))
            ahead += max(AHEAD, size)
        os.pwrite(fd, frame.data, number * size)
    seconds = time.perf_counter() - started
    os.ftruncate(fd, job.count * size)
    os.close(fd)
    return seconds


def raw_blocks(job: Job) -> float:
    """Small frames copied into a block, and each block written by pwrite."""
    return _raw_blocks(job, lambda data: 0)


def _raw_blocks(job: Job, checksum: Callable[[Any], int]) -> float:
    from bluesky_zarr.store._files import preallocate

    fd = os.open(job.directory / "raw", os.O_CREAT | os.O_RDWR)
    block = np.zeros((job.grouped, *job.frame_shape), job.frames.dtype)
    ahead = offset = slot = 0
    started = time.perf_counter()
    for _, frame in zip(range(job.count), job.each(), strict=False):
        block[slot] = frame
        slot += 1
        if slot == job.grouped:
            slot = 0
            if offset + block.nbytes > ahead:
                preallocate(fd, ahead, AHEAD)
                ahead += AHEAD
            checksum(block.data)
            os.pwrite(fd, block.data, offset)
            offset += block.nbytes
    os.pwrite(fd, block[:slot].data, offset)
    seconds = time.perf_counter() - started
    os.ftruncate(fd, job.count * job.frame_bytes)
    os.close(fd)
    return seconds


def codec_alone(job: Job) -> float:
    """The codec on two threads; nothing is written."""
    from numcodecs import blosc

    numbers = iter(range(job.count))
    taking = threading.Lock()

    def work() -> None:
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                return
            frame = job.frames[number % len(job.frames)]
            data = frame.reshape(-1).view(np.uint8).data
            blosc.compress(data, job.cname.encode(), job.level, 2, 0, frame.itemsize)

    threads = [threading.Thread(target=work) for _ in range(2)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - started


def bare(job: Job) -> float:
    """What ours does, bare: crc32c, pwrite in pieces, an index entry, on two threads; no checks."""
    from crc32c import crc32c

    from bluesky_zarr.store._files import preallocate

    fd = os.open(job.directory / "raw", os.O_CREAT | os.O_RDWR)
    piece, size, ahead = 512 * 2**10, job.frame_bytes, 0
    frames: SimpleQueue[tuple[int, memoryview] | None] = SimpleQueue()
    room = threading.Semaphore(4)

    def work() -> None:
        while (taken := frames.get()) is not None:
            number, data = taken
            crc = 0
            for start in range(0, size, piece):
                part = data[start : start + piece]
                crc = crc32c(part, crc)
                os.pwrite(fd, part, number * size + start)
            # Where it is already: the file is to be what is read back.
            os.pwrite(fd, data[:16], number * size)
            room.release()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    for number, frame in zip(range(job.count), job.each(), strict=False):
        if (number + 1) * size > ahead:
            preallocate(fd, ahead, AHEAD)
            ahead += AHEAD
        room.acquire()
        frames.put((number, frame.reshape(-1).view(np.uint8).data))
    for _ in threads:
        frames.put(None)
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    os.ftruncate(fd, job.count * size)
    os.close(fd)
    return seconds


def bare_blocks(job: Job) -> float:
    """What ours does with small frames, bare: copied into a block, crc32c, pwrite; no checks."""
    from crc32c import crc32c

    return _raw_blocks(job, crc32c)


def bare_codec_blocks(job: Job) -> float:
    """The same with a codec, which two threads share, with the checksum and pwrite; no checks."""
    from crc32c import crc32c
    from numcodecs import blosc

    from bluesky_zarr.store._files import preallocate

    fd = os.open(job.directory / "raw", os.O_CREAT | os.O_RDWR)
    shape = (job.grouped, *job.frame_shape)
    full: SimpleQueue[tuple[int, np.ndarray] | None] = SimpleQueue()
    free: SimpleQueue[np.ndarray] = SimpleQueue()
    for _ in range(4):
        free.put(np.zeros(shape, job.frames.dtype))
    appending = threading.Lock()
    extents: dict[int, tuple[int, int]] = {}
    end = ahead = 0

    def work() -> None:
        nonlocal end, ahead
        while (taken := full.get()) is not None:
            number, block = taken
            data = block.reshape(-1).view(np.uint8).data
            data = blosc.compress(data, job.cname.encode(), job.level, 2, 0, block.itemsize)
            free.put(block)
            crc32c(data)
            with appending:
                offset, end = end, end + -(-len(data) // 64) * 64
                if end > ahead:
                    preallocate(fd, ahead, AHEAD)
                    ahead += AHEAD
            os.pwrite(fd, data, offset)
            extents[number] = offset, len(data)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    started = time.perf_counter()
    block, slot = free.get(), 0
    for number, frame in zip(range(job.count), job.each(), strict=False):
        block[slot] = frame
        slot += 1
        if slot == job.grouped or number == job.count - 1:
            full.put((number, block[:slot]))
            slot = 0
            block = free.get()
    for _ in threads:
        full.put(None)
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    os.close(fd)
    (job.directory / "extents").write_text(repr([extents[n] for n in sorted(extents)]))
    return seconds


# ---------------------------------------------------------------------------- ours


def _sink(job: Job, *, flown: bool = False) -> Any:
    from bluesky_zarr.store import SourceInfo, ZarrWriter

    writer = ZarrWriter(job.directory / "ours.zarr", codec=job.codec)
    source = SourceInfo("cam", job.frames.dtype.name, job.frame_shape, flown=flown)
    return writer, writer.prepare(source, capacity=job.count)


def _ours(job: Job, *, flown: bool = False, **options: Any) -> float:
    writer, sink = _sink(job, flown=flown)
    started = time.perf_counter()
    for _, frame in zip(range(job.count), job.each(), strict=False):
        sink.write(frame, **options)
    sink.drain()
    seconds = time.perf_counter() - started
    writer.complete()
    return seconds


def ours(job: Job) -> float:
    """ZarrWriter, crc32c; the source hands its buffers over."""
    return _ours(job, copy=False)


def ours_copy(job: Job) -> float:
    """ZarrWriter, crc32c; the source uses its buffer again at once."""
    return _ours(job)


def ours_grouped(job: Job) -> float:
    """ZarrWriter, crc32c, a flown source; one call for each frame."""
    return _ours(job, flown=True)


def ours_many(job: Job) -> float:
    """ZarrWriter, crc32c, a flown source; a call of write_many for each 10 000 frames at most."""
    writer, sink = _sink(job, flown=True)
    n = len(job.frames)
    most = max(n, min(10_000, GROUP_BYTES // job.frame_bytes) // n * n)
    block = job.frames[np.arange(most) % n]
    started = time.perf_counter()
    for start in range(0, job.count, most):
        sink.write_many(block[: job.count - start])
    sink.drain()
    seconds = time.perf_counter() - started
    writer.complete()
    return seconds


def list_append(job: Job) -> float:
    """What a loop over the frames costs by itself."""
    found: list[Any] = []
    started = time.perf_counter()
    for _, frame in zip(range(job.count), job.each(), strict=False):
        found.append(frame)
    return time.perf_counter() - started


# ---------------------------------------------------------------------------- peers


def _tensorstore(job: Job, chunk: int, shard: int = 0) -> float:
    import tensorstore as ts

    array = ts.open(
        {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(job.directory / "peer.zarr")},
            "metadata": _zarr_metadata(job, chunk, shard),
        },
        context=ts.Context({"file_io_sync": False}),
        create=True,
    ).result()
    step = shard or chunk
    blocks = job.frames if step == 1 else job.blocks()
    futures: list[Any] = []
    started = time.perf_counter()
    for turn, start in enumerate(range(0, job.count, step)):
        block = blocks[turn % len(blocks)]
        data = block if step == 1 else block[: job.count - start]
        where = array[start] if step == 1 else array[start : min(job.count, start + step)]
        futures.append(where.write(data, can_reference_source_data_indefinitely=True))
        if len(futures) >= IN_FLIGHT:
            futures.pop(0).result()
    for future in futures:
        future.result()
    return time.perf_counter() - started


def tensorstore(job: Job) -> float:
    """tensorstore, a file a frame, four writes in flight, no copy, without its own fsync."""
    return _tensorstore(job, 1)


def zarr_python(job: Job) -> float:
    """zarr-python, a file a frame, write_empty_chunks=True."""
    import zarr

    return _zarr_python(job, zarr)


def zarrs(job: Job) -> float:
    """zarr-python on zarrs' codec pipeline, a file a frame, write_empty_chunks=True."""
    import zarr
    import zarrs  # noqa: F401

    zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
    return _zarr_python(job, zarr)


def _zarr_python(job: Job, zarr: Any) -> float:
    from zarr.codecs import BloscCodec, Crc32cCodec

    blosc = BloscCodec(cname=job.cname, clevel=job.level, shuffle="bitshuffle") if job.cname else ()
    array = zarr.create_array(
        str(job.directory / "peer.zarr"),
        shape=(job.count, *job.frame_shape),
        chunks=(1, *job.frame_shape),
        dtype=job.frames.dtype,
        compressors=[*((blosc,) if blosc else ()), Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    started = time.perf_counter()
    for number, frame in zip(range(job.count), job.each(), strict=False):
        array[number] = frame
    return time.perf_counter() - started


def zarr_python_blocks(job: Job) -> float:
    """zarr-python, small frames collected by hand into chunks."""
    import zarr
    from zarr.codecs import Crc32cCodec

    array = zarr.create_array(
        str(job.directory / "peer.zarr"),
        shape=(job.count, *job.frame_shape),
        chunks=(job.grouped, *job.frame_shape),
        dtype=job.frames.dtype,
        compressors=[Crc32cCodec()],
        config={"write_empty_chunks": True},
    )
    block = np.zeros((job.grouped, *job.frame_shape), job.frames.dtype)
    slot = first = 0
    started = time.perf_counter()
    for _, frame in zip(range(job.count), job.each(), strict=False):
        block[slot] = frame
        slot += 1
        if slot == job.grouped:
            array[first : first + slot] = block
            first, slot = first + slot, 0
    if slot:
        array[first : first + slot] = block[:slot]
    return time.perf_counter() - started


def acquire_zarr(job: Job) -> float:
    """acquire-zarr, its own threads; a file for a large frame, or for 16 chunks of small ones."""
    import acquire_zarr as aqz

    compression = None
    if job.cname:
        compression = aqz.CompressionSettings(
            compressor=aqz.Compressor.BLOSC1,
            codec=getattr(aqz.CompressionCodec, f"BLOSC_{job.cname.upper()}"),
            level=job.level,
            shuffle=2,
        )
    dimension = lambda name, kind, size, chunk, shard=1: aqz.Dimension(  # noqa: E731
        name=name, kind=kind, array_size_px=size, chunk_size_px=chunk, shard_size_chunks=shard
    )
    kinds = aqz.DimensionType
    height, width = job.frame_shape
    array = aqz.ArraySettings(
        output_key="cam",
        dimensions=[
            dimension("t", kinds.TIME, 0, job.grouped, 16 if job.grouped > 1 else 1),
            dimension("y", kinds.SPACE, height, height),
            dimension("x", kinds.SPACE, width, width),
        ],
        data_type=aqz.DataType.UINT16,
        compression=compression,
    )
    settings = aqz.StreamSettings(store_path=str(job.directory / "peer.zarr"), arrays=[array])
    stream = aqz.ZarrStream(settings)
    started = time.perf_counter()
    for _, frame in zip(range(job.count), job.each(), strict=False):
        stream.append(frame, key="cam")
    stream.close()
    return time.perf_counter() - started


def h5py(job: Job) -> float:
    """h5py, whole chunks written past HDF5's filters; the codec on two threads before it."""
    import h5py

    with h5py.File(job.directory / "peer.h5", "w", libver="latest") as file:
        filters: dict[str, Any] = {}
        if job.cname:
            filters = {"compression": 32001, "compression_opts": (2, 2, 2, 0, job.level, 2, 5)}
            filters["allow_unknown_filter"] = True
        array = file.create_dataset(
            "cam",
            (job.count, *job.frame_shape),
            job.frames.dtype,
            chunks=(1, *job.frame_shape),
            **filters,
        )
        zeros = (0,) * len(job.frame_shape)
        started = time.perf_counter()
        for number, frame in zip(range(job.count), job.each(), strict=False):
            array.id.write_direct_chunk((number, *zeros), frame.data)
        file.flush()
        return time.perf_counter() - started


CONTENDERS: dict[str, Callable[[Job], float]] = {
    function.__name__: function
    for function in (
        raw,
        raw_blocks,
        codec_alone,
        bare,
        bare_blocks,
        bare_codec_blocks,
        ours,
        ours_copy,
        ours_grouped,
        ours_many,
        list_append,
        tensorstore,
        zarr_python,
        zarr_python_blocks,
        zarrs,
        acquire_zarr,
        h5py,
    )
}
NEEDS = {
    "tensorstore": "tensorstore",
    "zarr_python": "zarr",
    "zarr_python_blocks": "zarr",
    "zarrs": "zarrs",
    "acquire_zarr": "acquire_zarr",
    "h5py": "h5py",
}
"""The module that a peer needs."""


# ---------------------------------------------------------------------------- reading back


def read_back(job: Job, contender: str) -> int:
    """How many of the frames are not what was written."""
    if contender in ("codec_alone", "list_append"):
        return 0
    if contender == "bare_codec_blocks":
        from numcodecs import blosc

        data = (job.directory / "raw").read_bytes()
        extents = ast.literal_eval((job.directory / "extents").read_text())
        blocks = [blosc.decompress(data[start : start + n]) for start, n in extents]
        array: Any = np.frombuffer(b"".join(blocks), job.frames.dtype)
        array = array.reshape(-1, *job.frame_shape)
    elif contender.startswith(("raw", "bare")):
        array = np.memmap(
            job.directory / "raw", job.frames.dtype, "r", shape=(job.count, *job.frame_shape)
        )
    elif contender == "h5py":
        import h5py

        array = h5py.File(job.directory / "peer.h5")["cam"]
    elif contender == "tensorstore":
        import tensorstore as ts

        kvstore = {"driver": "file", "path": str(job.directory / "peer.zarr")}
        array = ts.open({"driver": "zarr3", "kvstore": kvstore}, read=True).result()
    else:
        import zarr

        ours = contender.startswith("ours")
        store = str(job.directory / ("ours.zarr" if ours else "peer.zarr"))
        key = "cam" if ours or contender == "acquire_zarr" else None
        array = zarr.open_array(store, path=key, mode="r")
    wrong = 0
    step = max(1, 32 * 2**20 // job.frame_bytes)
    for start in range(0, job.count, step):
        read = np.asarray(array[start : min(start + step, job.count)])
        expected = job.frames[np.arange(start, start + len(read)) % len(job.frames)]
        wrong += int(np.any(read != expected, axis=tuple(range(1, read.ndim))).sum())
    return wrong + (job.count - array.shape[0])
