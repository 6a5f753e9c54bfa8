"""What importing bluesky_zarr.catalog costs, and when the consolidator gets its place."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bluesky_zarr.catalog._require import require

ENV = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}


def in_a_new_process(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENV, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_importing_the_catalog_imports_nothing_heavy() -> None:
    heavy = "('tiled', 'bluesky_tiled_plugins', 'xarray', 'zarr', 'numpy', 'bluesky')"
    script = (
        "import sys, bluesky_zarr.catalog as c; c.ensure_registered(); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert in_a_new_process(script) == "[]"


@pytest.mark.parametrize(
    "imports",
    [
        "bluesky_zarr, bluesky_tiled_plugins",
        "bluesky_tiled_plugins, bluesky_zarr",
        "bluesky_zarr.catalog._consolidator",
    ],
)
def test_the_consolidator_is_registered_in_any_order_of_imports(imports: str) -> None:
    script = (
        f"import {imports}\n"
        "from bluesky_zarr.catalog import ensure_registered\n"
        "assert ensure_registered() and ensure_registered()\n"
        "from bluesky_tiled_plugins.writing.consolidators import CONSOLIDATOR_REGISTRY as r\n"
        "print(r['application/x-zarr'].__name__)"
    )
    assert in_a_new_process(script) == "ScanArrayConsolidator"


def test_a_missing_package_is_named_with_its_extra() -> None:
    with pytest.raises(ImportError, match=r"pip install 'bluesky-zarr\[tiled\]'"):
        require("no_such_package.client", "tiled")


def test_a_package_that_is_broken_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tiled.broken", None)
    with pytest.raises(ImportError) as caught:
        require("tiled.broken", "tiled")
    assert "tiled" in str(caught.value)
