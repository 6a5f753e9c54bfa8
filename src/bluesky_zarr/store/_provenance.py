"""What a store says about where it comes from."""

from __future__ import annotations

import datetime
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bluesky_zarr.store._identity import process_identity

FORMAT = {"name": "bluesky-zarr", "version": "1"}


def provenance() -> dict[str, Any]:
    """The root attributes of a new store: format, creation, versions, git commit, and who writes
    it.
    """
    attributes: dict[str, Any] = {
        "format": FORMAT,
        "created_at": utc_now(),
        "versions": versions(),
    }
    commit = git_commit(str(Path.cwd()))
    if commit:
        attributes["git_commit"] = commit
    attributes["writer"] = process_identity()
    return attributes


def utc_now() -> str:
    """The time now in UTC, as ISO text."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


@cache
def versions() -> dict[str, str]:
    """Of Python, of this package, and of what writes its bytes."""
    found = {"python": platform.python_version()}
    for name in ("bluesky_zarr", "zarr", "numpy", "numcodecs"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            # Run from a source tree that was never installed.
            found[name] = "unknown"
    return found


@cache
def git_commit(directory: str) -> str:
    """The commit that is checked out in the repository of a directory; empty where there is
    none.
    """
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "HEAD"],
            cwd=directory,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
