"""Two independent readers of what our writers write, and its files as they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def document(node: Path) -> dict[str, Any]:
    return json.loads((node / "zarr.json").read_bytes())


def files_of(store: Path) -> dict[str, bytes]:
    return {str(p.relative_to(store)): p.read_bytes() for p in store.rglob("*") if p.is_file()}
