"""Whatever is done with a writer, the store holds what a plain array would."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    FrameError,
    FrameSink,
    Layout,
    SourceInfo,
    ZarrWriter,
    recover,
    validate,
)
from bluesky_zarr.store._metadata import read_document
from tests.faults.pictures import picture
from tests.store.crashed import died
from tests.store.reading import READERS, zarr_python

KEY = "primary/cam"
FRAME = (6, 8)


class WriterAndArray(RuleBasedStateMachine):
    """A writer and, beside it, of each position the frames it was given, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.base = Path(tempfile.mkdtemp(prefix="bluesky-zarr-model-"))
        self.path = self.base / "scan.zarr"
        self.number = 0
        self.given: dict[int, list[int]] = {}
        self.last = -1
        self.open = False
        self.status = ""

    @initialize(
        codec=st.sampled_from(["none", "blosc-zstd-1", "lz4", "zstd-3"]),
        kind=st.sampled_from(["frames", "tiles", "flown", "growing"]),
        lines=st.integers(1, 4),
        points=st.integers(1, 9),
        snaked=st.booleans(),
    )
    def begin(self, codec: str, kind: str, lines: int, points: int, snaked: bool) -> None:
        fast = Linspace("x", 0, 1, points)
        spec: Any = Linspace("y", 0, 1, lines) * (~fast if snaked else fast)
        self.growing = kind == "growing"
        self.geometry = ScanGeometry.events() if self.growing else ScanGeometry.from_spec(spec)
        self.size = 40 if self.growing else self.geometry.size
        layout: Any = "frames"
        if kind == "tiles":
            layout = Layout((1, 1, 3, 8), (1, points, 6, 8))
        if kind == "flown":
            group = min(4, points)
            layout = Layout((1, group, *FRAME), (1, -(-points // group) * group, *FRAME))
        self.writer = ZarrWriter(self.path, codec=codec, layout=layout, group_seconds=60)
        info = SourceInfo("cam", "uint16", FRAME, geometry=self.geometry, flown=kind == "flown")
        self.sink: FrameSink = self.writer.prepare(info, key=KEY)
        self.open = True

    def teardown(self) -> None:
        shutil.rmtree(self.base, ignore_errors=True)

    # ------------------ what is done

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 39), many=st.integers(1, 5))
    def write(self, place: int, many: int) -> None:
        for _ in range(many):
            self._write(place % self.size, given=True)

    @precondition(lambda self: self.open and not self.growing)
    @rule(many=st.integers(1, 12))
    def write_on(self, many: int) -> None:
        """Without an index: the next position in order of acquisition."""
        order = [self.geometry.flat(k) for k in range(self.size)]
        for _ in range(many):
            k = order.index(self.last) + 1 if self.last >= 0 else 0
            if k < self.size:
                self._write(order[k], given=False)

    def _write(self, flat: int, *, given: bool) -> None:
        self.number += 1
        frame = picture(0, flat, self.number, FRAME)
        if given:
            self.sink.write(frame, flat)
        else:
            self.sink.write(frame)
        self.given.setdefault(flat, []).append(self.number)
        self.last = flat

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 39))
    def take_back(self, place: int) -> None:
        flat = place % self.size
        if self.given.get(flat):
            self.sink.retract(flat)
            self.given[flat].pop()
        elif not self.growing:
            with pytest.raises(FrameError, match="no frame to take back"):
                self.sink.retract(flat)

    @precondition(lambda self: self.open)
    @rule(shape=st.sampled_from([(8, 6), (6,), (6, 9)]))
    def a_wrong_frame_is_refused(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(FrameError, match="expected"):
            self.sink.write(np.zeros(shape, "uint16"), 0)
        with pytest.raises(FrameError, match="expected"):
            self.sink.write(np.zeros(FRAME, "float64"), 0)

    @precondition(lambda self: self.open)
    @rule()
    def another_writer_of_the_key_is_refused(self) -> None:
        with pytest.raises(FileExistsError, match="already exists"):
            ZarrWriter(self.path).prepare(SourceInfo("cam", "uint16", FRAME), key=KEY)

    @precondition(lambda self: self.open)
    @rule(status=st.sampled_from(["complete", "stopped", "aborted", "failed"]))
    def publish(self, status: str) -> None:
        self.writer.publish(status)
        self.open, self.status = False, status

    @precondition(lambda self: self.open)
    @rule(flushed=st.booleans())
    def die_and_be_recovered(self, flushed: bool) -> None:
        self.sink.drain()
        if flushed:
            self.sink._files.progress.flush()
        died(self.path)
        report = recover(self.path)
        assert report, str(report)
        self.open, self.status = False, "recovered"

    @precondition(lambda self: bool(self.status))
    @rule()
    def what_is_published_is_not_recovered_again(self) -> None:
        assert f"published already ({self.status})" in str(recover(self.path))

    # ------------------ what holds

    @invariant()
    def the_store_holds_what_was_given(self) -> None:
        if not hasattr(self, "sink"):
            return
        if self.open:
            self.sink.drain()
        data = READERS[self.number % 2](self.path, KEY).reshape(-1, *FRAME)
        for flat in range(max(len(data), *(k + 1 for k in self.given), 0)):
            numbers = self.given.get(flat)
            if numbers:
                np.testing.assert_array_equal(data[flat], picture(0, flat, numbers[-1], FRAME))
            elif flat < len(data):
                assert not data[flat].any()
        if self.open:
            assert self.sink.readable == sum(1 for numbers in self.given.values() if numbers)
            counts = self.sink.written.reshape(-1)
        else:
            assert read_document(self.path)["attributes"]["status"] == self.status
            report = validate(self.path, deep=True)
            assert report, str(report)
            counts = zarr_python(self.path, f"{KEY}_written").reshape(-1)
        for flat, numbers in self.given.items():
            assert (counts[flat] if flat < len(counts) else 0) == len(numbers)


def runs(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        WriterAndArray,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.filterwarnings("ignore:the layout")
def test_a_writer_is_a_plain_array() -> None:
    runs(examples=25, steps=12)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore:the layout")
def test_a_writer_is_a_plain_array_for_long() -> None:
    runs(examples=400, steps=40)
