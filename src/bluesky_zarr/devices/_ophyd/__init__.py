"""All that touches the internals of ophyd-async's detectors.

ophyd-async asks a *data logic* for providers when a detector is prepared, keeps them until the next
`stage()`, and waits for a counter to advance at each trigger. Runs, streams and positions are not
known to it: they reach this package as placements, and each exposure keeps the one that it was
triggered with.
"""

from ._frames import FrameDataLogic
from ._guard import AcquireGuard
from ._readings import ScalarDataLogic

__all__ = ["AcquireGuard", "FrameDataLogic", "ScalarDataLogic"]
