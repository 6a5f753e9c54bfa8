"""The stores beneath a directory, and how each of them stands."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_zarr._text import table
from bluesky_zarr.store._identity import is_alive
from bluesky_zarr.store._kinds import made_by
from bluesky_zarr.store._metadata import DOCUMENT, read_document
from bluesky_zarr.store._paths import local_path
from bluesky_zarr.store._provenance import FORMAT
from bluesky_zarr.store._publish import STATUSES
from bluesky_zarr.store._recover import recover, writers
from bluesky_zarr.store._report import Report

_DEPTH = 8
"""How far below the directory stores are looked for."""


@dataclass(frozen=True)
class StoreState:
    """How one store stands.

    `state` is "published", "running", "crashed", "damaged" or "unknown" (a writer on another host),
    `details` say as what, by whom and since when, or what to do.
    """

    path: Path
    state: str
    details: str


@dataclass(frozen=True)
class Listing:
    """The stores beneath a directory; prints a line for each."""

    directory: Path
    stores: tuple[StoreState, ...]

    def of(self, state: str) -> tuple[StoreState, ...]:
        """Those in one state."""
        return tuple(store for store in self.stores if store.state == state)

    def __str__(self) -> str:
        if not self.stores:
            return f"no stores in {self.directory}"
        rows = [
            (str(store.path.relative_to(self.directory)), store.state, store.details)
            for store in self.stores
        ]
        return table(("store", "state", "details"), rows)


def status(directory: str | Path, newest: int | None = None) -> Listing:
    """Look at every store beneath a directory, or at the `newest` ones only.

    Only root documents are read: a store that is called published may be damaged inside, which
    `validate` finds. Nothing is changed.

    Raises
    ------
    OSError
        The directory cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from bluesky_zarr.store import ZarrWriter
    >>> directory = tempfile.mkdtemp()
    >>> ZarrWriter(f"{directory}/a.zarr").publish()
    >>> writer = ZarrWriter(f"{directory}/b.zarr")
    >>> print(status(directory))
    store   state      details
    ------  ---------  ...
    a.zarr  published  complete, ...
    b.zarr  running    by process ...
    """
    base = local_path(directory)
    found = list(_stores(base))
    if newest is not None and len(found) > newest:
        found = sorted(found, key=_changed)[-newest:]
    return Listing(base, tuple(_state(store) for store in sorted(found)))


def recover_all(directory: str | Path, dry_run: bool = False) -> list[Report]:
    """Recover every crashed store beneath a directory; a report for each, as `recover` gives it.

    Stores that are published, or whose writer is alive or on another host, are passed over. One
    that cannot be recovered keeps no other from it: its report says why.
    """
    reports = []
    for store in status(directory).of("crashed"):
        try:
            report = recover(store.path, dry_run=dry_run)
        except (OSError, ValueError) as error:
            report = Report(store.path, "recover", status="running")
            report.add(str(store.path), str(error), "mend the cause and call again")
        reports.append(report)
    return reports


def _stores(directory: Path, depth: int = _DEPTH) -> Iterator[Path]:
    with os.scandir(directory) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    for entry in found:
        # What may not be read, or has gone since, is passed over.
        with contextlib.suppress(PermissionError, FileNotFoundError):
            if entry.is_symlink() or not entry.is_dir():
                continue
            path = Path(entry.path)
            if entry.name.endswith(".zarr") or (path / DOCUMENT).exists():
                yield path
            elif depth:
                yield from _stores(path, depth - 1)


def _changed(store: Path) -> float:
    try:
        return store.stat().st_mtime
    except OSError:
        return 0.0


def _state(store: Path) -> StoreState:
    try:
        document = read_document(store)
    except (OSError, ValueError) as error:
        return StoreState(store, "damaged", str(error))
    attributes = document["attributes"]
    if made_by(attributes) != FORMAT["name"]:
        return StoreState(store, "unknown", "it was not written by bluesky-zarr")
    said = attributes.get("status")
    if said in STATUSES:
        return StoreState(store, "published", f"{said}, {attributes.get('published_at')}")
    if said != "running":
        return StoreState(store, "damaged", f"its status is {said!r}; look with validate")
    try:
        return _of_running(store, attributes)
    except OSError as error:  # published, or closed to this user, meanwhile
        return StoreState(store, "unknown", str(error))


def _of_running(store: Path, attributes: Mapping[str, Any]) -> StoreState:
    since = f"since {attributes.get('created_at', 'an unknown time')}"
    state = "crashed"
    who = "nobody"
    for writer in writers(store, attributes).values():
        alive = is_alive(writer) if writer else False
        who = f"process {writer.get('pid', 'unknown')} on {writer.get('host', 'an unknown host')}"
        if alive:
            return StoreState(store, "running", f"by {who} {since}")
        if alive is None:
            state = "unknown"
            break
    if state == "unknown":
        return StoreState(store, state, f"by {who} {since}: whether it lives is known there only")
    return StoreState(store, state, f"{who} {since}, and is gone: bluesky-zarr recover {store}")
