"""Where a point of a scan sits in N-D: dims, shape, snaking and coordinates.

A geometry is data: it is made from a scanspec `Spec` or from a bluesky start document, it is
never expanded to the product of its dims, and it answers for the k-th point in order of
acquisition which cell of the N-D array it fills and where the axes are commanded to.
"""

from ._dims import Coordinate, CoordinateDict, Dim, DimDict
from ._scan import MAX_DIMS, GeometryDict, ScanGeometry, check_depth

__all__ = [
    "MAX_DIMS",
    "Coordinate",
    "CoordinateDict",
    "Dim",
    "DimDict",
    "GeometryDict",
    "ScanGeometry",
    "check_depth",
]
