"""Where a scan is, in words: per axis, per cent, and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
        self._runs: dict[str, _Run] = {}
        self._streams: dict[str, tuple[_Run, str]] = {}
        self._shown = 0.0
        self._line = ""

    def __call__(self, name: str, doc: Mapping[str, Any]) -> None:
        """Take one document of a run."""
        if name == "start":
            motors = doc.get("motors")
            self._runs[doc["uid"]] = _Run(
                ScanGeometry.from_start(doc), set(motors) if isinstance(motors, list) else set()
            )
            self._line = ""
        elif name == "descriptor" and doc["run_start"] in self._runs:
            run = self._runs[doc["run_start"]]
            # A scan whose points nobody knows beforehand may have several streams of them.
            points = run.geometry.growing and run.motors & set(doc.get("object_keys", ()))
            if doc["name"] == "primary" or points:
                self._streams[doc["uid"]] = run, doc["name"]
        elif name == "event" and doc["descriptor"] in self._streams:
            run, stream = self._streams[doc["descriptor"]]
            now = time.monotonic()
            run.counts[stream] = doc["seq_num"]
            self._line = run.line(stream, now)
            if now - self._shown >= self._interval or doc["seq_num"] == run.geometry.size:
                self._shown = now
                self._write(self._line)
        elif name == "stop":
            run = self._runs.pop(doc["run_start"], None)
            gone = [uid for uid, (of, _) in self._streams.items() if of is run]
            for uid in gone:
                del self._streams[uid]
            if self._line:
                self._write(f"{self._line} | {doc.get('exit_status', '')}\n")


@dataclass(eq=False)
class _Run:
    """A run under way, and how many events each of its streams has."""

    geometry: ScanGeometry
    motors: set[str]
    counts: dict[str, int] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def line(self, stream: str, now: float) -> str:
        if len(self.counts) > 1:
            return f"{stream} {self.counts[stream]} | {sum(self.counts.values())} events"
        return describe_progress(self.geometry, self.counts[stream], now - self.began)


def _rewrite(line: str) -> None:
    end = "" if line.endswith("\n") else "\r"
    if sys.stdout.isatty() or end == "":
        sys.stdout.write(f"\r\x1b[2K{line}{end}" if sys.stdout.isatty() else line)
        sys.stdout.flush()
