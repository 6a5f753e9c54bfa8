"""Pictures of runs, from their stores alone. Needs the ``plot`` extra."""

from ._browse import browse_run
from ._run import plot_run
from ._zoom import plot_zoom

__all__ = ["browse_run", "plot_run", "plot_zoom"]
