"""What must hold of a store after a crash, whatever moment it came at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import zarr

from bluesky_zarr.store import Journal, recover, validate
from tests.faults.pictures import named
from tests.faults.processes import Said
from tests.faults.victims import Scan
from tests.store.reading import READERS


def frames_hold(path: Path, scan: Scan, said: Said) -> None:
    """Every announced frame can be read by both readers, bit for bit, as new as was announced."""
    for source, least in said.announced().items():
        for read in READERS:
            data = read(path, f"primary/cam{source}")
            data = data.reshape(-1, *scan.frame)
            for flat, number in least.items():
                found = named(data[flat])
                assert found is not None, f"{read.__name__}: {flat} is not a frame"
                assert found[:2] == (source, flat)
                assert found[2] >= number, f"{read.__name__}: {flat} is older than announced"


def nothing_is_wrong(path: Path, scan: Scan) -> None:
    """Whatever is in the store is a whole frame at its place, or nothing, and is counted so."""
    report = validate(path, deep=True)
    assert report, str(report)
    for source in range(scan.sources):
        node = path / "primary" / f"cam{source}"
        if not (node / "zarr.json").exists():
            continue
        data = np.asarray(zarr.open_array(str(node), mode="r")[...]).reshape(-1, *scan.frame)
        counts = zarr.open_array(f"{node}_written", mode="r")[...].reshape(-1)  # pyright: ignore
        assert len(counts) == len(data)
        for flat, (frame, count) in enumerate(zip(data, counts, strict=True)):
            if count:
                found = named(frame)
                assert found is not None, f"{flat} is counted and is not a frame"
                assert found[:2] == (source, flat)
            else:
                assert not frame.any(), f"{flat} is not counted and has a frame"


def events_hold(path: Path, said: Said) -> None:
    """The rows that were announced are in the table, and are the last of their positions."""
    announced = dict(said.of("event"))
    if not announced:
        return
    newest = {row["index"]: row["seq_num"] for kind, row in Journal.read(path) if kind == "row"}
    seq_nums = zarr.open_array(str(path / "primary" / "seq_num"), mode="r")[...].reshape(-1)  # pyright: ignore
    for flat, number in announced.items():
        assert seq_nums[flat] == newest[flat] >= number


def all_hold_after_recovery(path: Path, scan: Scan, said: Said) -> None:
    """As it lies there, and recovered, a second time too, the store has all that was announced."""
    if not (path / "zarr.json").exists():
        assert not said.announced()
        return
    frames_hold(path, scan, said)
    for _ in range(2):
        report = recover(path)
        assert report, str(report)
        nothing_is_wrong(path, scan)
    frames_hold(path, scan, said)
    events_hold(path, said)
    left = [p for p in path.rglob("*.damaged")]
    assert not left, "a crash damages nothing"
