"""A bluesky run writes itself into one self-describing N-D Zarr v3 store.

>>> import bluesky_zarr as bz
>>> bz.PathInfo("file:///data/scan.zarr", array_key="primary/cam").array_key
'primary/cam'
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from .catalog._install import install as _install_consolidator

if TYPE_CHECKING:
    from .catalog import open
    from .geometry import ScanGeometry
    from .plans import ScanProgress
    from .session import PlacementError, Storage, StorageConfig
    from .store import PathInfo, PathProvider, StaticPathProvider

__all__ = [
    "PathInfo",
    "PathProvider",
    "PlacementError",
    "ScanGeometry",
    "ScanProgress",
    "StaticPathProvider",
    "Storage",
    "StorageConfig",
    "open",
]

# Imported when first used: `import bluesky_zarr.store` does not cost bluesky's start-up.
_HOMES = {
    "PathInfo": "store",
    "PathProvider": "store",
    "StaticPathProvider": "store",
    "ScanGeometry": "geometry",
    "ScanProgress": "plans",
    "PlacementError": "session",
    "Storage": "session",
    "StorageConfig": "session",
    "open": "catalog",
}

_install_consolidator()


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("bluesky-zarr")
    if name not in _HOMES:
        raise AttributeError(f"module 'bluesky_zarr' has no attribute '{name}'")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
