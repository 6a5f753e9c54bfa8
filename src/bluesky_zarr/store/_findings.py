"""What an adaptive scan wrote down: its peaks, and why it ended as it did."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bluesky_zarr._text import table, with_error
from bluesky_zarr.store._metadata import DOCUMENT, read_whole

_NEEDED = ("fwhm", "height", "resolved", "note")


def findings(store: Path) -> str:
    """The table of peaks and the reasons that a store has; "" for one that has neither."""
    lines = [_peaks(store / "peaks"), *_reasons(store / "decisions")]
    return "\n".join(line for line in lines if line)


def _peaks(group: Path) -> str:
    columns = {
        node.name: read_whole(node)
        for node in sorted(group.glob("*"))
        if node.name.startswith(("center", *_NEEDED, "parent")) and (node / DOCUMENT).is_file()
    }
    centers = [n for n in columns if n.startswith("center") and not n.startswith("center_error")]
    if not centers or not all(any(n.startswith(need) for n in columns) for need in _NEEDED):
        return ""
    number = len(columns[centers[0]])
    head, shown = [], []
    if "parent" in columns:
        head.append("outer point")
        shown.append([str(n) for n in columns["parent"]])
    for field in ("center", "fwhm", "height"):
        for name in columns:
            axis = name.removeprefix(field)
            if name.startswith(field) and not axis.startswith("_error"):
                errors = columns.get(f"{field}_error{axis}", np.full(number, math.nan))
                head.append(name)
                pairs = zip(columns[name], errors, strict=True)
                shown.append([with_error(float(value), float(error)) for value, error in pairs])
    head.append("resolved")
    answers = zip(columns["resolved"], columns["note"], strict=True)
    shown.append(["yes" if yes else f"no: {note}" if note else "no" for yes, note in answers])
    return table(head, list(zip(*shown, strict=True)))


def _reasons(group: Path) -> Iterator[str]:
    if not ((group / "why" / DOCUMENT).is_file() and (group / "action" / DOCUMENT).is_file()):
        return
    for why, action in zip(read_whole(group / "why"), read_whole(group / "action"), strict=False):
        if why and action == "end":
            yield str(why)
