"""demo.png and lines.png: what `bluesky-zarr demo` draws."""

import shutil
import tempfile
from pathlib import Path

from common import IMAGES

from bluesky_zarr.cli import demo

with tempfile.TemporaryDirectory() as folder:
    demo(Path(folder))
    shutil.copy(Path(folder) / "map.png", IMAGES / "demo.png")
    shutil.copy(Path(folder) / "lines.png", IMAGES / "lines.png")
