"""Nested and adaptive scans, and the stubs that say where frames belong."""

from ._actions import Acquire, Action, Mark, MoveTo, Refine, Return
from ._approval import Answer, Approval, Countdown, Prompt, SignalApproval
from ._conditions import ConditionError, parse_condition
from ._joining import Joinable, Trigger
from ._nested import nested_scan
from ._place import declare_geometry, place
from ._progress import ScanProgress, describe_progress
from ._readings import Readings
from ._resolve import Resolve
from ._strategy import Field, Found, Measure, Measured, Outcome, ScanAxis, Strategy
from ._triggers import Derivative, PeakFound, Threshold, Within
from ._zoom_result import ZoomResult
from ._zoom_scan import zoom_scan
from ._zoom_strategy import Zoom

__all__ = [
    "Acquire",
    "Action",
    "Answer",
    "Approval",
    "ConditionError",
    "Countdown",
    "Derivative",
    "Field",
    "Found",
    "Joinable",
    "Mark",
    "Measure",
    "Measured",
    "MoveTo",
    "Outcome",
    "PeakFound",
    "Prompt",
    "Readings",
    "Refine",
    "Resolve",
    "Return",
    "ScanAxis",
    "ScanProgress",
    "SignalApproval",
    "Strategy",
    "Threshold",
    "Trigger",
    "Within",
    "Zoom",
    "ZoomResult",
    "declare_geometry",
    "describe_progress",
    "nested_scan",
    "parse_condition",
    "place",
    "zoom_scan",
]
