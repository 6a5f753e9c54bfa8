"""Stores as xarray sees them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xarray import DataTree

__all__ = ["open"]

#: Seconds between attempts to open a store whose arrays are just getting longer.
_WAITS = (0.01, 0.03, 0.1, 0.3)


def open(path: str | os.PathLike[str]) -> DataTree:
    """Open a store lazily, whether its run is over or still going on.

    Each stream of the run is a group of the tree: ``open(path)["primary"]`` is a dataset with the
    frames over the scan's dims and the frame's, the setpoints as index coordinates, readings,
    counts, ``seq_num`` and ``time`` over the scan's dims. Nothing but metadata is read before it is
    asked for, and nothing is kept: a value asked for twice is read twice, so that a run that is
    still going on can be watched. Its *shape* is what it was when the store was opened.

    Parameters
    ----------
    path
        A store's path or ``file://`` URI.

    Raises
    ------
    FileNotFoundError
        When there is nothing at this path.
    ValueError
        When what is there is not a Zarr v3 group.
    PermissionError
        When it cannot be read by this user.
    """
    import xarray

    from ..store._paths import local_path

    store = local_path(os.fspath(path))
    waits = iter(_WAITS)
    while True:
        published = "consolidated_metadata" in _root(store)
        try:
            return xarray.open_datatree(
                store,
                engine="zarr",
                consolidated=published,
                cache=False,
                # A number in seconds is a number: an exposure time must not become a timedelta.
                decode_timedelta=False,
            )
        except ValueError as error:
            # The arrays of a running store get longer one after the other: look again.
            wait = next(waits, None)
            if published or wait is None or "conflicting sizes" not in str(error):
                raise
            time.sleep(wait)


def _root(store: Path) -> dict[str, Any]:
    try:
        document = json.loads((store / "zarr.json").read_bytes())
    except FileNotFoundError:
        if not store.exists():
            raise FileNotFoundError(f"There is no store at {store}; check the path") from None
        raise ValueError(
            f"{store} is not a store: it has no zarr.json; give the directory *.zarr of a run"
        ) from None
    except NotADirectoryError:
        raise ValueError(
            f"{store} is not a store: it is a file; give the directory of a run"
        ) from None
    except PermissionError as error:
        raise PermissionError(
            f"{store} cannot be read by this user ({error.strerror}): {error.filename}; "
            "ask its owner for the right to read it"
        ) from error
    except ValueError as error:
        raise ValueError(
            f"{store} is not a store: its zarr.json is broken ({error}); restore it from a copy"
        ) from error
    if not isinstance(document, dict) or document.get("node_type") != "group":
        kind = document.get("node_type") if isinstance(document, dict) else None
        raise ValueError(
            f"{store} is not a store"
            + (": it is one array; open the directory that it is in" if kind == "array" else "")
        )
    return document
