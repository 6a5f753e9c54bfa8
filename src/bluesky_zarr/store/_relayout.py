"""A store that was written one way and is read another is laid out anew: into a new store."""

from __future__ import annotations

import copy
import errno
import math
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_zarr._text import human_bytes
from bluesky_zarr.store._batch import LOCK, BatchStore
from bluesky_zarr.store._chunk_reader import ChunkReader
from bluesky_zarr.store._codecs import encoder_of
from bluesky_zarr.store._kinds import holds_frames, sharding
from bluesky_zarr.store._layout import Layout, choose_layout
from bluesky_zarr.store._metadata import (
    DOCUMENT,
    Document,
    nodes,
    plain,
    read_document,
    sharded_document,
    write_document,
)
from bluesky_zarr.store._paths import local_path, store_uri
from bluesky_zarr.store._provenance import FORMAT, utc_now, versions
from bluesky_zarr.store._report import Report
from bluesky_zarr.store._transpose import Transposition

# What the new store says of itself; all else is as the source says it.
_ITS_OWN = ("status", "published_at", "arrays", "format", "writer")


def relayout(
    source: str | Path,
    target: str | Path,
    *,
    access: str = "series",
    arrays: Sequence[str] = (),
    codec: str | None = None,
) -> Report:
    """Make a new store with the same content, whose frames are cut for another way of reading.

    The source is read and not touched. The new store is built at `<target>.tmp`, every chunk of it
    is validated, and it gets its name in one step at the end; what goes wrong before leaves nothing
    at the target. It takes 256 MiB of memory at most, or three chunks if these are larger.

    What changes: chunks, shards, and the codec where one is given; frames that were replaced are
    left behind. Everything else comes along, also the run uid; the attribute `relaid` of the root
    says from what, when and how.

    Parameters
    ----------
    source
        A published store: a path or `file://` URI.
    target
        The new store.
    access
        What will be read most: "frames", "series" (one pixel at all positions) or "balanced"; see
        `choose_layout`.
    arrays
        Keys of the arrays to cut anew; all that hold frames, if none is given. The others are
        copied as they are. Of an array that holds no frames the last two dims are taken for the
        frame's, or the last one if there are two.
    codec
        Of these arrays; see `ZarrWriter`. That of the source, if not given.

    Returns
    -------
    Report
        What was done to each array that was cut anew.

    Raises
    ------
    FileNotFoundError
        There is no such store.
    FileExistsError
        The target exists, or something that a dead process left at its `.tmp`. Where somebody
        made the target meanwhile, the new store stays at its `.tmp`.
    ValueError
        The store is running or was not written by bluesky-zarr, an array is none that can be cut,
        the target lies in the source, a chunk of the source is damaged, or an `access` or codec
        that does not exist.
    OSError
        There is not enough room on disk, which is looked at before anything is written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from bluesky_zarr.store import SourceInfo, ZarrWriter
    >>> writer = ZarrWriter(tempfile.mkdtemp() + "/scan.zarr")
    >>> sink = writer.prepare(SourceInfo("cam", dtype="uint16", shape=(64, 64)), capacity=50)
    >>> for n in range(50):
    ...     _ = sink.write(np.full((64, 64), n, "uint16"))
    >>> writer.publish()
    >>> print(relayout(writer.path, writer.path.with_name("series.zarr"), access="series"))
    relayout ...series.zarr (complete): ok
      cam: chunks 1x64x64 -> 50x64x64, shards 50x64x64 -> 50x64x64
      validated; every chunk was read
    """
    old, new = local_path(source), local_path(target)
    root = read_document(old)
    _check_source(old, root)
    _check_apart(old, new)
    documents = dict(nodes(old))
    with ExitStack() as stack:
        plans = [
            _plan(old, key, documents, access, codec, stack)
            for key in arrays or [key for key, d in documents.items() if holds_frames(d)]
        ]
        if not plans:
            raise ValueError(
                f"{str(old)!r} holds no frames; name the arrays to cut anew (arrays=, --array)"
            )
        others = list(_others(old, {plan.key for plan in plans}))
        _check_room(old, new, plans, others)
        entry = {
            "from": store_uri(old),
            "from_published_at": root["attributes"].get("published_at"),
            "at": utc_now(),
            "access": access,
            "codec": codec,
            "arrays": {
                plan.key: {"chunks": plan.layout.inner, "shards": plan.layout.shard}
                for plan in plans
            },
            "versions": versions(),
        }
        store = stack.enter_context(BatchStore(new))
        try:
            for path in others:
                copied = store.path / path.relative_to(old)
                copied.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copied)
            for plan in plans:
                array = store.add_array(plan.key, plan.document)
                plan.way.run(array, store.path / ".scratch.tmp")
            _describe(store.path, root["attributes"], entry)
            store.publish(root["attributes"]["status"], deep=True)
        except FileExistsError:
            # Somebody made the target meanwhile: the error says where the new store is.
            raise
        except BaseException:
            # The source still has it all.
            store.discard()
            raise
    return Report(
        new,
        "relayout",
        status=root["attributes"]["status"],
        notes=[*(plan.words() for plan in plans), "validated; every chunk was read"],
    )


def _describe(store: Path, attributes: Mapping[str, Any], entry: Mapping[str, Any]) -> None:
    """Let the new root say what the source's does: who measured what, when, and with what."""
    document = read_document(store)
    own = {name: v for name, v in document["attributes"].items() if name in _ITS_OWN}
    kept = {name: v for name, v in attributes.items() if name not in _ITS_OWN}
    relaid = [*kept.pop("relaid", ()), plain(entry)]
    document["attributes"] = {**kept, **own, "relaid": relaid}
    write_document(store, document)


