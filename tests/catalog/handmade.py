"""Stores by zarr-python and documents by event-model: what a run leaves, without a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import event_model
import numpy as np
import zarr
from event_model.documents import StreamRange

MIMETYPE = "application/x-zarr"

COORDINATES = [
    {"dim": "y", "name": "y", "values": [0.0, 0.1, 0.2], "units": "mm"},
    {"dim": "x", "name": "x", "values": [0.0, 0.1, 0.2, 0.3, 0.4], "units": "mm"},
]


def make_array(
    path: Path,
    key: str,
    shape: Sequence[int],
    dims: Sequence[str],
    chunks: Sequence[int],
    **kwargs: Any,
) -> zarr.Array:
    """An array in the store at `path`, whose groups are made if need be."""
    zarr.open_group(path, mode="a")
    kwargs = {"dtype": "uint16"} | kwargs
    return zarr.create_array(
        path,
        name=key,
        shape=tuple(shape),
        chunks=tuple(chunks),
        dimension_names=tuple(dims),
        **kwargs,
    )


def frame_of(position: int, shape: tuple[int, ...]) -> np.ndarray:
    """The frame that belongs to a flat position: no two are alike."""
    return (np.arange(np.prod(shape)).reshape(shape) + 100 * position).astype("uint16")


@dataclass
class HandmadeRun:
    """One stream with a camera array and scalar columns, sent document by document."""

    send: Callable[[str, Any], None]
    store: Path
    scan_shape: tuple[int, ...]
    scan_dims: tuple[str, ...]
    frame_shape: tuple[int, ...] = (4, 6)
    columns: tuple[str, ...] = ("x", "y", "scan_index", "cam-sum")
    growing: bool = False
    coordinates: list[dict[str, Any]] = field(default_factory=list)
    cameras: tuple[str, ...] = ("cam",)
    arrays: dict[str, zarr.Array] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._run = event_model.compose_run(metadata={"plan_name": "handmade", "scan_id": 1})
        self.uid = self._run.start_doc["uid"]
        self.send("start", self._run.start_doc)
        keys: dict[str, Any] = {
            name: {"dtype": "number", "shape": [], "source": "sim", "dtype_numpy": "<f8"}
            for name in self.columns
        }
        for cam in self.cameras:
            frame_dims = [f"{cam}_y", f"{cam}_x"]
            self.arrays[cam] = make_array(
                self.store,
                f"primary/{cam}",
                (*self.scan_shape, *self.frame_shape),
                (*self.scan_dims, *frame_dims),
                ((1,) * len(self.scan_shape) + self.frame_shape),
            )
            keys[cam] = {
                "dtype": "array",
                "shape": list(self.frame_shape),
                "dims": frame_dims,
                "dtype_numpy": "<u2",
                "external": "STREAM:",
                "source": self.uri(cam),
            }
        self._descriptor = self._run.compose_descriptor(name="primary", data_keys=keys)
        self.send("descriptor", self._descriptor.descriptor_doc)
        self._resources: dict[str, Any] = {}
        for cam in self.cameras:
            self.announce_resource(cam)
        self.seq_num = 0

    def uri(self, cam: str) -> str:
        return f"file://localhost{self.store}/primary/{cam}"

    def announce_resource(self, cam: str) -> None:
        """Send a StreamResource, a second time as after a pause."""
        scan_shape = [0] if self.growing else list(self.scan_shape)
        bundle = self._run.compose_stream_resource(
            mimetype=MIMETYPE,
            uri=self.uri(cam),
            data_key=cam,
            parameters={
                "chunk_shape": [1] * len(self.scan_shape) + list(self.frame_shape),
                "scan_shape": scan_shape,
                "scan_dims": list(self.scan_dims),
                "frame_shape": list(self.frame_shape),
                "growing": self.growing,
                **({"coordinates": self.coordinates} if self.coordinates else {}),
            },
        )
        self._resources[cam] = bundle
        self.send("stream_resource", bundle.stream_resource_doc)

    def frame(self, position: int, frame: np.ndarray | None = None) -> None:
        """Bytes first, then the documents."""
        if frame is None:
            frame = frame_of(position, self.frame_shape)
        self.seq_num += 1
        for cam in self.cameras:
            self.arrays[cam][np.unravel_index(position, self.scan_shape)] = frame
            self.send(
                "stream_datum",
                self._resources[cam].compose_stream_datum(
                    StreamRange(start=position, stop=position + 1),
                    StreamRange(start=self.seq_num, stop=self.seq_num + 1),
                    self._descriptor.descriptor_doc,
                ),
            )

    def row(self, **data: float) -> None:
        row = {name: data.get(name, 0.0) for name in self.columns}
        doc = self._descriptor.compose_event(
            data=row, timestamps={name: 1.0e9 for name in row}, seq_num=self.seq_num, filled={}
        )
        doc["time"] = 1.0e9 + self.seq_num
        self.send("event", doc)

    def points(self, positions: Iterable[int]) -> None:
        """A frame and a row at each of these positions; the motors' readings tell where."""
        for position in positions:
            self.frame(position)
            index = np.unravel_index(position, self.scan_shape)
            where = {dim: float(n) / 10 for dim, n in zip(self.scan_dims, index, strict=True)}
            self.row(**{"scan_index": float(position), "cam-sum": float(position), **where})

    def stop(self) -> None:
        self.send("stop", self._run.compose_stop())

    @property
    def expected(self) -> np.ndarray:
        """What the array holds when each position was measured once."""
        count = int(np.prod(self.scan_shape))
        frames = np.stack([frame_of(n, self.frame_shape) for n in range(count)])
        return frames.reshape(*self.scan_shape, *self.frame_shape)
