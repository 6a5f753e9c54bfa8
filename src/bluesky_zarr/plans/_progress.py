"""Where a scan is, in words: per axis, per cent, and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bluesky_zarr.geometry import ScanGeometry

__all__ = ["ScanProgress", "describe_progress"]


def describe_progress(geometry: ScanGeometry, done: int, elapsed: float) -> str:
    """One line on where a scan is.

    Parameters
    ----------
    geometry
        The scan's geometry.
    done
        Points taken so far.
    elapsed
        Seconds since the start of the scan.

    Examples
    --------
    >>> from scanspec.specs import Linspace
    >>> scan = ScanGeometry.from_spec(Linspace("mono", 7, 8, 10) * Linspace("y", 0, 1, 100))
    >>> describe_progress(scan, 345, 69.0)
    'mono 4/10, y 45/100 | 345/1000 (34.5 %) | 2:11 left'
    """
    total = geometry.size
    if geometry.growing or not total:
        counted = f"{done}/{total} ({100 * done / total:.1f} %)" if total else f"{done} events"
        axes = ""
    else:
        step = np.unravel_index(min(max(done, 1), total) - 1, geometry.shape)
        axes = ", ".join(
            f"{dim.name} {at + 1}/{dim.size}" for dim, at in zip(geometry.dims, step, strict=True)
        )
        counted = f"{done}/{total} ({100 * done / total:.1f} %)"
    parts = [part for part in (axes, counted) if part]
    if total and 0 < done < total:
        seconds = round(elapsed / done * (total - done))
        minutes, seconds = divmod(seconds, 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
        parts.append(f"{clock} left")
    return " | ".join(parts)


class ScanProgress:
    """Prints the progress of each scan: ``RE.subscribe(ScanProgress())``.

    Parameters
    ----------
    write
        Called with each line; by default the terminal's last line is rewritten.
    interval
        Least seconds between two lines; the last point always has one.
    """

    def __init__(self, write: Callable[[str], None] | None = None, interval: float = 0.1) -> None:
        self._write = write or _rewrite
        self._interval = interval
        self._runs: dict[str, tuple[ScanGeometry, float]] = {}
        self._streams: dict[str, str] = {}
        self._shown = 0.0
        self._line = ""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document of a run."""
        if name == "start":
            self._runs[doc["uid"]] = ScanGeometry.from_start(doc), time.monotonic()
            self._line = ""
        elif name == "descriptor" and doc["name"] == "primary":
            self._streams[doc["uid"]] = doc["run_start"]
        elif name == "event" and doc["descriptor"] in self._streams:
            geometry, began = self._runs[self._streams[doc["descriptor"]]]
            now = time.monotonic()
            done = doc["seq_num"]
            self._line = describe_progress(geometry, done, now - began)
            if now - self._shown >= self._interval or done == geometry.size:
                self._shown = now
                self._write(self._line)
        elif name == "stop":
            self._runs.pop(doc["run_start"], None)
            gone = [uid for uid, run in self._streams.items() if run == doc["run_start"]]
            for uid in gone:
                del self._streams[uid]
            if self._line:
                self._write(f"{self._line} | {doc.get('exit_status', '')}\n")


def _rewrite(line: str) -> None:
    end = "" if line.endswith("\n") else "\r"
    if sys.stdout.isatty() or end == "":
        sys.stdout.write(f"\r\x1b[2K{line}{end}" if sys.stdout.isatty() else line)
        sys.stdout.flush()
