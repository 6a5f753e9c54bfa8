"""The command line as a process of its own, as people run it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

COMMAND = [sys.executable, "-c", "from bluesky_zarr.cli import app; app(prog_name='bluesky-zarr')"]


@pytest.fixture
def bluesky_zarr() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `bluesky-zarr` with some arguments, and settings for its environment."""

    def run(*arguments: object, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=100,
            env={**os.environ, **settings},
            check=False,
        )

    return run
