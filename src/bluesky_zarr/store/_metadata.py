"""The metadata documents (`zarr.json`) of a store: made by zarr-python, written by temporary file
and rename.

zarr-python makes one small array of each kind in memory; what differs between arrays of a kind
(shape, chunks, names, attributes) is then filled into a copy of its document. So the documents are
the reference implementation's own, and a store of thirty arrays does not pay for thirty round trips
through it.
"""

from __future__ import annotations

import copy
import datetime
import functools
import json
import math
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore

from bluesky_zarr.store._codecs import compressor_configuration
from bluesky_zarr.store._files import replace_bytes

DOCUMENT = "zarr.json"
Document = dict[str, Any]

_warnings_lock = threading.Lock()


def plain(value: Any) -> Any:
    """`value` as JSON can hold it: numpy values become Python ones, tuples lists, dates ISO text.

    NaN and the infinities become the words that the Zarr specification uses for them, as JSON has
    none.

    Examples
    --------
    >>> plain({"a": np.float32(1.5), "b": (1, float("nan"))})
    {'a': 1.5, 'b': [1, 'NaN']}
    """
    if value is None or isinstance(value, (bool, int, str)):
        # An IntEnum or StrEnum is its value; json would write a str subclass as it is, but not
        # compare equal on reading.
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return float(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (datetime.datetime, datetime.date)):
        return value.isoformat()
    if isinstance(value, Enum):
        return plain(value.value)
    return str(value)


def dimension_attributes(dims: Sequence[str]) -> dict[str, list[str]]:
    """The attribute by which readers older than Zarr v3's `dimension_names` know the dims.

    Examples
    --------
    >>> dimension_attributes(("y", "x"))
    {'_ARRAY_DIMENSIONS': ['y', 'x']}
    """
    return {"_ARRAY_DIMENSIONS": list(dims)}


def group_document(attributes: Mapping[str, Any] | None = None) -> Document:
    """The document of a group with these attributes."""
    document = copy.deepcopy(_group_template())
    document["attributes"] = plain(dict(attributes or {}))
    return document


def array_document(
    *,
    shape: Sequence[int],
    dtype: Any,
    chunks: Sequence[int],
    dims: Sequence[str],
    fill_value: Any = None,
    attributes: Mapping[str, Any] | None = None,
    units: str = "",
    long_name: str = "",
    compressor: str = "none",
) -> Document:
    """The document of an unsharded array, each chunk with a crc32c at its end.

    `dtype` is anything numpy takes, or "str" for text of any length. `fill_value` None stands for
    the dtype's own (0, False, ""). Raises ValueError where shape, chunks and dims are not of one
    length.

    Examples
    --------
    >>> document = array_document(
    ...     shape=(5, 30), dtype="float64", chunks=(5, 30), dims=("y", "x"), units="mm"
    ... )
    >>> document["dimension_names"], document["attributes"]["units"], document["fill_value"]
    (['y', 'x'], 'mm', 0.0)
    """
    _check_rank(shape, dims, chunks=chunks)
    document = copy.deepcopy(
        _array_template(_dtype_name(dtype), len(shape), compressor, _hashable(fill_value))
    )
    return _fill(document, shape, chunks, dims, attributes, units, long_name)


def sharded_document(
    *,
    shape: Sequence[int],
    dtype: Any,
    shard: Sequence[int],
    inner: Sequence[int],
    dims: Sequence[str],
    codec: str,
    published: bool,
    attributes: Mapping[str, Any] | None = None,
    units: str = "",
    long_name: str = "",
    fill_value: Any = None,
) -> Document:
    """The document of an array whose files are shards of inner chunks, in one of its two phases.

    Live (`published=False`) the index stands at the start of each shard file and has no checksum,
    so that it can be changed entry by entry; published it stands at the end with a checksum, as the
    other Zarr libraries write it. Raises ValueError where the lengths differ or a shard is not a
    whole number of inner chunks.
    """
    _check_rank(shape, dims, shard=shard, inner=inner)
    if any(whole % part for whole, part in zip(shard, inner, strict=True)):
        raise ValueError(
            f"a shard of {tuple(shard)} is not a whole number of inner chunks of {tuple(inner)}; "
            "choose a shard that is a multiple in every dim"
        )
    document = copy.deepcopy(
        _sharded_template(_dtype_name(dtype), len(shape), codec, published, _hashable(fill_value))
    )
    document["codecs"][0]["configuration"]["chunk_shape"] = [int(n) for n in inner]
    return _fill(document, shape, shard, dims, attributes, units, long_name)


