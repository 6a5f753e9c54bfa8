"""One run on its way into its store: documents become journal, tables, and publication."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
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
    publish,
    store_uri,
)

from ._config import StorageConfig
from ._provider import RunPathProvider

__all__ = ["PlacementError", "RunRecorder"]

logger = logging.getLogger("bluesky_zarr.session")

_JSON_DTYPES = {"number": "float64", "integer": "int64", "boolean": "bool", "string": "str"}
_STATUS = {"success": "complete", "abort": "aborted", "fail": "failed"}


class PlacementError(RuntimeError):
    """A frame's place in the scan is not known, or not the one that the plan commanded."""


class RunRecorder:
    """Writes what bluesky says of one run into the run's store.

    The store is made when the first device or event needs it. The scan's geometry is taken from
    the start document and settled at the first point, when the plan's first setpoints are known.

    Parameters
    ----------
    config
        The session's configuration.
    start
        The run's start document.
    path
        Where the store will be; nothing is there yet.
    devices
        The session's devices, closed when the run stops.
    """

    def __init__(
        self,
        config: StorageConfig,
        start: Mapping[str, Any],
        path: Path,
        devices: Iterable[WritableDevice],
    ) -> None:
        self.config = config
        self.start = start
        self.run_uid: str = start["uid"]
        self.path = path
        self.geometry = ScanGeometry.from_start(start)
        self.stopped_by_user = False
        self._devices = devices
        self._relative = str(start.get("plan_name", "")).startswith("rel_")
        self._settled = self.geometry.growing
        self._array_open = False
        self._spans = {
            c.name: float(c.values.max() - c.values.min()) for _, c in self.geometry.coordinates
        }
        motors = start.get("motors")
        self._motors = (
            tuple(str(motor) for motor in motors) if isinstance(motors, (list, tuple)) else ()
        )
        self._journal: Journal | None = None
        self._outcome: tuple[str, str] | None = None
        self._tables: dict[str, StreamTable] = {}
        self._streams: dict[str, str] = {}
        self._flown: set[str] = set()
        self._device_streams: set[str] = set()
        # Monitored signals bring events while a thread flushes.
        self._lock = threading.Lock()

    # -- where points sit --------------------------------------------------------------------

    def placement(
        self, stream: str, index: int, commanded: Mapping[str, Any] | None = None
    ) -> Placement:
        """Where point `index` of a stream sits.

        `commanded` are the setpoints last sent to each motor; they are checked against the
        geometry. None where no motor has been commanded yet.

        Raises
        ------
        PlacementError
            When the plan is not where its start document says, after frames were stored.
        """
        if stream != "primary" or self.geometry.growing:
            # Motors, of the primary stream only: a dark field is not at a position of the scan.
            setpoints = None
            if stream == "primary" and commanded is not None and self._motors:
                setpoints = {
                    m: float(commanded[m]) for m in self._motors if _is_number(commanded.get(m))
                }
            return Placement(self.run_uid, stream, index, index, setpoints)
        if commanded is not None:
            self._check(index, commanded)
            if self.geometry.growing:  # it has just been settled so
                return self.placement(stream, index, commanded)
        elif index >= self.geometry.size:
            raise self._too_many(index)
        return Placement(self.run_uid, stream, index, self.geometry.flat(index))

    def ends_before(self, index: int) -> bool:
        """Whether the primary stream has no point of this number."""
        return not self.geometry.growing and index >= self.geometry.size

    def _check(self, index: int, commanded: Mapping[str, Any]) -> None:
        if index >= self.geometry.size:
            raise self._too_many(index)
        expected = self.geometry.setpoints(index)
        if not self._settled:
            self._settle(expected, commanded)
            if self.geometry.growing:
                return
            expected = self.geometry.setpoints(index)
        for axis, value in expected.items():
            if not self._at(axis, commanded.get(axis), value):
                raise PlacementError(
                    f"Point {index} of this scan should be at {axis} = {value:.6g}, but {axis} was "
                    f"last sent to {commanded.get(axis)}: the frame's place is not known, and it "
                    "is not stored. A per_step must take one event per point in stream 'primary', "
                    "in the order of the scan; put further events into a stream of their own with "
                    "bluesky_zarr.plans.place(stream, index)."
                )

    def _settle(self, expected: Mapping[str, float], commanded: Mapping[str, Any]) -> None:
        self._settled = True
        if self._relative and all(_is_number(commanded.get(axis)) for axis in expected):
            self.geometry = self.geometry.shifted(
                {axis: float(commanded[axis]) - value for axis, value in expected.items()}
            )
        elif not all(self._at(axis, commanded.get(axis), v) for axis, v in expected.items()):
            if self._array_open:
                return  # too late for another shape: the check that follows says what is wrong
            logger.warning(
                "The first point of %r is at %s, its start document says %s: the run is stored in "
                "order of events.",
                self.start.get("plan_name"),
                {axis: commanded.get(axis) for axis in expected},
                dict(expected),
            )
            self.geometry = ScanGeometry.events(self.geometry.size)

    def _at(self, axis: str, commanded: Any, expected: float) -> bool:
        tolerance = 1e-9 * (self._spans.get(axis, 0.0) + abs(expected)) + 1e-13
        return _is_number(commanded) and abs(float(commanded) - expected) <= tolerance

    def _too_many(self, index: int) -> PlacementError:
        return PlacementError(
            f"This scan has {self.geometry.size} points, but the plan takes point number "
            f"{index + 1} in stream 'primary': it is not stored. A per_step must take one event "
            "per point; put further events into a stream of their own with "
            "bluesky_zarr.plans.place(stream, index)."
        )

    def provider(self, stream: str) -> RunPathProvider:
        """Paths in `stream` of this run. The store is made, if nothing has needed it before."""
        self.open()
        if stream == "primary":
            self._array_open = True
        self._device_streams.add(stream)
        return RunPathProvider(
            store_uri=store_uri(self.path),
            run_uid=self.run_uid,
            stream=stream,
            geometry=self._promised(stream),
            options={
                "codec": self.config.codec,
                "layout": self.config.layout,
                "durability": self.config.durability,
            },
        )

    def check_name(self, stream: str, name: str) -> None:
        """Raise ValueError for a device whose name the stream keeps for something else."""
        geometry = self._geometry_of(stream)
        taken = {*RESERVED, *geometry.axes, *geometry.names, *self._motors, Cursor.name}
        if name in taken or name.endswith("_written"):
            raise ValueError(
                f"A device called '{name}' cannot write into stream '{stream}': the name belongs "
                f"to the store or to a motor of the scan. Rename it: device.set_name('my_{name}')."
            )

    def _geometry_of(self, stream: str) -> ScanGeometry:
        return self.geometry if stream == "primary" else ScanGeometry.events()

    def _promised(self, stream: str) -> ScanGeometry:
        """The geometry as far as it is known: where a relative scan is, its first move says."""
        geometry = self._geometry_of(stream)
        if self._settled or not self._relative:
            return geometry
        return ScanGeometry(tuple(replace(dim, coordinates=()) for dim in geometry.dims))

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
            ZarrWriter(
                store_uri(self.path),
                codec=self.config.codec,
                layout=self.config.layout,
                attributes=attributes,
            )
            self._journal = Journal(self.path)
            self._journal.append("run", dict(self.start))
        return self._journal

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
        geometry = self._geometry_of(stream)
        units = {
            axis: keys[axis]["units"] for axis in geometry.axes if keys.get(axis, {}).get("units")
        }
        if units:
            geometry = geometry.with_units(units)
            if stream == "primary":
                self.geometry = geometry
        table = self._table(stream, geometry)
        columns = {k: _column(k, v) for k, v in keys.items() if "external" not in v}
        table.declare(columns)
        if not columns:
            self._flown.add(stream)

    def _table(self, stream: str, geometry: ScanGeometry) -> StreamTable:
        table = self._tables.get(stream)
        if table is None:
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

    def stream_datum(self, doc: Mapping[str, Any], cursor: Cursor) -> None:
        """Note when flown frames came: no event says so."""
        stream = self._streams[doc["descriptor"]]
        if stream not in self._flown:
            return
        now = time.time()
        cells = range(doc["indices"]["start"], doc["indices"]["stop"])
        if self._flown_backwards(stream, cells, cursor):
            cells = reversed(cells)
        with self._lock:
            for seq_num, cell in enumerate(cells, doc["seq_nums"]["start"]):
                self._tables[stream].put(cell, seq_num=seq_num, time=now, data={})

    def _flown_backwards(self, stream: str, cells: range, cursor: Cursor) -> bool:
        """Whether a flown row was turned round: a document names its positions upwards only."""
        geometry = self._geometry_of(stream)
        if geometry.growing or cursor.placement is None or len(cells) < 2:
            return False
        flown = range(cursor.placement.index, geometry.size)
        first = next(k for k in flown if geometry.flat(k) in (cells[0], cells[-1]))
        return geometry.flat(first) == cells[-1]

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

        for device in self._devices:
            attempt(lambda device=device: device.retire(self.run_uid))
        journal = self._journal
        if journal is not None:
            if "primary" in self._device_streams:  # frames, but perhaps not one event
                attempt(lambda: self._table("primary", self.geometry))
            for table in self._tables.values():
                attempt(table.close)
            if errors:
                status, reason = "failed", reason or str(errors[0])
            attempt(lambda: journal.append("status", {"status": status, "reason": reason}))
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
            except Exception:
                logger.error(
                    "%s is not published yet: it is tried again before the next plan, or by "
                    "bluesky_zarr.store.publish(%r, status=%r).",
                    *(self.path, str(self.path), status),
                )
                raise
            self._outcome = None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or hasattr(value, "__float__")


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
