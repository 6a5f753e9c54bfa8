"""What kind of node a `zarr.json` describes: frames, their counts, a stream's table, or neither."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bluesky_zarr.store._metadata import Document, read_document

EVENT = "event"
"""The dim of what is stored in order of events."""

ROLES = ("setpoint", "reading", "event")
"""What an array of a stream's table holds, by its attribute `role`."""


def published_status(store: Path) -> str:
    """The status of a published store; empty for one that is running, and where there is none."""
    try:
        attributes = read_document(store).get("attributes", {})
    except FileNotFoundError:
        return ""
    status = attributes.get("status", "running")
    return "" if status == "running" else str(status)


def made_by(attributes: Mapping[str, Any]) -> str:
    """The name of the format that a store is in by its root attributes; empty if they say none."""
    named = attributes.get("format")
    return str(named.get("name", "")) if isinstance(named, Mapping) else ""


def is_table_array(document: Document) -> bool:
    """Whether the document is that of an array which a `StreamTable` has written."""
    return document.get("attributes", {}).get("role") in ROLES


def is_frame_array(document: Document) -> bool:
    """Whether the document is that of an array of frames, whose shard files hold records."""
    ours = document.get("attributes", {}).get("bluesky_zarr")
    return isinstance(ours, dict) and "array_id" in ours


def holds_frames(document: Document) -> bool:
    """Whether the document is that of an array of frames: of records, or of one that was re-laid
    and has plain shards.
    """
    return isinstance(document.get("attributes", {}).get("bluesky_zarr"), dict)


def first_dim(document: Document) -> str | None:
    """The name of an array's slowest dim; None where there is none."""
    return (document.get("dimension_names") or [None])[0]


def sharding(document: Document) -> dict[str, Any] | None:
    """The configuration of an array's `sharding_indexed` codec; None where it is not sharded."""
    codecs: list[Mapping[str, Any]] = document.get("codecs") or [{}]
    return codecs[0]["configuration"] if codecs[0].get("name") == "sharding_indexed" else None


def is_live(document: Document) -> bool:
    """Whether a node is an array of shards that is in the phase of being written."""
    found = sharding(document)
    return found is not None and found.get("index_location") == "start"