@dataclass
class _Plan:
    """One array that is cut anew: its new document, and the way of its values."""

    key: str
    old: Document
    document: Document
    layout: Layout
    way: Transposition
    estimate: int

    def words(self) -> str:
        shards = _shape_of_files(self.old)
        found = sharding(self.old)
        chunks = tuple(found["chunk_shape"]) if found else shards
        return (
            f"{self.key}: chunks {_times(chunks)} -> {_times(self.layout.inner)}, "
            f"shards {_times(shards)} -> {_times(self.layout.shard)}"
        )


def _plan(
    store: Path,
    key: str,
    documents: dict[str, Document],
    access: str,
    codec: str | None,
    stack: ExitStack,
) -> _Plan:
    old = documents.get(key)
    if old is None or old["node_type"] != "array":
        known = [key for key, d in documents.items() if d["node_type"] == "array"]
        raise ValueError(f"{str(store)!r} has no array {key!r}; name one of {', '.join(known)}")
    shape, dims = tuple(old["shape"]), tuple(old.get("dimension_names") or ())
    if not shape or old["data_type"] == "string" or len(dims) != len(shape):
        raise ValueError(
            f"array {key!r} of {old['data_type']} with the shape {shape} cannot be cut anew; leave "
            "it out, and it is copied as it is"
        )
    reader = stack.enter_context(ChunkReader(store / key, old))
    frame_ndim = len(shape) - max(1, len(shape) - 2)
    if holds_frames(old):
        frame_ndim = len(shape) - int(old["attributes"]["bluesky_zarr"]["scan_ndim"])
    layout = choose_layout(shape, dims, reader.dtype, access, frame_ndim=frame_ndim, batch=True)
    document = _document(old, layout, reader, codec)
    way = Transposition(reader, layout.shard, layout.inner)
    raw = math.prod(shape) * reader.dtype.itemsize
    written = int(raw * reader.fraction())
    on_disk = sum(path.stat().st_size for path in (store / key / "c").rglob("*") if path.is_file())
    smaller = codec != "none" and len(reader.codecs) > 2
    return _Plan(key, old, document, layout, way, min(on_disk, written) if smaller else written)


def _document(old: Document, layout: Layout, reader: ChunkReader, codec: str | None) -> Document:
    made = sharded_document(
        shape=reader.shape,
        dtype=reader.dtype,
        shard=layout.shard,
        inner=layout.inner,
        dims=old["dimension_names"],
        codec=codec or "none",
        published=True,
    )
    if codec is None:
        encoder_of(reader.codecs)
        made["codecs"][0]["configuration"]["codecs"] = reader.codecs
    attributes = copy.deepcopy(old.get("attributes") or {})
    if holds_frames(old):
        # There are no records in its files any more.
        attributes["bluesky_zarr"].pop("array_id", None)
    return {**made, "fill_value": old["fill_value"], "attributes": attributes}


def _others(store: Path, relaid: set[str]) -> Iterator[Path]:
    """Every file of the store but its root's document and what is cut anew."""
    for directory, names, files in os.walk(store):
        here = Path(directory).relative_to(store)
        if here.as_posix() in relaid:
            names.clear()
            continue
        for name in sorted(files):
            path = Path(directory, name)
            ours = path != store / DOCUMENT and name != LOCK and not name.endswith(".tmp")
            if ours and not path.is_symlink():
                yield path


def _check_source(store: Path, root: Document) -> None:
    attributes = root.get("attributes") or {}
    if (attributes.get("format") or {}).get("name") != FORMAT["name"]:
        raise ValueError(
            f"{str(store)!r} was not written by bluesky-zarr; lay out only stores that were"
        )
    if attributes.get("status", "running") == "running":
        raise ValueError(
            f"{str(store)!r} is running; wait until it is published, or run recover on it if its "
            "writer died"
        )


def _check_apart(old: Path, new: Path) -> None:
    source, target = Path(os.path.realpath(old)), Path(os.path.realpath(new))
    built = target.with_name(f"{target.name}.tmp")
    if source in (target, built):
        raise ValueError(
            f"the target {str(new)!r} is the source, or where it would be built; choose another "
            "target: the source is never changed"
        )
    if target.is_relative_to(source) or source.is_relative_to(target):
        raise ValueError(
            f"the target {str(new)!r} and the source {str(old)!r} lie in one another; choose "
            "another target"
        )


def _check_room(old: Path, new: Path, plans: Sequence[_Plan], others: Sequence[Path]) -> None:
    parent = next(path for path in new.parents if path.exists())
    need = sum(path.stat().st_size for path in others) + sum(plan.estimate for plan in plans)
    scratch = max(plan.way.scratch_bytes for plan in plans)
    free = shutil.disk_usage(parent).free
    if need + scratch > free:
        raise OSError(
            errno.ENOSPC,
            f"not enough room for {str(new)!r}: it takes about {human_bytes(need)}"
            + (f", and {human_bytes(scratch)} while it is made" if scratch else "")
            + f"; {human_bytes(free)} are free. Choose a target on another disk",
        )


def _shape_of_files(document: Document) -> tuple[int, ...]:
    return tuple(document["chunk_grid"]["configuration"]["chunk_shape"])


def _times(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
