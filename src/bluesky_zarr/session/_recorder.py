"""One run on its way into its store: documents become journal, tables, and publication."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from event_model import unpack_event_page

from bluesky_zarr.devices import Cursor, Placement, WritableDevice
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    RESERVED,
    Column,
    Journal,
    StreamTable,
    ZarrWriter,
    merge,
    publish,
    store_uri,
)
from bluesky_zarr.store._files import SyncError
from bluesky_zarr.store._publish import FULL, release_reserve, sync_small_files

from ._config import StorageConfig
from ._provider import RunPathProvider
from ._stream_places import PlacementError, StreamPlaces

__all__ = ["RunRecorder"]

logger = logging.getLogger("bluesky_zarr.session")

_JSON_DTYPES = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "str"}
_STATUS = {"success": "complete", "abort": "aborted", "fail": "failed"}


class RunRecorder:
    """Writes what bluesky says of one run into the run's store.

    The store is made when the first device or event needs it. The geometry of stream ``primary`` is
    taken from the start document, that of others from what the plan declares.

    Parameters
    ----------
    config
        The session's configuration.
    start
        The run's start document.
    new_path
        Gives a path for the store at which nothing is yet; asked again where another process made
        something there meanwhile.
    devices
        The session's devices, closed when the run stops.
    """

    def __init__(
        self,
        config: StorageConfig,
        start: Mapping[str, Any],
        new_path: Callable[[], Path],
        devices: Iterable[WritableDevice],
    ) -> None:
        self.config = config
        self.start = start
        self.run_uid: str = start["uid"]
        self.path = new_path()
        self._new_path = new_path
        self.stopped_by_user = False
        self._devices = devices
        motors = start.get("motors")
        self._motors = (
            tuple(str(motor) for motor in motors) if isinstance(motors, (list, tuple)) else ()
        )
        self._places = {
            "primary": StreamPlaces(
                self.run_uid,
                "primary",
                ScanGeometry.from_start(start),
                motors=self._motors,
                believed=str(start.get("plan_name", "")),
            )
        }
        self._merges = False
        self._journal: Journal | None = None
        self._outcome: tuple[str, str] | None = None
        self._tables: dict[str, StreamTable] = {}
        self._streams: dict[str, str] = {}
        self._flown: set[str] = set()
        self._device_streams: set[str] = set()
        # Monitored signals bring events while a thread flushes.
        self._lock = threading.Lock()

    # -- where points sit --------------------------------------------------------------------

    def places(self, stream: str) -> StreamPlaces:
        """Where the points of a stream sit; in order of events, unless somebody said more."""
        places = self._places.get(stream)
        if places is None:
            places = StreamPlaces(self.run_uid, stream, ScanGeometry.events())
            self._places[stream] = places
        return places

    def placement(
        self, stream: str, index: int, commanded: Mapping[str, Any] | None = None
    ) -> Placement:
        """Where point `index` of a stream sits; see `StreamPlaces.placement`."""
        return self.places(stream).placement(index, commanded)

    def declare(
        self,
        stream: str,
        geometry: ScanGeometry,
        merged: tuple[str, Sequence[str]] | None = None,
    ) -> None:
        """Take the geometry of a stream from the plan, before anything was stored in it.

        `merged` is the group that holds the readings of several streams, and the axes by which it
        is sorted.

        Raises
        ------
        PlacementError
            When the stream has begun already, with another geometry.
        """
        known = self._places.get(stream)
        if known is not None and known.geometry.to_dict() == geometry.to_dict():
            return
        if stream in self._tables or stream in self._device_streams:
            raise PlacementError(
                f"Stream '{stream}' has begun already: its shape cannot be changed. Declare it "
                "before its first point, or give these points a stream of their own."
            )
        self._places[stream] = StreamPlaces(
            self.run_uid, stream, geometry, motors=self._motors if geometry.growing else ()
        )
        if merged is not None:
            into, axes = merged
            self.open().append("merge", {"stream": stream, "into": into, "axes": list(axes)})
            self._merges = True

    def provider(self, stream: str) -> RunPathProvider:
        """Paths in `stream` of this run. The store is made, if nothing has needed it before."""
        self.open()
        places = self.places(stream)
        places.array_open = True
        self._device_streams.add(stream)
        return RunPathProvider(
            store_uri=store_uri(self.path),
            run_uid=self.run_uid,
            stream=stream,
            geometry=places.promised,
            options={
                "codec": self.config.codec,
                "layout": self.config.layout,
                "durability": self.config.durability,
            },
        )

    def check_name(self, stream: str, name: str) -> None:
        """Raise ValueError for a device whose name the stream keeps for something else, or that no
        descriptor can have.
        """
        if set(name) & set("./"):
            # Documents refuse it as well, but after the first point, and in a page of schema.
            raise ValueError(
                f"A device called {name!r} cannot be described in bluesky's documents: its name "
                "has a '.' or '/' in it. Rename it: "
                f"device.set_name({re.sub('[./]+', '_', name)!r})."
            )
        taken = {*RESERVED, *self.places(stream).kept_names, *self._motors, Cursor.name}
        if name in taken or name.endswith("_written"):
            raise ValueError(
                f"A device called '{name}' cannot write into stream '{stream}': the name belongs "
                f"to the store or to a motor of the scan. Rename it: device.set_name('my_{name}')."
            )

    @property
    def opened(self) -> bool:
        """Whether anything of this run has needed a store."""
        return self._journal is not None

    def open(self) -> Journal:
        """Make the store and its journal, if nothing has needed them before."""
        if self._journal is None:
            attributes = {
                "run_uid": self.run_uid,
                "plan_name": str(self.start.get("plan_name", "")),
                "scan_id": self.start.get("scan_id"),
            }
            journal = self._claim()
            try:
                ZarrWriter(
                    store_uri(self.path),
                    codec=self.config.codec,
                    layout=self.config.layout,
                    attributes=attributes,
                )
            except BaseException:
                with suppress(OSError):
                    journal.close()
                with suppress(OSError):  # nothing is in it, and nothing belongs to it
                    journal.path.unlink()
                raise
            self._journal = journal
            self._journal.append("run", dict(self.start))
        return self._journal

    def _claim(self) -> Journal:
        """Make the journal, and with it the name of the store this run's: others may have chosen
        the same name since.
        """
        while True:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                return Journal(self.path, new=True)
            except FileExistsError:
                self.path = self._new_path()

    # -- documents ---------------------------------------------------------------------------

    def descriptor(self, doc: Mapping[str, Any]) -> None:
        """Open the table of a stream.

        Raises
        ------
        ValueError
            For data keys with reserved names.
        """
        stream = doc["name"]
        self._streams[doc["uid"]] = stream
        if stream in self._tables:
            return  # the same stream, after a configure
        keys = doc["data_keys"]
        places = self.places(stream)
        units = {
            axis: keys[axis]["units"]
            for axis in places.geometry.axes
            if keys.get(axis, {}).get("units")
        }
        if units:
            places.geometry = places.geometry.with_units(units)
        table = self._table(stream)
        columns = {k: _column(k, v) for k, v in keys.items() if "external" not in v}
        table.declare(columns)
        if not columns:
            self._flown.add(stream)

    def _table(self, stream: str) -> StreamTable:
        table = self._tables.get(stream)
        if table is None:
            geometry = self.places(stream).geometry
            table = StreamTable(self.path, stream, geometry, self.open())
            self._tables[stream] = table
        return table

    def event(self, doc: Mapping[str, Any], cursor: Cursor) -> None:
        """Put one event's readings where its point is."""
        stream = self._streams[doc["descriptor"]]
        data = doc["data"]
        placement = cursor.placement
        placed = Cursor.name in data
        index = data[Cursor.name] if placed else doc["seq_num"] - 1
        setpoints = None
        if placed and placement is not None and placement.run_uid == self.run_uid:
            setpoints = placement.setpoints
        with self._lock:
            self._tables[stream].put(
                index, seq_num=doc["seq_num"], time=doc["time"], data=data, setpoints=setpoints
            )

    def event_page(self, doc: Any, cursor: Cursor) -> None:
        """Put the events of a page where their points are."""
        for event in unpack_event_page(doc):
            self.event(event, cursor)

    def stream_datum(self, doc: Mapping[str, Any]) -> None:
        """Note when flown frames came: no event says so."""
        stream = self._streams[doc["descriptor"]]
        if stream not in self._flown:
            return
        now = time.time()
        cells = range(doc["indices"]["start"], doc["indices"]["stop"])
        # A document names its positions upwards only.
        turn = self.places(stream).geometry.turn
        if len(cells) > 1 and turn(cells[0]) > turn(cells[-1]):
            cells = cells[::-1]
        with self._lock:
            self._tables[stream].put_flown(cells, seq_num=doc["seq_nums"]["start"], time=now)

    def flush(self) -> None:
        """Bring everything of this run up to date on disk; takes long, call it in a thread.

        Raises
        ------
        OSError
            When something could not be written.
        """
        for device in self._devices:
            device.sync(self.run_uid)
        with self._lock:
            for table in self._tables.values():
                table.flush(force=True)
        if self._journal is not None:
            self._journal.sync()
            sync_small_files(self.path)

    def stop(self, doc: Mapping[str, Any]) -> None:
        """Close everything of this run, and publish it as what it became.

        Raises
        ------
        OSError
            When something could not be written. What was written stays readable.
        """
        status = _STATUS.get(doc.get("exit_status", "success"), "failed")
        if self.stopped_by_user and status == "complete":
            status = "stopped"
        self.finish(status, str(doc.get("reason") or ""))

    def finish(self, status: str, reason: str) -> None:
        """Close everything and publish, however much of it fails: the first error is raised."""
        errors: list[Exception] = []

        def attempt(action: Callable[[], object]) -> None:
            try:
                action()
            except Exception as error:
                errors.append(error)

        def with_reserve(action: Callable[[], object]) -> None:
            try:
                action()
            except OSError as error:
                if error.errno not in FULL:
                    raise
                release_reserve(self.path)
                action()

        # The end of a run has room of its own; it is given back when nobody writes frames any more.
        for device in self._devices:
            attempt(lambda device=device: device.retire(self.run_uid))
        journal = self._journal
        if journal is not None:
            if "primary" in self._device_streams:  # frames, but perhaps not one event
                attempt(lambda: self._table("primary"))
            for table in self._tables.values():
                attempt(lambda table=table: with_reserve(table.close))
            if self._merges:
                attempt(lambda: with_reserve(lambda: merge(self.path)))
            if errors:
                status, reason = "failed", reason or str(errors[0])
            ended = {"status": status, "reason": reason}
            attempt(lambda: with_reserve(lambda: journal.append("status", ended)))
            attempt(journal.close)
            if self.config.publication == "stop":
                self._outcome = status, reason
                attempt(self.publish)
        if errors:
            raise errors[0]

    @property
    def unpublished(self) -> bool:
        """Whether publication was tried and did not come through."""
        return self._outcome is not None

    def publish(self) -> None:
        """Publish the store as what the run became; again, if it could not be done before.

        Raises
        ------
        OSError
            When the disk still refuses.
        """
        if self._outcome is not None:
            status, reason = self._outcome
            try:
                publish(store_uri(self.path), status=status, reason=reason)
            except Exception as error:
                if isinstance(error, SyncError):
                    # Whatever comes of the next attempt, it cannot say that all is well.
                    status = "failed"
                    self._outcome = status, reason
                logger.error(
                    "%s is not published yet: it is tried again before the next plan, or by "
                    "bluesky_zarr.store.publish(%r, status=%r).",
                    *(self.path, str(self.path), status),
                )
                raise
            self._outcome = None


def _column(name: str, key: Mapping[str, Any]) -> Column:
    dtype = key.get("dtype", "number")
    shape = tuple(key.get("shape") or ())
    numpy_dtype = key.get("dtype_numpy")
    if dtype == "array" and isinstance(numpy_dtype, str) and numpy_dtype:
        kind = numpy_dtype
    else:
        kind = _JSON_DTYPES.get(dtype, "float64")
    if any(size is None for size in shape):
        kind, shape = "json", ()
    return Column(dtype=kind, shape=shape, units=str(key.get("units") or ""), long_name=name)
