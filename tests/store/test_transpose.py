"""Chunks are cut anew in bounded memory, each of them decoded few times."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bluesky_zarr.store import BatchStore, Layout, SourceInfo, ZarrWriter
from bluesky_zarr.store._chunk_reader import ChunkReader
from bluesky_zarr.store._metadata import read_document, sharded_document
from bluesky_zarr.store._transpose import Transposition
from tests.store.reading import READERS


class _Counting(ChunkReader):
    decoded = 0

    def read(self, region: Any, *, ahead: int) -> np.ndarray:
        counts = [-(-r.stop // c) - r.start // c for r, c in zip(region, self.chunks, strict=True)]
        self.decoded += int(np.prod(counts))
        self.largest = max(
            getattr(self, "largest", 0), int(np.prod([r.stop - r.start for r in region]))
        )
        return super().read(region, ahead=ahead)


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], Layout, Layout]:
    ndim = draw(st.integers(1, 4))
    shape = tuple(draw(st.integers(1, 12)) for _ in range(ndim))

    def layout() -> Layout:
        inner = tuple(draw(st.integers(1, n)) for n in shape)
        return Layout(inner, tuple(n * draw(st.integers(1, 3)) for n in inner))

    return shape, layout(), layout()


@settings(max_examples=150, deadline=None)
@given(layouts(), st.sampled_from([64, 512, 4096, 2**20]))
def test_each_chunk_is_decoded_twice_at_most_in_whatever_memory_there_is(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[tuple[int, ...], Layout, Layout],
    memory: int,
) -> None:
    shape, before, after = case
    path = tmp_path_factory.mktemp("relaid") / "a.zarr"
    values = np.random.default_rng(0).integers(0, 255, shape, "uint16")
    given = {"shape": shape, "dtype": "uint16", "dims": tuple("abcd"[: len(shape)])}
    with BatchStore(path, codec="none") as store:
        old = store.create_array("old", chunks=before.inner, shards=before.shard, **given)
        old.write((0,) * len(shape), values)
        document = sharded_document(
            **given, inner=after.inner, shard=after.shard, codec="none", published=True
        )
        new = store.add_array("new", document)
        with _Counting(store.path / "old", read_document(store.path / "old")) as reader:
            way = Transposition(reader, after.shard, after.inner, memory=memory)
            way.run(new, store.path / "scratch")
        chunks = np.prod([-(-n // c) for n, c in zip(shape, before.inner, strict=True)])
        assert reader.decoded <= 2 * chunks * (2 ** len(shape) if way.scratch_bytes else 1)
        most = max(memory // 4 // 2, np.prod(before.inner), np.prod(after.inner))
        assert reader.largest <= most
        np.testing.assert_array_equal(READERS[1](store.path, "new"), values)
        assert not (store.path / "scratch").exists()


_PEAK = """
import resource, sys, threading
import numpy as np
from bluesky_zarr.store import relayout, ZarrWriter, SourceInfo
from bluesky_zarr.store import _relayout
# What a first small one takes is the process's own.
own = sys.argv[2] + ".small"
writer = ZarrWriter(own, codec=sys.argv[4])
sink = writer.prepare(SourceInfo("cam", "uint16", (64, 64)), capacity=4)
for _ in range(4):
    sink.write(np.zeros((64, 64), "uint16"))
writer.publish()
relayout(own, own + ".relaid", access=sys.argv[3])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
relayout(sys.argv[1], sys.argv[2], access=sys.argv[3])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.parametrize("codec", ["none", "lz4"])
def test_it_takes_256_MiB_however_large_the_store_is(tmp_path: Path, codec: str) -> None:
    writer = ZarrWriter(tmp_path / "frames.zarr", codec=codec)
    sink = writer.prepare(SourceInfo("cam", "uint16", (2048, 2048)), capacity=120)
    noise = np.random.default_rng(0).integers(0, 4096, (2048, 2048), "uint16")
    for _ in range(120):
        sink.write(noise)
    writer.publish()
    for source, target, access in (("frames", "series", "series"), ("series", "back", "frames")):
        done = subprocess.run(
            [sys.executable, "-c", _PEAK, tmp_path / f"{source}.zarr", tmp_path / f"{target}.zarr",
             access, codec],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert int(done.stdout) <= 256
