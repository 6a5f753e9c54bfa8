"""Ingested data sets as runs: found and read in a catalog as acquired ones are."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ._registration import MIMETYPE, register
from ._require import require

if TYPE_CHECKING:
    from tiled.client.container import Container

__all__ = ["announce", "documents"]

_STREAM = "primary"


def documents(path: str | os.PathLike[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The documents of an ingested data set: start, descriptor, and a stream_resource and a
    stream_datum for each of its arrays, and stop.

    The start document has the plan name "ingest" and says by what the data set can be searched:
    ``kind``, ``instrument`` (a text, if there is one) and ``instruments``, ``mjd_start`` and
    ``mjd_end``, ``frequency_min`` and ``frequency_max`` [Hz], ``counts``, ``source``, ``store``.
    They are made from the root attributes of the store, the same each time.

    Raises
    ------
    FileNotFoundError
        There is no store.
    ValueError
        It is no published data set of an ingest.

    Examples
    --------
    >>> for name, doc in documents("/data/uves.zarr"):  # doctest: +SKIP
    ...     writer(name, doc)
    """
    import event_model
    from event_model.documents import StreamRange

    from ..store._metadata import read_document
    from ..store._paths import array_uri, local_path, store_uri

    store = local_path(os.fspath(path))
    attributes = read_document(store).get("attributes") or {}
    summary = attributes.get("ingest")
    if not isinstance(summary, Mapping) or attributes.get("status") != "complete":
        raise ValueError(
            f"{str(store)!r} is no published data set of `bluesky-zarr ingest`: "
            "give the path of one; runs get into a catalog while they are acquired"
        )
    when = _timestamp(attributes["created_at"])
    run: Any = event_model.compose_run(
        uid=attributes["run_uid"],
        time=when,
        metadata={"plan_name": "ingest", **_searchable(summary), "store": store_uri(store)},
    )
    yield "start", dict(run.start_doc)
    arrays = {key: read_document(store / key) for key in summary["arrays"]}
    keys = {
        _name(key): {
            "dtype": "array",
            "dtype_numpy": _dtype(document),
            "shape": document["shape"][summary["arrays"][key] :],
            "dims": document["dimension_names"][summary["arrays"][key] :],
            "units": document["attributes"].get("units", ""),
            "source": array_uri(store, key),
            "external": "STREAM:",
        }
        for key, document in arrays.items()
    }
    descriptor = run.compose_descriptor(name=_STREAM, data_keys=keys, time=when)
    yield "descriptor", dict(descriptor.descriptor_doc)
    for key, document in arrays.items():
        scan = summary["arrays"][key]
        shape = document["shape"][:scan]
        resource = run.compose_stream_resource(
            mimetype=MIMETYPE,
            uri=array_uri(store, key),
            data_key=_name(key),
            parameters={
                "chunk_shape": _chunk_shape(document),
                "scan_shape": shape,
                "scan_dims": document["dimension_names"][:scan],
                "frame_shape": document["shape"][scan:],
            },
        )
        yield "stream_resource", dict(resource.stream_resource_doc)
        count = 1
        for length in shape:
            count *= length
        yield (
            "stream_datum",
            dict(
                resource.compose_stream_datum(
                    StreamRange(start=0, stop=count),
                    StreamRange(start=1, stop=count + 1),
                    descriptor.descriptor_doc,
                )
            ),
        )
    yield "stop", dict(run.compose_stop(time=_timestamp(attributes["published_at"])))


def announce(path: str | os.PathLike[str], catalog: str | Container) -> str:
    """Put an ingested data set into a Tiled catalog, and return the uid of its run.

    Parameters
    ----------
    path
        The published data set; the server must be able to read it there (``readable_storage``).
    catalog
        The address of the server (its key is taken from ``TILED_API_KEY``), or a client of it.

    Raises
    ------
    ValueError
        It is no published data set of an ingest, or it is in the catalog already.
    ImportError
        Without bluesky-tiled-plugins.
    """
    made = list(documents(path))
    tiled = require("tiled.client", "tiled")
    plugins = require("bluesky_tiled_plugins", "tiled")
    register()
    client: Any = tiled.from_uri(catalog) if isinstance(catalog, str) else catalog
    uid = made[0][1]["uid"]
    if uid in client:
        raise ValueError(
            f"{os.fspath(path)!r} is in the catalog already: read it there, as the run {uid}"
        )
    writer = plugins.TiledWriter(client)
    for name, doc in made:
        writer(name, doc)
    return uid


def _searchable(summary: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: summary[name] for name in ("kind", "instruments", "counts", "source")
    }
    # Alone it is what one searches for; a list is found by Contains("start.instruments", ...).
    if len(summary["instruments"]) == 1:
        found["instrument"] = summary["instruments"][0]
    if summary["time_range"]:
        found["mjd_start"], found["mjd_end"] = summary["time_range"]
    if summary["frequency_range"]:
        found["frequency_min"], found["frequency_max"] = summary["frequency_range"]
    return found


def _name(key: str) -> str:
    return key.rpartition("/")[2]


def _timestamp(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()


def _dtype(document: Mapping[str, Any]) -> str:
    import numpy as np

    return np.dtype(document["data_type"]).newbyteorder("<").str


def _chunk_shape(document: Mapping[str, Any]) -> list[int]:
    """The smallest piece that is read."""
    codecs = document["codecs"]
    if codecs[0]["name"] == "sharding_indexed":
        return codecs[0]["configuration"]["chunk_shape"]
    return document["chunk_grid"]["configuration"]["chunk_shape"]
