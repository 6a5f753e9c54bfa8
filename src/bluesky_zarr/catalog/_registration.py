"""Telling bluesky-tiled-plugins how our arrays look, whether or not it is there.

Its registry of consolidators is a dictionary in a module, without entry points: somebody has to put
ours in before the first StreamResource is written. Importing that module takes over a second, so it
is never imported for this alone: `ensure_registered` looks whether somebody else has imported it,
as everybody has who subscribed a TiledWriter.
"""

from __future__ import annotations

import sys

from ._require import require

__all__ = ["ensure_registered", "register"]

MIMETYPE = "application/x-zarr"
"""Of every Zarr array, ours or not."""
REGISTRY_MODULE = "bluesky_tiled_plugins.writing.consolidators"


def ensure_registered() -> bool:
    """Register our consolidator if documents can go to Tiled in this process.

    Costs microseconds; call it at each run's start. Returns whether it is registered now.
    """
    registry = getattr(sys.modules.get(REGISTRY_MODULE), "CONSOLIDATOR_REGISTRY", None)
    if registry is None:
        return False
    if not getattr(registry.get(MIMETYPE), "reads_scan_arrays", False):
        from . import _consolidator

        # It may be this module whose import brought the registry; it then registers at its end.
        if hasattr(_consolidator, "take_place"):
            _consolidator.take_place()
    return True


def register() -> None:
    """Import bluesky-tiled-plugins and register our consolidator.

    For processes that only write documents to Tiled, far from the RunEngine.

    Raises
    ------
    ImportError
        When bluesky-tiled-plugins is not installed.
    """
    require(REGISTRY_MODULE, "tiled")
    ensure_registered()
