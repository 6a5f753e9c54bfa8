"""The writer of Zarr v3 stores: what prepares their arrays and hands out sinks for frames."""

from __future__ import annotations

import functools
import math
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bluesky_zarr.store import _publish
from bluesky_zarr.store._arrays import ArrayWriter
from bluesky_zarr.store._blocks import array_of_blocks
from bluesky_zarr.store._codecs import BLOSC_MAX_BYTES, compressor_configuration
from bluesky_zarr.store._durability import flush_of
from bluesky_zarr.store._frames import FrameFiles
from bluesky_zarr.store._grouped_sink import GroupedSink
from bluesky_zarr.store._identity import process_identity
from bluesky_zarr.store._layout import Layout, choose_layout, warn_about
from bluesky_zarr.store._length import lengthen
from bluesky_zarr.store._metadata import array_document, sharded_document
from bluesky_zarr.store._overwrite import Overwrite
from bluesky_zarr.store._paths import check_key, store_path, store_uri
from bluesky_zarr.store._progress import Progress, counts_chunk, counts_key
from bluesky_zarr.store._root import StoreRoot
from bluesky_zarr.store._sink import FrameSink
from bluesky_zarr.store._source_info import SourceInfo
from bluesky_zarr.store._writer import Writer


class ZarrWriter(Writer):
    """Writes a Zarr v3 store that can be read at any time: while frames come, after a crash, and
    when it is published.

    The store stands at its final path from the start, with the status "running". Several writers,
    also of several processes, may write different keys of one store.

    Parameters
    ----------
    store_uri
        `file:///data/scan.zarr`, or an absolute path. Directories that are missing are
        made.
    codec
        "none", "lz4", "zstd-N", "blosc-lz4-N" or "blosc-zstd-N"; crc32c always comes on top.
    layout
        "frames", "series", "balanced" (see `choose_layout`), or a `Layout` over all dims.
    durability
        "page" leaves it to the system when data goes to disk before publication;
        "flush" makes it do so once a second, "flush-0.5-s" every half a second, "flush-100-frames"
        after every 100 frames of a source. No `write` waits for that. Publication always does it.
    group_seconds
        How long, at most, a small frame of a flown source waits for others before it
        becomes readable.
    attributes
        For the root group; what bluesky-zarr itself keeps there cannot be replaced.
    overwrite
        Where there is a published store: write beside it (`path` says where), and take its name
        when `publish` is called, with the status "complete". The old one is then kept as
        `scan.replaced-1.zarr`. Only for stores that no document points to: one of a run is refused.

    Raises
    ------
    FileExistsError
        The path is a published store, or something that is no store of ours; or one that may not be
        overwritten.
    PermissionError
        The directory cannot be written.
    ValueError
        A codec, layout or durability that does not exist, or a URI that is not one.

    Examples
    --------
    >>> import tempfile, zarr
    >>> writer = ZarrWriter(tempfile.mkdtemp() + "/scan.zarr")
    >>> sink = writer.prepare(SourceInfo("cam", dtype="uint16", shape=(2, 2)))
    >>> sink.write(np.ones((2, 2), "uint16"))
    1
    >>> writer.publish()
    >>> zarr.open_array(writer.path, path="cam", mode="r")[0].tolist()
    [[1, 1], [1, 1]]
    """

    def __init__(
        self,
        store_uri: str | Path,
        *,
        codec: str = "blosc-zstd-1",
        layout: str | Layout = "frames",
        durability: str = "page",
        group_seconds: float = 1.0,
        attributes: Mapping[str, Any] | None = None,
        overwrite: bool = False,
    ) -> None:
        compressor_configuration(codec, 1)
        flush_of(durability)
        if isinstance(layout, str):
            choose_layout((1,), ("event",), "u1", layout, frame_ndim=0)
        self.path = store_path(store_uri)
        self._codec = codec
        self._layout = layout
        self._overwrite: Overwrite | None = None
        if not group_seconds > 0:
            raise ValueError(f"group_seconds={group_seconds} is not a time; use seconds above 0")
        self._durability = durability
        self._group_seconds = group_seconds
        self._sinks: dict[str, FrameSink] = {}
        self._arrays: dict[str, ArrayWriter] = {}
        if overwrite:
            self._overwrite = Overwrite(self.path)
            self.path = self._overwrite.path
        self._root = StoreRoot(self.path, dict(attributes or {}))

    @property
    def uri(self) -> str:
        """The store as a URI, ``file:///data/scan.zarr``."""
        return store_uri(self.path)

    def create_group(self, key: str, attributes: Mapping[str, Any] | None = None) -> None:
        """Make a group (and those above it) unless it exists, and set attributes of it."""
        self._root.check_running()
        self._root.make_groups(key)
        if attributes:
            self.set_attributes(key, attributes)

    def set_attributes(self, key: str, attributes: Mapping[str, Any]) -> None:
        """Add attributes to a node, or replace them; the key "" is the root.

        Raises
        ------
        FileNotFoundError
            There is no such node.
        FileExistsError
            The store is published.
        """
        self._root.set_attributes(key, attributes)

    # ------------------------------------------------------------------ frames

    def prepare(
        self, source: SourceInfo, *, key: str | None = None, capacity: int = 0
    ) -> FrameSink:
        """Make the array for a source's frames, and its groups, and return the sink they go into.

        With a geometry that knows its size the array has its final shape at once. Otherwise it is
        1-D in order of events, as long as is expected and then as all arrays of its group need,
        and is trimmed by `complete`, or where
        a group has several, by `publish`.

        Parameters
        ----------
        source
            What its frames look like and where in the scan they belong.
        key
            The array's key in the store, "primary/cam"; the source's name, if not given.
        capacity
            The most frames of a growing array, 0 = unlimited.

        Raises
        ------
        FileExistsError
            The key exists, or the store is published.
        ValueError
            A key that leaves the store, a capacity below 0, names of dims that clash, a
            layout that does not fit, or a chunk that the codec cannot take.
        """
        key = check_key(source.name if key is None else key)
        if capacity < 0:
            raise ValueError(f"capacity={capacity} is not a number of frames; use 0 for unlimited")
        dims = (*source.scan_dims, *source.stored_dims)
        if len(set(dims)) < len(dims):
            raise ValueError(
                f"the dims {dims} of {source.name!r} are not all different; rename the device or "
                "its dims"
            )
        self._root.check_running()
        growing = source.growing
        scan_shape, expected = _extent(source, capacity)
        # At its capacity an array cannot get any longer, so its shards are cut for that.
        unbounded = growing and not (capacity and expected == capacity)
        layout = self._layout_for(source, scan_shape, dims, growing=unbounded)
        length = scan_shape[0]
        if growing:
            scan_shape = (math.ceil(max(1, length) / layout.shard[0]) * layout.shard[0],)
        array_id = uuid.uuid4().bytes
        document = sharded_document(
            shape=(length, *scan_shape[1:], *source.shape),
            dtype=source.dtype,
            shard=layout.shard,
            inner=layout.inner,
            dims=dims,
            codec=self._codec,
            published=False,
            units=source.units,
            long_name=str(source.extra.get("long_name", "")),
            fill_value=math.nan if np.dtype(source.dtype).kind == "f" else None,
            attributes={
                "bluesky_zarr": {
                    "array_id": array_id.hex(),
                    "scan_ndim": len(scan_shape),
                    "growing": growing,
                    "expected": expected,
                    "writer": process_identity(),
                }
            },
        )
        chunk = counts_chunk(scan_shape, growing=growing)
        counts = array_document(
            shape=(length, *scan_shape[1:]),
            dtype="uint32",
            chunks=chunk,
            dims=source.scan_dims,
            long_name=f"how often each position of {source.name} was written",
        )
        self._root.create_arrays({key: document, counts_key(key): counts})
        if growing:
            # What is in the group already may be longer.
            length = lengthen((self.path / key).parent, length)
        progress = Progress(self.path / counts_key(key), scan_shape, chunk)
        files = FrameFiles(
            self.path / key,
            scan_shape=scan_shape,
            frame_shape=source.shape,
            dtype=np.dtype(source.dtype).newbyteorder("<"),
            layout=layout,
            codec=self._codec,
            array_id=array_id,
            progress=progress,
        )
        sink_of = FrameSink
        if files.group > 1:
            sink_of = functools.partial(GroupedSink, group_seconds=self._group_seconds)
        sink = self._sinks[key] = sink_of(
            self.path,
            key,
            source,
            files,
            layout,
            scan_shape=scan_shape,
            length=length,
            capacity=capacity,
            expected=expected,
            durability=self._durability,
        )
        return sink

    def _layout_for(
        self,
        source: SourceInfo,
        scan_shape: tuple[int, ...],
        dims: tuple[str, ...],
        *,
        growing: bool,
    ) -> Layout:
        shape = (*scan_shape, *source.shape)
        if isinstance(self._layout, str):
            layout = choose_layout(
                shape,
                dims,
                source.dtype,
                self._layout,
                frame_ndim=len(source.shape),
                growing=growing,
                flown=source.flown,
            )
        else:
            layout = self._layout
            if len(layout.inner) != len(shape):
                raise ValueError(
                    f"the layout's inner chunk {layout.inner} has {len(layout.inner)} dims, "
                    f"frames of {source.name!r} "
                    f"make an array of {len(shape)}: {', '.join(dims)}; give it over all"
                )
            one = len(scan_shape) - 1 if source.flown else len(scan_shape)
            if any(n != 1 for n in layout.inner[:one]):
                raise ValueError(
                    f"the layout's inner chunk {layout.inner} spans several positions of the "
                    "scan, so that a frame "
                    "could not be read until the next ones come; begin it with "
                    f"{one} times 1" + ("" if source.flown else ", or say that the source is flown")
                )
            warn_about(layout, shape, source.dtype, stacklevel=4)
        inner_bytes = math.prod(layout.inner) * np.dtype(source.dtype).itemsize
        if self._codec != "none" and inner_bytes > BLOSC_MAX_BYTES:
            raise ValueError(
                f"an inner chunk of {inner_bytes / 1e9:.1f} GB is more than codec "
                f"{self._codec!r} can take; "
                "use layout='balanced' or codec='none'"
            )
        return layout

    # ------------------------------------------------------------------ blocks

    def create_array(
        self,
        key: str,
        *,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        dims: Sequence[str],
        chunks: Sequence[int] | None = None,
        shards: Sequence[int] | None = None,
        units: str = "",
        fill_value: Any = None,
        codec: str | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Make an N-D array that `write_chunk` fills with blocks.

        Parameters
        ----------
        key
            Its key in the store.
        shape
            In elements.
        dtype
            Of the elements.
        dims
            The name of each dim.
        chunks
            The shape of a chunk; of 1 to 100 MB if not given, and then in shards if there
            are many.
        shards
            The shape of a file of chunks; each chunk is a file of its own, if not given
            with `chunks`.
        units
            Of the elements.
        fill_value
            Of elements that were never written; 0 (or the like), if not given.
        codec
            As of the writer, if not given.
        attributes
            Of the array.

        Raises
        ------
        ValueError
            Lengths that do not fit together, or a chunk that is larger than the array.
        FileExistsError
            The key exists, or the store is published.
        """
        document = array_of_blocks(
            check_key(key),
            shape=shape,
            dtype=dtype,
            dims=dims,
            chunks=chunks,
            shards=shards,
            units=units,
            fill_value=fill_value,
            codec=self._codec if codec is None else codec,
            attributes=attributes,
        )
        self._root.create_arrays({key: document})

    def write_chunk(self, key: str, start: Sequence[int], block: np.ndarray) -> None:
        """Write a block into an array of `create_array`; blocks of whole shards (or chunks) are
        fastest.

        Parameters
        ----------
        key
            Of the array.
        start
            The block's first element along each dim.
        block
            Of the array's rank and exactly its dtype.

        Raises
        ------
        ValueError
            The block does not fit; nothing is written.
        FileNotFoundError
            There is no such array.
        """
        self._root.check_running()
        if key not in self._arrays:
            self._arrays[key] = ArrayWriter(self.path, key)
        self._arrays[key].write(start, block)

    # ------------------------------------------------------------------ the end

    def complete(self) -> None:
        """Drain and close all sinks, then raise the first error of a worker, if there was one; so
        does every later call.
        """
        errors = []
        for sink in list(self._sinks.values()):
            try:
                sink.close()
                sink.drain()
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def collect(self, key: str) -> list[tuple[int, int]]:
        """C-order ranges [start, stop) of positions that became readable, or got a newer frame,
        since the last call.

        Raises
        ------
        KeyError
            This writer prepared no such array.
        """
        if key not in self._sinks:
            raise KeyError(
                f"this writer prepared no array {key!r}; take one of {sorted(self._sinks)}"
            )
        return self._sinks[key].collect()

    def publish(
        self,
        status: str = "complete",
        attributes: Mapping[str, Any] | None = None,
        *,
        reason: str = "",
    ) -> None:
        """`complete`, then publish the store; see `bluesky_zarr.store.publish`.

        A worker's error is raised, and nothing is published, if the status is "complete"; with
        another status the store is published as that, with the error as its reason.

        One that overwrites another takes its name when it is complete; `path` and `uri` say so.
        With another status it stays where it is.
        """
        try:
            self.complete()
        except Exception as error:
            if status == "complete":
                raise
            reason = reason or str(error)
        _publish.publish(self.uri, status=status, attributes=attributes, reason=reason)
        if self._overwrite is not None and status == "complete":
            try:
                self._overwrite.finish()
            finally:
                self.path = self._overwrite.path


def _extent(source: SourceInfo, capacity: int) -> tuple[tuple[int, ...], int | None]:
    """The scan's part of the shape (of a growing array: how many are expected, or 0), and how many
    are expected.
    """
    geometry = source.geometry
    if geometry is not None and not geometry.growing:
        return tuple(geometry.shape), geometry.size
    expected = (geometry.size if geometry is not None else 0) or capacity
    if capacity:
        expected = min(expected, capacity)
    return (expected,), expected or None
