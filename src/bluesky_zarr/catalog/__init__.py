"""Documents to Tiled, stores to xarray: how runs are found and read again."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._ingested import announce, documents
from ._open import open
from ._registration import ensure_registered, register
from ._server import TiledServer, serve

if TYPE_CHECKING:
    from ._compare import compare, connect
    from ._dataset import dataset

__all__ = [
    "TiledServer",
    "announce",
    "compare",
    "connect",
    "dataset",
    "documents",
    "ensure_registered",
    "open",
    "register",
    "serve",
]

_LATER = {"compare": "_compare", "connect": "_compare", "dataset": "_dataset"}


def __getattr__(name: str) -> Any:
    # Imported when first used: every session imports this package, few of them need numpy for it.
    if name not in _LATER:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found
