"""Two independent readers of what our writers write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tensorstore
import zarr


def zarr_python(store: Path, key: str) -> np.ndarray:
    return np.asarray(zarr.open_array(str(store), path=key, mode="r", zarr_format=3)[...])


def tensorstore_(store: Path, key: str) -> np.ndarray:
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / key)}}
    array = tensorstore.open(spec, open=True, read=True).result()
    return np.asarray(array.read().result())


READERS = (zarr_python, tensorstore_)
