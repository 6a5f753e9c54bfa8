"""Detectors that write their own Zarr stores, frame sources, and simulated devices."""

from ._cursor import Cursor, Placement
from ._function_camera import FunctionCamera, FunctionSource
from ._scalars import DEFAULT_SCALARS, LiveScalar, region
from ._sim_camera import SimCamera
from ._sim_point import SimPointDetector
from ._sim_sample import SimSample, SpectralLine
from ._source import FrameFormat, FrameSource
from ._writable import WritableDevice

__all__ = [
    "DEFAULT_SCALARS",
    "Cursor",
    "FrameFormat",
    "FrameSource",
    "FunctionCamera",
    "FunctionSource",
    "LiveScalar",
    "Placement",
    "SimCamera",
    "SimPointDetector",
    "SimSample",
    "SpectralLine",
    "WritableDevice",
    "region",
]
