"""Two readers, and how the system is made to forget what it has read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

Read = Callable[[Any], np.ndarray]


def zarr_python(node: Path) -> Read:
    array = zarr.open_array(str(node), mode="r", zarr_format=3)
    return lambda selection: np.asarray(array[selection])


def tensorstore(node: Path) -> Read:
    import tensorstore

    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(node)},
        # Nothing is kept from one read to the next.
        "context": {"cache_pool": {"total_bytes_limit": 0}},
    }
    array = tensorstore.open(spec, open=True, read=True).result()
    return lambda selection: np.asarray(array[selection].read().result())


READERS = {"zarr-python": zarr_python, "tensorstore": tensorstore}


def forget(store: Path) -> None:
    """Ask the system to drop what it holds of a store's files; it may hold on to some."""
    for path in store.rglob("*"):
        if path.is_file():
            fd = os.open(path, os.O_RDONLY)
            try:
                os.fsync(fd)
                os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            finally:
                os.close(fd)
