"""One Tiled server for all tests of the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bluesky_zarr.catalog import TiledServer, serve


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stores")


@pytest.fixture(scope="session")
def server(stores: Path) -> Iterator[TiledServer]:
    with serve(readable_storage=stores) as server:
        yield server


@pytest.fixture
def store(stores: Path, tmp_path: Path) -> Path:
    """A path for one test's store, below the base directory that the server may read."""
    return stores / f"{tmp_path.name}.zarr"
