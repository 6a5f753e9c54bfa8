"""What a storage format has to do: prepare arrays, and hand out sinks for frames."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from bluesky_zarr.store._sink import FrameSink
from bluesky_zarr.store._source_info import SourceInfo


class Writer(ABC):
    """Writes the frames of any number of sources into one store. A storage format is a subclass of
    this.

    The order of calls: `prepare` for each source, `kickoff`, frames into the sinks, `complete`,
    `publish`.
    """

    @abstractmethod
    def prepare(
        self, source: SourceInfo, *, key: str | None = None, capacity: int = 0
    ) -> FrameSink:
        """Make the array for a source and return the sink that its frames go into.

        Parameters
        ----------
        source
            What its frames look like and where in the scan they belong.
        key
            The array's key in the store; the source's name, if not given.
        capacity
            The most frames of a growing array, 0 = unlimited. A geometry that knows its
            size wins.
        """

    def kickoff(self) -> None:
        """Frames are about to come. Sinks take them from `prepare` on, so there is nothing to do
        for most formats.
        """
        return None

    @abstractmethod
    def complete(self) -> None:
        """No more frames come: wait until all are readable and close the sinks. Raises the first
        error of a worker.
        """

    @abstractmethod
    def collect(self, key: str) -> list[tuple[int, int]]:
        """C-order ranges [start, stop) of positions of an array that became readable since the last
        call.
        """

    @abstractmethod
    def publish(
        self, status: str = "complete", attributes: Mapping[str, Any] | None = None
    ) -> None:
        """Say that the store is finished, in one atomic step that comes last."""
