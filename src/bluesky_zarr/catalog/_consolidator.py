"""How an array of a scan looks in Tiled: N-dimensional, with named dims.

bluesky-tiled-plugins takes every external array to be a stack of rows in order of time. Ours has
the scan's shape from its first frame on, and a StreamDatum says which *positions* were written, in
any order and as often as it likes. The StreamResource's parameters say what it is:

``chunk_shape``
    of the whole array, one entry for each dim;
``scan_shape``, ``scan_dims``, ``frame_shape``
    the shape is ``scan_shape + frame_shape``;
``growing``
    true for a scan stored in order of events: one scan dim, as long as the highest position seen;
``coordinates``
    (optional) ``[{"dim": ..., "name": ..., "values": [...], "units": ...}, ...]``: the setpoints
    along the scan's dims. They are kept in the data source's properties, from where `dataset`
    takes them.

**Names of dims.** In a store a dim has its axis' name, as xarray wants it: ``cam`` is
``(mono, y, x, cam_y, cam_x)``, beside the index coordinate ``x``. In Tiled a stream is a table of
events *and* arrays, read into one xarray Dataset, and the table has a column ``x`` - the readings
of that motor, one a row, along ``time``. A variable ``x (time)`` beside a dim ``x`` of another
length cannot be that dim's coordinate: ``.sel(x=...)`` then has no index, and assigning the
coordinate replaces the readings. So in Tiled scan dims are called ``scan_x``, as frame dims are
called ``cam_x``; and should a stream have a column of *that* name, a ``_`` is appended until the
name is free.

**Order of events.** Tiled's table has the dim ``time``, but our 1-D arrays have ``event``. They are
not equally long: a point that was repeated after a pause has two rows and one frame, and while a
run goes on a frame is announced before its row arrives. One name for two lengths would make
``read()`` raise for the whole stream.
"""

from __future__ import annotations

from collections.abc import Collection
from math import prod
from typing import Any

import numpy as np
from bluesky_tiled_plugins.writing.consolidators import (
    CONSOLIDATOR_REGISTRY,
    ConsolidatorBase,
    Patch,
)
from tiled.structures.data_source import DataSource

from ._registration import MIMETYPE

__all__ = ["ScanArrayConsolidator", "take_place"]

PARAMETERS = frozenset({"chunk_shape", "scan_shape", "scan_dims", "frame_shape"})
EVENT = "event"


