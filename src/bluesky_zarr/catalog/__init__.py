"""Documents to Tiled, stores to xarray: how runs are found and read again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._ingested import announce, documents
from ._open import open
from ._registration import ensure_registered, register
from ._server import TiledServer, serve

if TYPE_CHECKING:
    from ._dataset import dataset

__all__ = [
    "TiledServer",
    "announce",
    "dataset",
    "documents",
    "ensure_registered",
    "open",
    "register",
    "serve",
]


def __getattr__(name: str) -> Any:
    # Imported when first used: every session imports this package, few of them need numpy for it.
    if name != "dataset":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from ._dataset import dataset

    globals()["dataset"] = dataset
    return dataset
