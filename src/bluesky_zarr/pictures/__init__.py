"""Pictures of runs, from their stores alone. Needs the ``plot`` extra."""

from ._run import plot_run
from ._zoom import plot_zoom

__all__ = ["plot_run", "plot_zoom"]
