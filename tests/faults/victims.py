"""What processes do that the tests of faults kill: they write, publish or recover, and tell."""

from __future__ import annotations

import json
import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    Journal,
    Layout,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    publish,
    recover,
)
from tests.faults.calls import die_at, nothing, watched
from tests.faults.pictures import picture


@dataclass(frozen=True)
class Scan:
    """A little scan: how its frames are stored, and how many."""

    name: str
    shape: tuple[int, ...]
    frame: tuple[int, int]
    codec: str = "none"
    sources: int = 1
    flown: bool = False
    tile: tuple[int, int] | None = None

    @property
    def geometry(self) -> ScanGeometry:
        if not self.shape:
            return ScanGeometry.events()
        *slow, fast = self.shape
        spec: Any = Linspace("x", 0, 1, fast)
        spec = spec if self.flown else ~spec
        for n, length in enumerate(reversed(slow)):
            spec = Linspace(f"y{n}", 0, 1, length) * spec
        return ScanGeometry.from_spec(spec)

    @property
    def count(self) -> int:
        return int(np.prod(self.shape)) if self.shape else 40

    @property
    def layout(self) -> Layout | str:
        if self.tile is None:
            return "frames"
        ones = (1,) * len(self.shape)
        rows = (2, *self.shape[1:])
        return Layout((*ones, *self.tile), (*rows, self.tile[0] * 2, self.tile[1]))

    def order(self) -> list[int]:
        """Positions in order of writing: some of them again, a little later."""
        order: list[int] = []
        for k in range(self.count):
            order.append(self.geometry.flat(k) if self.shape else k)
            if k % 5 == 4:
                order += [order[-3], order[-1]]
        return order


SCANS = (
    Scan("small", (6, 8), (12, 10)),
    Scan("small-blosc-3", (5, 6), (16, 16), "blosc-zstd-1", sources=3),
    Scan("large", (3, 5), (200, 220)),
    Scan("large-blosc-3", (3, 4), (200, 220), "blosc-zstd-1", sources=3),
    Scan("tiles", (4, 4), (192, 200), "blosc-lz4-1", tile=(64, 200)),
    Scan("grouped", (4, 60), (16, 16), "blosc-zstd-1", flown=True),
    Scan("grouped-3", (6, 40), (20, 20), sources=3, flown=True),
    Scan("growing", (), (20, 30), "zstd-1", sources=2),
)


def writes(scan: Scan, path: str, tell: Connection, number: int, torn: bool) -> None:
    """Write all of a scan and publish it; die at the call with this number, if there is one."""
    with told(tell), watched(Path(path).parent, _dying(number, torn)) as made:
        writer = ZarrWriter(path, codec=scan.codec, layout=scan.layout, group_seconds=0.05)
        geometry = scan.geometry
        with Journal(writer.path) as journal:
            table = StreamTable(writer.path, "primary", geometry, journal)
            table.declare({"diode": Column("number")})
            infos = [
                SourceInfo(f"cam{n}", "uint16", scan.frame, geometry=geometry, flown=scan.flown)
                for n in range(scan.sources)
            ]
            sinks = [writer.prepare(info, key=f"primary/{info.name}") for info in infos]
            inline = scan.frame[0] * scan.frame[1] * 2 <= 64 * 1024 and not scan.flown
            since: list[dict[int, int]] = [{} for _ in sinks]
            for write, flat in enumerate(scan.order(), 1):
                for n, sink in enumerate(sinks):
                    sink.write(picture(n, flat, write, scan.frame), flat)
                    since[n][flat] = write
                    if inline:
                        say(tell, "frames", n, {flat: write})
                    elif fresh := sink.collect():
                        cells = [k for start, stop in fresh for k in range(start, stop)]
                        say(tell, "frames", n, dict.fromkeys(cells, 1))
                    if write % 7 == 0:
                        sink.drain()
                        say(tell, "frames", n, since[n])
                        since[n] = {}
                table.put(flat, seq_num=write, time=1.7e9 + write, data={"diode": write / 2})
                say(tell, "event", flat, write)
            table.close()
        writer.complete()
        for n in range(scan.sources):
            say(tell, "frames", n, since[n])
        say(tell, "publishing")
        writer.publish()
    say(tell, "published", made)


def publishes(path: str, tell: Connection, number: int, torn: bool) -> None:
    """Publish what a writer left; die at the call with this number."""
    with told(tell), watched(Path(path).parent, _dying(number, torn)) as made:
        publish(path)
    say(tell, "published", made)


def recovers(path: str, tell: Connection, number: int, torn: bool) -> None:
    """Recover a store; die at the call with this number."""
    with told(tell), watched(Path(path).parent, _dying(number, torn)) as made:
        report = recover(path)
    say(tell, "recovered", made, bool(report), str(report))


def overwrites(path: str, tell: Connection, number: int, torn: bool) -> None:
    """Write a store over one that exists; die at the call with this number."""
    with told(tell), watched(Path(path).parent, _dying(number, torn)) as made:
        overwrite(Path(path))
    say(tell, "published", made)


def overwrite(path: Path) -> ZarrWriter:
    """Write a store of two frames, which say 2 and 3, over one that exists, and publish it."""
    writer = ZarrWriter(path, overwrite=True)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 5)))
    for value in (2, 3):
        sink.write(np.full((4, 5), value, "uint16"))
    writer.publish()
    return writer


def _dying(number: int, torn: bool) -> Any:
    return nothing if number < 0 else die_at(number, torn=torn)


def say(tell: Connection, *what: Any) -> None:
    tell.send_bytes(json.dumps([time.monotonic(), *what]).encode())


class told:
    """Says what went wrong, instead of a trace on a terminal that nobody looks at."""

    def __init__(self, tell: Connection) -> None:
        self.tell = tell

    def __enter__(self) -> None:
        say(self.tell, "begun")

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if error is not None:
            say(self.tell, "error", "".join(traceback.format_exception(error)))


def one_source(
    scan: Scan, source: int, company: int, path: str, tell: Connection, number: int, torn: bool
) -> None:
    """Write one source of a store that others write at the same time; publish nothing.

    Frames come when all `company` of them have made their arrays; none is done before. Calls are
    counted from the first frame on.
    """
    with told(tell):
        writer = ZarrWriter(path, codec=scan.codec, layout=scan.layout)
        info = SourceInfo(f"cam{source}", "uint16", scan.frame, geometry=scan.geometry)
        sink = writer.prepare(info, key=f"primary/cam{source}")
        while len(list(Path(path).glob("primary/cam?_written/zarr.json"))) < company:
            time.sleep(0.005)
        with watched(Path(path).parent, _dying(number, torn)):
            for write, flat in enumerate(scan.order(), 1):
                sink.write(picture(source, flat, write, scan.frame), flat)
                say(tell, "frames", source, {flat: write})
            writer.complete()
