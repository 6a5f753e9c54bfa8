"""Corrected copies of images."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes._discover import find_images, fixed_path
from bluesky_zarr.ingest.cubes._image import read_image, write_fixed


@dataclass(frozen=True)
class FixedImage:
    """A corrected copy: its path, that of its original, and what was changed."""

    path: Path
    original: Path
    changes: tuple[str, ...]


def fix_headers(input_dir: str | Path, fixed_dir: str | Path) -> Iterator[FixedImage]:
    """Write a corrected copy of each image beneath a directory; the originals are never changed.

    A copy is named after its original, ``a-I-image.fits`` becoming ``a-I-image_fixed.fits``, and
    lies where that lies. It is float32 and not compressed. See `fixed_header` for what is put
    right.

    Parameters
    ----------
    input_dir
        Of the images.
    fixed_dir
        Of the copies; an older copy is replaced.

    Yields
    ------
    FixedImage
        One copy after the other, when it is written.

    Raises
    ------
    FitsError
        An image cannot be read or put right, or would be overwritten by its own copy.
    ValueError
        There is no image.
    """
    directory = Path(os.path.abspath(Path(input_dir).expanduser()))
    copies = Path(os.path.abspath(Path(fixed_dir).expanduser()))
    paths = find_images(directory, passing_over=copies if copies != directory else None)
    originals = set(paths)
    for path in paths:
        target = fixed_path(path, directory, copies)
        if target in originals:
            raise FitsError(
                path,
                f"its corrected copy would overwrite {str(target)!r}, which is an input too",
                "give another directory for the copies",
            )
        image = read_image(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        write_fixed(image, target)
        yield FixedImage(target, path, image.changes)
