"""What can be wrong with an image, and with what was asked for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from bluesky_zarr.ingest._fits import FitsError

IN_A_COPY = "put it right in a copy, or move the file out of the input directory"


class ImageError(ValueError):
    """An image cannot be used, seen from where its file is not known: why, and what to do."""

    def __init__(self, reason: str, advice: str = IN_A_COPY) -> None:
        super().__init__(reason, advice)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.reason}; {self.advice}"


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file of an `ImageError` that is raised in this block: it becomes a `FitsError`."""
    try:
        yield
    except ImageError as error:
        raise FitsError(path, error.reason, error.advice) from None