def read_document(node: Path) -> Document:
    """The document of the array or group in the directory `node`.

    Raises FileNotFoundError where there is none, ValueError where it is not one of Zarr v3.
    """
    path = node / DOCUMENT
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(
            f"{str(node)!r} is not a Zarr v3 array or group: it has no {DOCUMENT}; check the path"
        ) from None
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{str(path)!r} is not JSON ({error}); the file is damaged, restore it from a copy"
        ) from None
    if not isinstance(document, dict) or document.get("zarr_format") != 3:
        raise ValueError(
            f"{str(path)!r} is not a Zarr v3 document (no 'zarr_format': 3); check the path"
        )
    if document.get("node_type") not in ("array", "group"):
        raise ValueError(
            f"{str(path)!r} has the node_type {document.get('node_type')!r}, "
            "not 'array' or 'group'; check the path"
        )
    if not isinstance(document.setdefault("attributes", {}), dict):
        raise ValueError(f"{str(path)!r} has attributes that are no object; restore it from a copy")
    shape = document.get("shape", None if document["node_type"] == "array" else [])
    if not (isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)):
        raise ValueError(f"{str(path)!r} has the shape {shape!r}; restore it from a copy")
    return document


def write_document(node: Path, document: Mapping[str, Any], *, sync: bool = False) -> None:
    """Replace the document of the node in the existing directory `node` in one step; with `sync`,
    wait for the disk.
    """
    replace_bytes(node / DOCUMENT, encode_document(document), sync=sync)


def encode_document(document: Mapping[str, Any]) -> bytes:
    """The bytes of a `zarr.json`."""
    return json.dumps(document, indent=2, allow_nan=False).encode()


def nodes(
    store: Path, *, on_error: Callable[[Path, Exception], None] | None = None
) -> Iterator[tuple[str, Document]]:
    """Key and document of every node beneath (and not including) the group at `store`, groups
    before their members.

    The directories of chunks are not entered; symbolic links are not followed. Nodes whose document
    cannot be read raise, as `read_document` does, or are handed to `on_error` and passed over.
    """
    stack = [""]
    while stack:
        parent = stack.pop()
        found = []
        for entry in sorted((store / parent).iterdir(), reverse=True):
            if entry.name.startswith(".") or entry.is_symlink() or not (entry / DOCUMENT).is_file():
                continue
            try:
                found.append((f"{parent}/{entry.name}".lstrip("/"), read_document(entry)))
            except (OSError, ValueError) as error:
                if on_error is None:
                    raise
                on_error(entry, error)
        yield from reversed(found)
        stack.extend(key for key, document in found if document["node_type"] == "group")


def consolidated(store: Path) -> Document:
    """The document of the group at `store` with the metadata of everything beneath it inside, made
    by zarr-python.

    Works for the root and for every group of a store; nothing is written.
    """
    memory = MemoryStore()
    for key, document in [("", read_document(store)), *nodes(store)]:
        # A group's own consolidated metadata would be copied into its parent's, where no reader
        # looks for it.
        bare = {name: value for name, value in document.items() if name != "consolidated_metadata"}
        _put(memory, f"{key}/{DOCUMENT}".lstrip("/"), bare)
    # Consolidated metadata is no part of the specification yet and zarr says so every time;
    # everyone reads it.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(memory)
    return _get(memory, DOCUMENT)


def open_quietly(store: Path, *, path: str | None = None) -> zarr.Array | zarr.Group:
    """Open a node with zarr-python, read-only, without its warnings about what the specification
    does not hold yet.
    """
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return zarr.open(str(store), path=path, mode="r", zarr_format=3, use_consolidated=False)


def open_array_quietly(node: Path) -> zarr.Array[Any]:
    """As `open_quietly`, for an array. Raises OSError or ValueError where there is none."""
    array = open_quietly(node)
    if not isinstance(array, zarr.Array):
        raise ValueError(f"{str(node)!r} is a group, not an array; give the path of an array")
    return array


def read_whole(node: Path) -> np.ndarray:
    """All values of an array, which are few."""
    return np.asarray(open_array_quietly(node)[...])


def open_for_blocks(node: Path) -> zarr.Array[Any]:
    """The array in the directory `node`, for zarr-python to write into; each chunk is replaced by
    rename.
    """
    # Comparing every chunk with the fill value takes longer than writing it, and chunks of zeros
    # may be left out without being told.
    config = {"write_empty_chunks": True}
    return zarr.open_array(str(node), mode="r+", zarr_format=3, config=config)


