"""A stream from Tiled, labelled as its store is: events and arrays joined through `scan_index`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xarray import Dataset

__all__ = ["dataset"]


def dataset(stream: Any, variables: Iterable[str] | None = None) -> Dataset:
    """Read one stream of a run from Tiled as a Dataset with labels.

    ``stream.read()`` has the frames over the scan's dims, and beside them the events, one row
    after the other along ``time``: nothing says which row belongs to which frame but the column
    ``scan_index``. Here that is done, with the names that the store has: dims ``y`` and ``x``, the
    setpoints as their coordinates, so that ``.sel(x=0.3, method="nearest")`` works, the readings of
    motors as coordinates ``y_readback`` and ``x_readback``, every other column and the events'
    ``time`` over the scan's dims.

    Where a point was measured twice the last row counts; where none was measured yet numbers are
    NaN, times NaT, integers 0 and texts empty.

    Parameters
    ----------
    stream
        A stream of a run, ``client[uid]["primary"]``. With a client made with ``"dask"`` frames are
        read when they are needed, otherwise at once.
    variables
        Names of the columns and arrays that are wanted; all by default.

    Raises
    ------
    ValueError
        When the stream has no array that bluesky-zarr wrote, or no column ``scan_index``.

    Examples
    --------
    >>> run = server.client().values().last()  # doctest: +SKIP
    >>> dataset(run["primary"])["cam"].sel(x=0.3, method="nearest")  # doctest: +SKIP
    """
    import xarray

    arrays = _arrays(stream)
    if not arrays:
        raise ValueError(f"{stream!r} has no array of a scan; read it with its own .read()")
    if set(stream) == set(arrays):  # an ingested data set: there were no events
        return _without_events(stream.read(variables=sorted(variables or arrays)), arrays)
    if "scan_index" not in stream:
        raise ValueError(
            f"{stream!r} has no column 'scan_index', which says where in the scan an event "
            "belongs: the run was made without Storage.attach(RE); read it with its own .read()"
        )
    wanted = set(stream) - {name for name in stream if name.startswith("ts_")}
    if variables is not None:
        wanted &= {*variables, "scan_index", "time"}
    raw = stream.read(variables=sorted(wanted))

    layout = next(iter(arrays.values()))
    scan_dims: list[str] = layout["scan_dims"]
    shape = tuple(layout["shape"][: len(scan_dims)])
    rows, cells = _last_rows(raw["scan_index"].to_numpy(), shape)

    data: dict[str, Any] = {}
    labels: dict[str, Any] = {
        entry["name"]: (entry["dim"], np.asarray(entry["values"]), _units(entry))
        for entry in layout["coordinates"]
    }
    axes = {*labels, *scan_dims}
    for name, variable in raw.variables.items():
        if name in arrays:
            frame_dims = variable.dims[len(scan_dims) :]
            data[str(name)] = ((*scan_dims, *frame_dims), variable.data)
        elif variable.dims[:1] == ("time",) and name != "scan_index":
            values = _on_grid(variable.to_numpy(), rows, cells, shape)
            if name == "time":  # seconds since 1970; xarray reads a store's as a date, too
                values = (values * 1e9).astype("datetime64[ns]")
            entry = ((*scan_dims, *variable.dims[1:]), values)
            if name in axes:
                labels[f"{name}_readback"] = entry
            else:
                data[str(name)] = entry
    return xarray.Dataset(data, coords=labels)


def _without_events(raw: Dataset, arrays: Mapping[str, Mapping[str, Any]]) -> Dataset:
    """Give the arrays over the scan's dims, under the names that the store has for them."""
    names = {f"scan_{dim}": dim for layout in arrays.values() for dim in layout["scan_dims"]}
    return raw.rename_dims({old: new for old, new in names.items() if old in raw.dims})


def _arrays(stream: Any) -> dict[str, dict[str, Any]]:
    """Give shape, scan dims and coordinates of each array that our consolidator described."""
    found: dict[str, dict[str, Any]] = {}
    for name, client in stream.base.include_data_sources().items():
        for source in client.data_sources() or ():
            ours = source.properties.get("bluesky_zarr")
            if ours is not None:
                found[name] = {**ours, "shape": client.shape}
    return found


def _units(entry: Mapping[str, Any]) -> dict[str, str]:
    return {"units": entry["units"]} if entry.get("units") else {}


def _last_rows(scan_index: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Give the rows that count and the flat cells that they belong to."""
    cells = scan_index.astype("int64")
    # A row may be there for a frame that is not announced yet.
    valid = np.flatnonzero((cells >= 0) & (cells < np.prod(shape, dtype="int64")))
    last = dict(zip(cells[valid].tolist(), valid.tolist(), strict=True))
    return np.fromiter(last.values(), "int64", len(last)), np.fromiter(last, "int64", len(last))


def _on_grid(
    values: np.ndarray, rows: np.ndarray, cells: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    fill: Any = np.nan if values.dtype.kind in "fc" else np.zeros((), values.dtype)
    if values.dtype.kind == "O":
        fill = ""
    inner = values.shape[1:]
    grid = np.full((int(np.prod(shape)), *inner), fill, dtype=values.dtype)
    grid[cells] = values[rows]
    return grid.reshape(*shape, *inner)
