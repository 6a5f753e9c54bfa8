"""Who writes a store: a process, told apart from every other that had or will have its number."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any


def process_identity() -> dict[str, Any]:
    """The identity of this process: `pid`, `process_start`, `boot_id` and `host`, all JSON-able.

    `process_start` tells a process from a later one with the same number: the clock ticks since
    boot where there is a /proc, otherwise what `ps` prints. `boot_id` is empty where the system has
    none.
    """
    return {
        "pid": os.getpid(),
        "process_start": process_start(os.getpid()),
        "boot_id": boot_id(),
        "host": platform.node(),
    }


def who(identity: Mapping[str, Any]) -> str:
    """An identity in words, with all that tells its process from any other.

    Examples
    --------
    >>> who({"pid": 4711, "process_start": "815", "boot_id": "6d8f", "host": "beamline-7"})
    'process 4711 on beamline-7, started at 815, boot 6d8f'
    """
    return (
        f"process {identity.get('pid')} on {identity.get('host')}, started at "
        f"{identity.get('process_start')}, boot {identity.get('boot_id')}"
    )


def is_alive(identity: Mapping[str, Any]) -> bool | None:
    """Whether the process of an identity still runs; None if it is on another host, where nobody
    here can tell.

    Examples
    --------
    >>> is_alive(process_identity())
    True
    """
    if identity.get("host") != platform.node():
        return None
    if identity.get("boot_id", "") != boot_id():
        return False
    pid = identity.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    start = process_start(pid)
    return bool(start) and start == identity.get("process_start")


def writer_in_words(identity: object, since: object) -> str:
    """The process of an identity as a part of a sentence, whatever a document says it is.

    Examples
    --------
    >>> writer_in_words({"pid": 12, "host": "beamline"}, "2026-11-20")
    'process 12 on beamline since 2026-11-20'
    """
    found = identity if isinstance(identity, Mapping) else {}
    return (
        f"process {found.get('pid', 'unknown')} on {found.get('host', 'an unknown host')} "
        f"since {since or 'an unknown time'}"
    )


def process_start(pid: int) -> str:
    """When the process started, as a text that is only good for comparison; empty if there is no
    such process.
    """
    if Path("/proc/self/stat").exists():
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return ""
        # The command's name stands in brackets and may hold blanks and brackets itself.
        fields = stat[stat.rindex(")") + 2 :].split()
        state, start = fields[0], fields[19]
        return "" if state in ("Z", "X") else start
    try:
        found = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(pid)],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


@cache
def boot_id() -> str:
    """The random number of this boot of the system; empty where the system has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
