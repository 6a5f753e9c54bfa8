"""Pictures of runs, from their stores alone. Needs the ``plot`` extra."""

from ._zoom import plot_zoom

__all__ = ["plot_zoom"]
