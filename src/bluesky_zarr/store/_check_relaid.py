"""Are the frames that a re-laid array should have in its shards? Its counts say which these are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from bluesky_zarr.store._chunk_reader import ChunkReader
from bluesky_zarr.store._cuts import Cell, Region, cells, whole
from bluesky_zarr.store._metadata import Document, read_whole
from bluesky_zarr.store._progress import counts_key
from bluesky_zarr.store._report import Report

_RESTORE = "restore it from a copy, or lay out the store it was made from once more"


def check_relaid(
    store: Path, key: str, document: Document, noted: Mapping[str, Any], report: Report
) -> None:
    """Compare an array with its counts, and these with what the root notes (`written`)."""
    try:
        counts = read_whole(store / counts_key(key))
    except Exception as error:
        report.add(counts_key(key), f"the counts of {key} cannot be read: {error}", _RESTORE)
        return
    written = int(np.count_nonzero(counts))
    if noted.get("written") != written:
        report.add(
            key,
            f"{written} frames are counted, the root attributes say {noted.get('written')}",
            _RESTORE,
        )
    ndim = counts.ndim
    try:
        with ChunkReader(store / key, document) as reader:
            shards = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
            for region in cells(whole(reader.shape), shards):
                expected = _any_in(counts[region[:ndim]] > 0, reader.chunks[:ndim])
                present = reader.present(region)
                tiles = present.shape[ndim:]
                wrong = present != expected.reshape(expected.shape + (1,) * len(tiles))
                if wrong.any():
                    _report_first(key, region, reader.chunks, wrong, present, report)
    except (OSError, ValueError) as error:
        report.add(key, str(error), _RESTORE)


def _any_in(flags: np.ndarray, size: Cell) -> np.ndarray:
    """Whether any flag in each cell of a grid is set."""
    for axis, n in enumerate(size):
        flags = np.logical_or.reduceat(flags, np.arange(0, flags.shape[axis], n), axis=axis)
    return flags


def _report_first(
    key: str, region: Region, chunks: Cell, wrong: np.ndarray, present: np.ndarray, report: Report
) -> None:
    first = tuple(int(n) for n in np.argwhere(wrong)[0])
    start = tuple(r.start + n * c for r, n, c in zip(region, first, chunks, strict=True))
    what = "holds what nobody counted" if present[first] else "is missing, and its frames counted"
    more = int(np.count_nonzero(wrong)) - 1
    also = f"; so it is with {more} more" if more else ""
    report.add(key, f"index {start}: its chunk {what}{also}", _RESTORE)
