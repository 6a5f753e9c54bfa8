"""Whatever is written, in whatever order, the store is what a numpy array would be."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bluesky_zarr.store import FrameError, Layout, SourceInfo, ZarrWriter, publish
from tests.store.sinks import grid, read, store_of


class SinkAgainstNumpy(RuleBasedStateMachine):
    """Whatever is written, in whatever order, the store is what a numpy array would be."""

    @initialize(
        scan=st.lists(st.integers(1, 5), min_size=1, max_size=3),
        growing=st.booleans(),
        codec=st.sampled_from(["none", "blosc-zstd-1", "zstd-1"]),
        layout=st.sampled_from(["frames", "tiles"]),
        inline=st.booleans(),
        published=st.booleans(),
    )
    def begin(
        self, scan: list[int], growing: bool, codec: str, layout: str, inline: bool, published: bool
    ) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.published = published
        scan = scan[:1] if growing else scan
        shape = (3, 5)
        own = Layout((1,) * len(scan) + (2, 2), (2,) * len(scan) + (4, 4))
        writer = ZarrWriter(
            Path(self.directory.name) / "s.zarr",
            codec=codec,
            layout="frames" if layout == "frames" else own,
        )
        source = SourceInfo("cam", "int32", shape, geometry=None if growing else grid(*scan))
        self.sink = writer.prepare(source, key="a/cam")
        self.sink._inline = inline
        self.growing = growing
        self.size = 30 if growing else math.prod(scan)
        self.versions: dict[int, list[np.ndarray]] = {}
        self.number = 0

    @rule(data=st.data())
    def write(self, data: st.DataObject) -> None:
        flat = data.draw(st.integers(0, self.size - 1))
        self.number += 1
        value = np.full((3, 5), self.number, "int32")
        value[1, 2] = -1
        assert self.sink.write(value, flat, copy=data.draw(st.booleans())) == self.number
        self.versions.setdefault(flat, []).append(value)

    @rule()
    def wrong(self) -> None:
        with pytest.raises(FrameError):
            self.sink.write(np.zeros((3, 5)), 0)
        with pytest.raises(FrameError):
            self.sink.write(np.zeros((3, 5), "int32"), -1)

    @precondition(lambda self: any(self.versions.values()))
    @rule(data=st.data())
    def retract(self, data: st.DataObject) -> None:
        flat = data.draw(st.sampled_from(sorted(k for k, v in self.versions.items() if v)))
        self.sink.retract(flat)
        self.versions[flat].pop()

    @invariant()
    def what_is_read_is_the_model(self) -> None:
        if hasattr(self, "sink"):
            self.sink.drain()
            self.compare(read(self.sink))
            assert self.sink.readable == sum(map(bool, self.versions.values()))

    def compare(self, found: np.ndarray) -> None:
        found = found.reshape(-1, 3, 5)
        counts = self.sink.written.ravel()
        # A growing array has room for whole shards, and is as long as its frames need.
        assert len(found) == len(counts) or (self.growing and len(found) < len(counts))
        assert not counts[len(found) :].any()
        for flat in range(len(found)):
            versions = self.versions.get(flat, [])
            assert counts[flat] == len(versions)
            expected = versions[-1] if versions else np.zeros((3, 5))
            np.testing.assert_array_equal(found[flat], expected)

    def teardown(self) -> None:
        if not hasattr(self, "sink"):
            return
        self.sink.close()
        if self.published:
            publish(store_of(self.sink))
        self.compare(read(self.sink))
        if self.growing:
            used = [flat for flat, versions in self.versions.items() if versions]
            assert self.sink.shape[0] == max(used, default=-1) + 1
        self.directory.cleanup()


@pytest.mark.filterwarnings("ignore:the layout")
class TestSinkAgainstNumpy(SinkAgainstNumpy.TestCase):
    settings = settings(max_examples=8, stateful_step_count=10, deadline=None)


@pytest.mark.filterwarnings("ignore:the layout")
@pytest.mark.slow
@pytest.mark.timeout(600)
class TestSinkAgainstNumpyForLong(SinkAgainstNumpy.TestCase):
    settings = settings(max_examples=100, stateful_step_count=20, deadline=None)
