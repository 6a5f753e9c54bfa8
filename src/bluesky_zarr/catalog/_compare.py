"""What the documents of a run announced, held against what its store has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..store._frame_array import readable_positions
from ._require import require

if TYPE_CHECKING:
    from ..store import Report

__all__ = ["compare", "connect"]

#: How many positions of an array are named one by one.
_NAMED = 10


def connect(uri: str) -> Any:
    """A Tiled client of a catalog; its key is taken from ``TILED_API_KEY``.

    Raises
    ------
    ImportError
        Without the extra ``tiled``.
    OSError
        When the server cannot be reached, or refuses.
    """
    tiled = require("tiled.client", "tiled")
    httpx = require("httpx", "tiled")
    try:
        return tiled.from_uri(uri)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(
            f"the catalog {uri!r} cannot be used ({error}): check its address and that it runs"
        ) from error


def compare(report: Report, catalog: Any) -> None:
    """Add to a report what a Tiled catalog says was announced, and the report's store lacks.

    After a power cut that is what nobody but the documents knows of. Frames of a step scan are
    named by the column ``scan_index`` of its events, those flown in order of events by their
    number; of a flown grid the catalog does not keep which of its frames were announced.

    Parameters
    ----------
    report
        Of `bluesky_zarr.store.recover` or `validate`.
    catalog
        A client of a catalog of runs: ``server.client()``, ``tiled.client.from_uri(uri)``.
    """
    from ..store._metadata import read_document

    try:
        run_uid = read_document(report.path).get("attributes", {}).get("run_uid")
    except (OSError, ValueError):
        return  # said by the report already
    run = catalog.get(run_uid) if isinstance(run_uid, str) else None
    if run is None:
        report.notes.append(f"the catalog has no run {run_uid!r}: nothing to compare with")
        return
    for stream in run:
        for name, (announced, shape) in _announced(run[stream]).items():
            _compare_array(report, f"{stream}/{name}", announced, shape)


def _compare_array(
    report: Report, key: str, announced: list[int] | None, shape: tuple[int, ...]
) -> None:
    if announced is None:
        report.notes.append(f"{key}: the catalog does not say which frames were announced")
        return
    there = readable_positions(report.path, key)
    cells = [tuple(int(n) for n in np.unravel_index(flat, shape)) for flat in announced]
    missing = [cell for cell in cells if cell not in there]
    for cell in missing[:_NAMED]:
        words = f"index {cell if len(cell) != 1 else cell[0]}"
        report.add(
            key, f"{words}: its frame was announced and is not in the store", "measure it again"
        )
    if len(missing) > _NAMED:
        report.add(
            key,
            f"{len(missing) - _NAMED} more frames were announced and are not in the store",
            "measure them again",
        )
    report.notes.append(f"{key}: {len(announced)} frames were announced by the catalog")


def _announced(stream: Any) -> dict[str, tuple[list[int] | None, tuple[int, ...]]]:
    """Of each array of ours the flat positions announced, and the scan's shape."""
    found: dict[str, tuple[list[int] | None, tuple[int, ...]]] = {}
    rows: list[int] | None = None
    for name, client in stream.base.include_data_sources().items():
        for source in client.data_sources() or ():
            ours = source.properties.get("bluesky_zarr")
            if ours is None:
                continue
            shape = tuple(client.shape[: len(ours["scan_dims"])])
            if rows is None and "scan_index" in stream:
                values = stream.read(variables=["scan_index"])["scan_index"].to_numpy()
                rows = sorted({int(n) for n in values if 0 <= n < np.prod(shape)})
            if rows is None and ours["scan_dims"] == ["event"]:  # flown: one after the other
                found[name] = list(range(shape[0])), shape
            else:
                found[name] = rows, shape
    return found
