"""What must hold of a store after a crash, whatever moment it came at."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from bluesky_zarr.store import Journal, recover, validate
from tests.faults.pictures import named, picture
from tests.faults.processes import Said
from tests.faults.victims import Scan
from tests.store.reading import READERS, zarr_python


def frames_hold(path: Path, scan: Scan, said: Said, *, torn: bool = False) -> None:
    """Every announced frame can be read by both readers, bit for bit, as new as was announced.

    Torn is allowed to be one that lies in several shard files and was being written again.
    """
    for source, least in said.announced().items():
        for read in READERS:
            data = read(path, f"primary/cam{source}")
            data = data.reshape(-1, *scan.frame)
            for flat, number in least.items():
                found = named(data[flat])
                if found is None and torn and is_torn(data[flat], scan, source, flat):
                    continue
                assert found is not None, f"{read.__name__}: {flat} is not a frame"
                assert found[:2] == (source, flat)
                assert found[2] >= number, f"{read.__name__}: {flat} is older than announced"


def is_torn(frame: np.ndarray, scan: Scan, source: int, flat: int) -> bool:
    """Whether each shard's part of a frame is that of one of the writes of its position."""
    if scan.tile is None:
        return False
    rows = scan.tile[0] * 2
    whole = [
        picture(source, flat, write, scan.frame)
        for write, written in enumerate(scan.order(), 1)
        if written == flat
    ]
    return all(
        any(np.array_equal(frame[first : first + rows], one[first : first + rows]) for one in whole)
        for first in range(0, len(frame), rows)
    )


def nothing_is_wrong(path: Path, scan: Scan) -> None:
    """Whatever is in the store is a whole frame at its place, or nothing, and is counted so."""
    report = validate(path, deep=True)
    assert report, str(report)
    for source in range(scan.sources):
        key = f"primary/cam{source}"
        if not (path / key / "zarr.json").exists():
            continue
        data = zarr_python(path, key).reshape(-1, *scan.frame)
        counts = zarr_python(path, f"{key}_written").reshape(-1)
        assert len(counts) == len(data)
        for flat, (frame, count) in enumerate(zip(data, counts, strict=True)):
            if count:
                found = named(frame)
                assert found is not None, f"{flat} is counted and is not a frame"
                assert found[:2] == (source, flat)
            else:
                assert not frame.any(), f"{flat} is not counted and has a frame"


def read_as_announced(path: Path, scan: Scan, cells: list[int]) -> None:
    """The frames of the first source at these positions are read by both readers."""
    for read in READERS:
        data = read(path, "primary/cam0").reshape(-1, *scan.frame)
        for flat in cells:
            assert (named(data[flat]) or (0, -1))[1] == flat, f"{read.__name__}: {flat}"


def events_hold(path: Path, said: Said) -> None:
    """The rows that were announced are in the table, and are the last of their positions."""
    announced = dict(said.of("event"))
    if not announced:
        return
    newest = {row["index"]: row["seq_num"] for kind, row in Journal.read(path) if kind == "row"}
    seq_nums = zarr_python(path, "primary/seq_num").reshape(-1)
    for flat, number in announced.items():
        assert seq_nums[flat] == newest[flat] >= number


def all_hold_after_recovery(path: Path, scan: Scan, said: Said) -> None:
    """As it lies there, and recovered, a second time too, the store has all that was announced."""
    if not (path / "zarr.json").exists():
        assert not said.announced()
        return
    frames_hold(path, scan, said, torn=True)
    for _ in range(2):
        report = recover(path)
        assert report, str(report)
        nothing_is_wrong(path, scan)
    frames_hold(path, scan, said)
    events_hold(path, said)
    left = [p for p in path.rglob("*.damaged")]
    assert not left, "a crash damages nothing"
