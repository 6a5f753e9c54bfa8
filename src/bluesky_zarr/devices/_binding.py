"""One device's array in one stream of one run, and the documents that speak of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from event_model import DataKey, StreamRange, compose_stream_resource
from event_model.documents import StreamDatum, StreamResource

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    FrameSink,
    Layout,
    PathInfo,
    SourceInfo,
    ZarrWriter,
    choose_layout,
)

from ._source import FrameFormat

__all__ = ["Binding"]

#: How much a client of a catalog reads at once.
_REQUEST_BYTES = 8 * 2**20
#: How many setpoints a StreamResource may list.
_MAX_LABELS = 10_000
#: How often, at most, the ends of rows may store a group of small frames once more than needed.
_MAX_REWRITES = 16


@dataclass(eq=False)
class Binding:
    """A device's sink in one stream of one run, and how far its documents have come.

    `next` is the number of the next point, where no placement says it. `offered` says that the
    StreamResource was handed to the RunEngine, `announced` that it came out of it.
    """

    data_key_name: str
    info: PathInfo
    format: FrameFormat
    sink: FrameSink
    resource: StreamResource
    compose_datum: Callable[..., StreamDatum]
    announced: bool = False
    offered: bool = False
    next: int = 0
    closed: bool = False

    @classmethod
    def open(cls, name: str, info: PathInfo, format: FrameFormat, row: int = 1) -> Binding:
        """Open the array of the data key `name`; makes files.

        Parameters
        ----------
        name
            Of the data key.
        info
            Where the array is made.
        format
            What its frames look like.
        row
            How many frames come without a stop at each.

        Raises
        ------
        OSError
            When the array exists, or cannot be made.
        ValueError
            For a key, dtype or shape that cannot be stored.
        """
        options = {k: info.extra[k] for k in ("codec", "layout", "durability") if k in info.extra}
        source = SourceInfo(
            name=name,
            dtype=format.dtype,
            shape=format.shape,
            dims=format.dims,
            units=format.units,
            geometry=info.geometry,
            extra=info.extra,
        )
        flown = _is_flown(source, info.capacity, options.get("layout", "frames"), row)
        sink = ZarrWriter(info.store_uri, **options).prepare(
            replace(source, flown=flown), key=info.array_key or name, capacity=info.capacity
        )
        geometry = info.geometry or ScanGeometry.events()
        bundle = compose_stream_resource(
            mimetype=info.mimetype_hint,
            uri=sink.uri,
            data_key=name,
            parameters={
                "chunk_shape": _request_shape(sink, np.dtype(format.dtype).itemsize),
                "scan_shape": list(geometry.shape),
                "scan_dims": list(geometry.names),
                "frame_shape": list(format.shape),
                "growing": geometry.growing,
                "coordinates": _labels(geometry),
            },
        )
        return cls(
            data_key_name=name,
            info=info,
            format=format,
            sink=sink,
            resource=bundle.stream_resource_doc,
            compose_datum=bundle.compose_stream_datum,
        )

    def recompose(self) -> None:
        """Make a StreamResource with a uid of its own for the same array.

        For when it is not known whether the one before came out of the RunEngine, which refuses a
        uid that it has seen. To a reader it says nothing new.
        """
        bundle = compose_stream_resource(
            mimetype=self.resource["mimetype"],
            uri=self.resource["uri"],
            data_key=self.resource["data_key"],
            parameters=self.resource["parameters"],
        )
        self.resource = bundle.stream_resource_doc
        self.compose_datum = bundle.compose_stream_datum
        self.announced = self.offered = False

    def fits(self, frame: np.ndarray) -> bool:
        """Whether a frame is what the source promised."""
        return frame.shape == self.format.shape and frame.dtype == np.dtype(self.format.dtype)

    def cells(self, index: int, number: int) -> Sequence[int]:
        """The C-order positions of points from `index` on; IndexError beyond the scan's end."""
        geometry = self.info.geometry
        if geometry is None or geometry.growing:
            return range(index, index + number)
        if number == 1:
            return (geometry.flat(index),)
        cells: list[int] = []
        length = geometry.shape[-1]
        while number > 0:
            # Within a row of the fastest dim they climb or fall by ones.
            part = min(number, length - index % length)
            first, last = geometry.flat(index), geometry.flat(index + part - 1)
            step = 1 if last >= first else -1
            cells += range(first, last + step, step)
            index += part
            number -= part
        return cells

    def data_key(self) -> DataKey:
        """What an event holds of this array: one frame."""
        key = DataKey(
            source=self.sink.uri,
            shape=list(self.format.shape),
            dtype="array" if self.format.shape else "number",
            dtype_numpy=np.dtype(self.format.dtype).str,
            external="STREAM:",
            dims=list(self.sink.source.stored_dims),
        )
        if self.format.units:
            key["units"] = self.format.units
        return key

    def datum(self, cells: Sequence[int]) -> StreamDatum:
        """The document of frames at neighbouring cells."""
        return self.compose_datum(indices=StreamRange(start=min(cells), stop=max(cells) + 1))


def _is_flown(source: SourceInfo, capacity: int, layout: str | Layout, row: int) -> bool:
    """Whether frames that come in rows of this length are to be stored in groups.

    The end of each row stores its last group as far as it goes, and the next row the same one once
    more: rows that are much shorter than a group are better off with a chunk for each frame.
    """
    if row < 2 or isinstance(layout, Layout):
        return row > 1
    scan = source.geometry.shape if source.geometry and not source.growing else (capacity,)
    shape = (*scan, *source.shape)
    chosen = choose_layout(
        shape,
        [str(axis) for axis in range(len(shape))],
        source.dtype,
        layout,
        frame_ndim=len(source.shape),
        growing=source.growing,
        flown=True,
    )
    return row * _MAX_REWRITES >= chosen.inner[len(scan) - 1]


def _request_shape(sink: FrameSink, itemsize: int) -> list[int]:
    """What a catalog's client reads by one request: about 8 MB, where the frames are smaller.

    Stored chunks are single frames or tiles of them: one request for each would take minutes for a
    map of small frames.
    """
    frame = len(sink.source.shape)
    scan = len(sink.shape) - frame
    request = [1] * scan + list(sink.source.shape)
    if math.prod(request) * itemsize > _REQUEST_BYTES:
        request = list(sink.chunk_shape)
    for axis in reversed(range(scan)):
        room = _REQUEST_BYTES // (math.prod(request) * itemsize)
        request[axis] = max(1, min(sink.shape[axis], room))
        if request[axis] < sink.shape[axis]:
            break
    return request


def _labels(geometry: ScanGeometry) -> list[dict[str, Any]]:
    """The setpoints along the scan's dims, as a catalog takes them from a StreamResource.

    A document is no place for the million positions of a long list: these are in the store only.
    """
    if sum(len(c.values) for _, c in geometry.coordinates) > _MAX_LABELS:
        return []
    return [
        {"dim": dim, "name": c.name, "values": c.values.tolist(), "units": c.units}
        for dim, c in geometry.coordinates
    ]
