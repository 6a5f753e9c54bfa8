"""Plans that scan in nested dimensions, and the stub that says where frames belong."""

from ._nested import nested_scan
from ._place import place
from ._progress import ScanProgress, describe_progress

__all__ = ["ScanProgress", "describe_progress", "nested_scan", "place"]
