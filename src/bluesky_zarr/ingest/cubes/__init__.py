"""Radio images in FITS files, one per time step and subband, become one cube."""

from ._config import CubesConfig
from ._discover import ImageSet, Source, discover
from ._errors import ImageError
from ._fixed_copies import FixedImage, fix_headers
from ._grid import SpatialGrid
from ._header_fixes import fixed_header
from ._ingest import (
    Conversion,
    Ingested,
    OutputExistsError,
    Progress,
    convert,
    ingest_cube,
    open_output,
    prepare,
    publish,
    validate_input,
)
from ._layout import cube_layout
from ._state import StateError

__all__ = [
    "Conversion",
    "CubesConfig",
    "FixedImage",
    "ImageError",
    "ImageSet",
    "Ingested",
    "OutputExistsError",
    "Progress",
    "Source",
    "SpatialGrid",
    "StateError",
    "convert",
    "cube_layout",
    "discover",
    "fix_headers",
    "fixed_header",
    "ingest_cube",
    "open_output",
    "prepare",
    "publish",
    "validate_input",
]