class ScanArrayConsolidator(ConsolidatorBase):
    """Consolidates StreamDatums that carry positions in a scan into one N-D array.

    A StreamResource of the same mimetype without our parameters goes to `fallback`.
    """

    supported_mimetypes: set[str] = {MIMETYPE}  # noqa: RUF012 (as its base has it)
    reads_scan_arrays = True
    fallback: type[Any] = ConsolidatorBase
    """Who consolidates Zarr arrays that are not ours."""

    def __new__(cls, stream_resource: Any, descriptor: Any) -> Any:
        if not stream_resource["parameters"].keys() >= PARAMETERS:
            return cls.fallback(stream_resource, descriptor)
        return super().__new__(cls)

    def __init__(self, stream_resource: Any, descriptor: Any) -> None:
        super().__init__(stream_resource, descriptor)
        parameters = stream_resource["parameters"]
        self.scan_dims = tuple(parameters["scan_dims"])
        self.growing = bool(parameters.get("growing", False))
        self._scan_shape = tuple(parameters["scan_shape"])
        self._frame_shape = tuple(parameters["frame_shape"])
        self._coordinates = parameters.get("coordinates", [])
        self._check()
        self.dims = _tiled_dims(
            self.scan_dims,
            descriptor["data_keys"][self.data_key].get("dims", ()),
            len(self._frame_shape),
            self.data_key,
            descriptor["data_keys"].keys(),
        )

    def _check(self) -> None:
        where = f"StreamResource of {self.data_key!r}"
        if len(self._scan_shape) != len(self.scan_dims):
            raise ValueError(
                f"{where}: scan_shape {self._scan_shape} does not fit scan_dims {self.scan_dims}"
            )
        if self.growing and len(self.scan_dims) != 1:
            raise ValueError(
                f"{where}: only an array with one scan dim can grow, not {self.scan_dims}"
            )
        if len(self.chunk_shape) != len(self._scan_shape) + len(self._frame_shape):
            raise ValueError(
                f"{where}: chunk_shape {tuple(self.chunk_shape)} needs one entry for each dim of "
                f"{self._scan_shape + self._frame_shape}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array as far as it can be read: the scan's, then the frame's."""
        scan = (self._num_rows,) if self.growing else self._scan_shape
        return *scan, *self._frame_shape

    @property
    def has_skips(self) -> bool:
        """Never: a position is a place, not a count of rows."""
        return False

    def consume_stream_datum(self, doc: Any) -> Patch:
        """Take note of positions ``[start, stop)``, flat, in C order.

        Returns the block of the array that may have changed: exactly the frames announced when they
        are one frame or lie in one line, else the smallest block around them.

        Raises
        ------
        ValueError
            For a position outside of the scan.
        """
        start, stop = doc["indices"]["start"], doc["indices"]["stop"]
        self._seqnums_to_indices_map.update(
            zip(
                range(doc["seq_nums"]["start"], doc["seq_nums"]["stop"]),
                range(start, stop),
                strict=False,  # an event may announce any number of frames
            )
        )
        if self.growing:
            self._num_rows = max(self._num_rows, stop)
            return self._patch((start,), (stop - start,))
        if not 0 <= start < stop <= prod(self._scan_shape):
            raise ValueError(
                f"StreamDatum of {self.data_key!r}: positions [{start}, {stop}) are not in a scan "
                f"of {self._scan_shape}"
            )
        return self._patch(*_block(start, stop, self._scan_shape))

    def _patch(self, offset: tuple[int, ...], shape: tuple[int, ...]) -> Patch:
        return Patch(
            offset=(*offset, *(0 for _ in self._frame_shape)), shape=(*shape, *self._frame_shape)
        )

    def update_from_stream_resource(self, stream_resource: Any) -> None:
        """Accept another StreamResource for the same array, as a resumed run sends it.

        Raises
        ------
        ValueError
            When the resource is another array.
        """
        if stream_resource["uri"] != self.uri:
            raise ValueError(
                f"{self.data_key!r} has two arrays in one stream of one run: {self.uri} and "
                f"{stream_resource['uri']}; a data key has one array in a stream"
            )

    def get_data_source(self) -> DataSource:
        """Describe the array as it is now; `properties` say how it lies in the scan."""
        source = super().get_data_source()
        source.properties["bluesky_zarr"] = {
            "scan_dims": list(self.scan_dims),
            "coordinates": self._coordinates,
        }
        return source


def _tiled_dims(
    scan: tuple[str, ...],
    frame: Collection[str],
    frame_ndim: int,
    data_key: str,
    columns: Collection[str],
) -> tuple[str, ...]:
    """Names for the dims of an array that is read together with these columns.

    >>> _tiled_dims(("y", "x"), ("cam_y", "cam_x"), 2, "cam", {"x", "y", "cam"})
    ('scan_y', 'scan_x', 'cam_y', 'cam_x')
    >>> _tiled_dims(("index",), ("y", "x"), 2, "cam", {"index", "scan_index", "x"})
    ('scan_index_', 'y', 'x_')
    """
    if len(frame) != frame_ndim:
        frame = [f"{data_key}_dim{n}" for n in range(frame_ndim)]
    names = [EVENT if dim == EVENT else f"scan_{dim}" for dim in scan] + list(frame)
    free: list[str] = []
    for name in names:
        while name in columns or name in free or name in ("time", "seq_num"):
            name += "_"
        free.append(name)
    return tuple(free)


def _block(
    start: int, stop: int, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give offset and shape of the smallest block around flat positions ``[start, stop)``.

    >>> _block(7, 10, (3, 5))  # the end of line 1
    ((1, 2), (1, 3))
    >>> _block(8, 11, (3, 5))  # and into line 2
    ((1, 0), (2, 5))
    """
    first = [int(n) for n in np.unravel_index(start, shape)]
    last = [int(n) for n in np.unravel_index(stop - 1, shape)]
    for axis, (low, high) in enumerate(zip(first, last, strict=True)):
        if low != high:
            # Beyond the first axis along which they differ the positions wrap around.
            inner = shape[axis + 1 :]
            first[axis + 1 :] = [0] * len(inner)
            last[axis + 1 :] = [n - 1 for n in inner]
            break
    return tuple(first), tuple(b - a + 1 for a, b in zip(first, last, strict=True))


def take_place() -> None:
    """Put our consolidator into the registry; what was there keeps everybody else's arrays."""
    current = CONSOLIDATOR_REGISTRY.get(MIMETYPE)
    if current is not ScanArrayConsolidator:
        if current is not None:
            ScanArrayConsolidator.fallback = current
        CONSOLIDATOR_REGISTRY[MIMETYPE] = ScanArrayConsolidator


take_place()
