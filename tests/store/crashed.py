"""Stores whose writer is gone, damage to them, and what is expected of them once recovered."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import (
    Column,
    Journal,
    Layout,
    SourceInfo,
    StreamTable,
    ZarrWriter,
    validate,
)
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._metadata import nodes, read_document, write_document

GRID = ScanGeometry.from_spec(Linspace("y", 0, 1, 3) * ~Linspace("x", 0, 2, 4))
KEY = "primary/cam"
T0 = 1_763_600_000.25
TILES = Layout((1, 1, 4, 4), (3, 4, 8, 4))


def frame(n: int, shape: tuple[int, ...] = (6, 8)) -> np.ndarray:
    return np.random.default_rng(n).integers(0, 60_000, shape).astype("uint16")


def signed(store: Path, **identity: object) -> None:
    """Say that somebody else wrote the store and its arrays."""
    readable = nodes(store, on_error=lambda *_: None)
    for key, document in [("", read_document(store)), *readable]:
        attributes = document.get("attributes", {})
        ours = attributes.get("bluesky_zarr", {}) if key else attributes
        if "writer" in ours:
            ours["writer"].update(identity)
            write_document(store / key, document)


def died(store: Path) -> None:
    """Say that the processes which wrote the store are gone."""
    signed(store, process_start="1")


def made(path: Path, *, publish: bool = False, **identity: object) -> Path:
    """A store with two frames, whose writer has this identity."""
    writer = ZarrWriter(path)
    sink = writer.prepare(SourceInfo("cam", "uint16", (4, 5)), key="primary/cam")
    for n in range(2):
        sink.write(np.full((4, 5), n + 1, "uint16"))
    writer.complete()
    if publish:
        writer.publish()
    signed(path, **identity)
    return path


def copied(original: Path, name: str) -> Path:
    """A store and its journal once more, beside it."""
    path = original.with_name(name)
    shutil.copytree(original, path)
    if Journal.path_of(original).exists():
        shutil.copy(Journal.path_of(original), Journal.path_of(path))
    return path


def crashed(
    path: Path, order: Sequence[int] = (0, 1, 2, 3, 2, 4), *, codec: str = "none",
    layout: Layout | str = "frames", geometry: ScanGeometry = GRID, journal: bool = True,
) -> Path:  # fmt: skip
    """A store with frames (the n-th has the seed n) whose writer is gone."""
    writer = ZarrWriter(path, codec=codec, layout=layout)
    source = SourceInfo("cam", "uint16", (6, 8), geometry=geometry)
    sink = writer.prepare(source, key=KEY)
    if journal:
        with Journal(writer.path) as log:
            table = StreamTable(writer.path, "primary", geometry, log)
            table.declare({"diode": Column("number")})
            for n, k in enumerate(order):
                table.put(k, seq_num=k + 1, time=T0 + n, data={"diode": n / 2})
    for n, k in enumerate(order):
        sink.write(frame(n), k, time=T0 + n)
    sink.drain()
    died(writer.path)
    return writer.path


def group_of(store: Path, *, writable: bool = False) -> tuple[FrameArray, ShardGroup]:
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    return array, ShardGroup(array, members, writable=writable)


def set_entry(
    store: Path,
    position: tuple[int, ...],
    extents: Mapping[tuple[int, ...], tuple[int, int]],
) -> None:
    """Say in the index where a frame's tiles lie, truly or not."""
    array, group = group_of(store, writable=True)
    with group:
        for tile, extent in extents.items():
            place, index = array.entry(position, tile)
            group.files[place].set_entries(index, [extent])


def flip(store: Path, position: tuple[int, ...], version: int = -1, *, at: int = 20) -> None:
    """Flip a bit of a frame; `at` is from the start of its encoded chunk."""
    _, group = group_of(store)
    with group:
        place, record = next(iter(group.versions()[position][version].records.values()))
        path = group.files[place].path
    flip_bit(path, record.offset + at, 2)


def shard_of(store: Path, key: str = KEY) -> Path:
    """The one file of an array of frames."""
    (path,) = (p for p in (store / key / "c").rglob("*") if p.is_file())
    return path


def flip_bit(path: Path, place: int, bit: int = 0) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << bit]))


def moment(value: np.datetime64) -> float:
    """Seconds since 1970, to the microsecond that decoding keeps."""
    return round(value.astype("datetime64[ns]").astype(int) / 1e9, 6)


def opened(store: Path) -> xarray.Dataset:
    return xarray.open_zarr(store, group="primary").load()


def expect(store: Path, order: Sequence[int], **changed: Any) -> xarray.Dataset:
    """Everything is there, at its place, as often as it was written."""
    report = validate(store, deep=True)
    assert report, str(report)
    group = opened(store)
    newest = {k: n for n, k in enumerate(order)} | changed.get("newest", {})
    counts = np.bincount(order, minlength=12) if "counts" not in changed else changed["counts"]
    assert group["cam_written"].values.ravel().tolist() == list(counts)
    for k in range(12):
        wanted = frame(newest[k]) if newest.get(k) is not None else np.zeros((6, 8))
        assert (group["cam"].values.reshape(12, 6, 8)[k] == wanted).all(), k
    return group
