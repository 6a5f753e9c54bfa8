"""Arrays that are written in blocks rather than frame by frame: what fits, and what does not."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy.typing as npt

from bluesky_zarr.store._batch_layout import batch_layout
from bluesky_zarr.store._metadata import Document, array_document, sharded_document

# How long a text of any length is taken to be where chunks are cut.
_TEXT_BYTES = "S64"


def array_of_blocks(
    key: str,
    *,
    shape: Sequence[int],
    dtype: npt.DTypeLike,
    dims: Sequence[str],
    chunks: Sequence[int] | None,
    shards: Sequence[int] | None,
    units: str,
    fill_value: Any,
    codec: str,
    attributes: Mapping[str, Any] | None,
) -> Document:
    """The document of an array for blocks, as `ZarrWriter.create_array` describes it; ValueError
    where lengths do not fit together.
    """
    shape, dims = tuple(map(operator.index, shape)), tuple(dims)
    what = f"array {key!r}"
    if len(dims) != len(shape) or len(set(dims)) != len(dims):
        raise ValueError(
            f"{what}: dims {dims} do not name each of the {len(shape)} dims of the shape "
            f"{shape} once; give one name for each"
        )
    text = dtype in ("str", str)
    if text and shards is not None:
        raise ValueError(f"{what}: text is not stored in shards; give chunks alone")
    if chunks is None:
        if shards is not None:
            raise ValueError(
                f"{what}: shards {tuple(shards)} are given without chunks; give both, or neither"
            )
        chunks, shards = batch_layout(shape, _TEXT_BYTES if text else dtype)
        shards = None if text else shards
    for name, part in (("chunk", tuple(chunks)), ("shard", tuple(shards or ()))):
        if part and len(part) != len(shape):
            raise ValueError(
                f"{what}: a {name} of {part} has {len(part)} dims, the shape {shape} has "
                f"{len(shape)}; "
                "give one length for each dim"
            )
    if any(part > max(1, n) for part, n in zip(chunks, shape, strict=True)):
        raise ValueError(
            f"{what}: a chunk of {tuple(chunks)} is larger than the shape {shape}; "
            f"{tuple(map(min, chunks, shape))} is the largest: take that or less"
        )
    given: dict[str, Any] = {
        "shape": shape,
        "dtype": dtype,
        "dims": dims,
        "units": units,
        "fill_value": fill_value,
        "attributes": attributes,
    }
    if shards is None:
        return array_document(chunks=chunks, compressor=codec, **given)
    return sharded_document(shard=shards, inner=chunks, codec=codec, published=True, **given)
