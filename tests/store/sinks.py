"""What goes into sinks, and what is found where it went."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np

from bluesky_zarr.geometry import Coordinate, Dim, ScanGeometry
from bluesky_zarr.store import FrameSink
from tests.store.reading import zarr_python

MakeSink = Callable[..., FrameSink]


def grid(*sizes: int, snaked: tuple[int, ...] = ()) -> ScanGeometry:
    return ScanGeometry(
        tuple(
            Dim(f"d{axis}", n, axis in snaked, (Coordinate(f"d{axis}", np.arange(float(n))),))
            for axis, n in enumerate(sizes)
        )
    )


def store_of(sink: FrameSink) -> Path:
    return Path(sink.uri.removeprefix("file://localhost").removesuffix("/" + sink.key))


def read(sink: FrameSink) -> np.ndarray:
    return zarr_python(store_of(sink), sink.key)


def frame(k: int, shape: tuple[int, ...] = (10, 10), dtype: str = "uint16") -> np.ndarray:
    values = np.random.default_rng(k).integers(1, 100, shape)
    return np.asarray(values).astype(dtype)


def full_disk(*_: object, **__: object) -> NoReturn:
    """In place of whatever writes."""
    raise OSError(errno.ENOSPC, "No space left on device")
