"""Frames that are counted for documents: those that nobody waits for any more do not count."""

from __future__ import annotations

from typing import Any

from bluesky_zarr.devices._ophyd._progress import Progress


class Sink:
    """Says what became readable when it is told to."""

    def __init__(self) -> None:
        self.fresh: list[tuple[int, int]] = []

    def store(self, cell: int) -> None:
        self.fresh.append((cell, cell + 1))

    def collect(self) -> list[tuple[int, int]]:
        fresh, self.fresh = self.fresh, []
        return fresh


class Array:
    """The part of a binding that counting needs."""

    def __init__(self) -> None:
        self.sink = Sink()


def array() -> Any:
    return Array()


def test_a_frame_that_was_given_up_and_comes_late_does_not_announce_the_next_one_of_its_cell() -> (
    None
):
    progress, binding = Progress(), array()
    progress.add(binding, [5])
    progress.forget()
    assert progress.late == [binding]
    binding.sink.store(5)  # as draining it does
    progress.written(binding)
    progress.drained(binding)
    assert progress.late == []
    progress.add(binding, [5])
    progress.written(binding)
    assert progress.readable == 0
    binding.sink.store(5)
    progress.written(binding)
    assert progress.readable == 1