def write_whole(node: Path, values: np.ndarray) -> None:
    """Write all of an unsharded array with zarr-python."""
    open_for_blocks(node)[...] = values


# ------------------ zarr-python's part


def _put(memory: MemoryStore, key: str, document: Mapping[str, Any]) -> None:
    buffer = default_buffer_prototype().buffer.from_bytes(encode_document(document))
    cast("dict[str, Any]", memory._store_dict)[key] = buffer


def _get(memory: MemoryStore, key: str) -> Document:
    return json.loads(memory._store_dict[key].to_bytes())


@functools.cache
def _group_template() -> Document:
    memory = MemoryStore()
    zarr.create_group(memory, zarr_format=3)
    return _get(memory, DOCUMENT)


@functools.lru_cache(maxsize=256, typed=True)
def _array_template(dtype: str, ndim: int, compressor: str, fill_value: Any) -> Document:
    configuration = compressor_configuration(compressor, _itemsize(dtype))
    compressors = [*([configuration] if configuration else []), Crc32cCodec()]
    return _template(dtype, ndim, fill_value, compressors=compressors)


@functools.lru_cache(maxsize=256, typed=True)
def _sharded_template(
    dtype: str, ndim: int, codec: str, published: bool, fill_value: Any
) -> Document:
    configuration = compressor_configuration(codec, _itemsize(dtype))
    sharding = ShardingCodec(
        chunk_shape=(1,) * ndim,
        codecs=[BytesCodec(), *([configuration] if configuration else []), Crc32cCodec()],
        index_codecs=[BytesCodec(), Crc32cCodec()] if published else [BytesCodec()],
        index_location="end" if published else "start",
    )
    return _template(dtype, ndim, fill_value, serializer=sharding, compressors=None)


def _template(dtype: str, ndim: int, fill_value: Any, **codecs: Any) -> Document:
    memory = MemoryStore()
    zarr.create_array(
        memory,
        shape=(1,) * ndim,
        chunks=(1,) * ndim,
        dtype=dtype,
        fill_value=_restored(fill_value),
        filters=None,
        zarr_format=3,
        **codecs,
    )
    return _get(memory, DOCUMENT)


def _fill(
    document: Document,
    shape: Sequence[int],
    chunks: Sequence[int],
    dims: Sequence[str],
    attributes: Mapping[str, Any] | None,
    units: str,
    long_name: str,
) -> Document:
    document["shape"] = [int(n) for n in shape]
    document["chunk_grid"]["configuration"]["chunk_shape"] = [int(n) for n in chunks]
    document["dimension_names"] = list(dims)
    described = {name: text for name, text in (("units", units), ("long_name", long_name)) if text}
    document["attributes"] = {
        **dimension_attributes(dims),
        **described,
        **plain(dict(attributes or {})),
    }
    return document


def _check_rank(shape: Sequence[int], dims: Sequence[str], **parts: Sequence[int]) -> None:
    for name, part in {"dims": dims, **parts}.items():
        if len(part) != len(shape):
            raise ValueError(
                f"{name}={tuple(part)} has {len(part)} entries, the shape {tuple(shape)} has "
                f"{len(shape)}; "
                "give one for each dim"
            )
    for name, part in parts.items():
        if any(n < 1 for n in part):
            raise ValueError(
                f"{name}={tuple(part)} has an entry below 1; a chunk holds at least one element"
            )
    if any(n < 0 for n in shape):
        raise ValueError(f"the shape {tuple(shape)} has a negative length; give 0 or more")


def _dtype_name(dtype: Any) -> str:
    if dtype in ("str", "string", str):
        return "str"
    try:
        made = np.dtype(dtype)
    except TypeError:
        raise ValueError(
            f"{dtype!r} is not a numpy dtype; write for example 'uint16' or 'float64'"
        ) from None
    if made.kind not in "biufc" or made.itemsize > 16:
        raise ValueError(
            f"the dtype {made} is not stored; use bool, an integer, a float, a complex one or 'str'"
        )
    return made.newbyteorder("<").str


def _itemsize(dtype: str) -> int:
    return 1 if dtype == "str" else np.dtype(dtype).itemsize


class _NotANumber:
    """Stands for NaN in a cache key, where NaN itself would never be found again."""


def _hashable(fill_value: Any) -> Any:
    if isinstance(fill_value, np.generic):
        fill_value = fill_value.item()
    return _NotANumber if isinstance(fill_value, float) and math.isnan(fill_value) else fill_value


def _restored(fill_value: Any) -> Any:
    return math.nan if fill_value is _NotANumber else fill_value
