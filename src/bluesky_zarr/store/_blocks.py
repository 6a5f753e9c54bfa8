"""Arrays that are written in blocks rather than frame by frame: what fits, and what does not."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from bluesky_zarr.store._layout import batch_layout
from bluesky_zarr.store._metadata import Document, array_document, sharded_document


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
            f"{shape} once"
        )
    if chunks is None:
        if shards is not None:
            raise ValueError(
                f"{what}: shards {tuple(shards)} are given without chunks; give both, or neither"
            )
        chunks, shards = batch_layout(shape, dtype)
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
            f"{tuple(map(min, chunks, shape))} is the largest"
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


def write_block(array: zarr.Array[Any], key: str, start: Sequence[int], block: np.ndarray) -> None:
    """Write a block of exactly the array's dtype from `start` on; ValueError, and nothing is
    written, where it does not fit.
    """
    block = np.asarray(block)
    begin = tuple(map(operator.index, start))
    what = f"block for {key!r}"
    if not len(begin) == block.ndim == array.ndim:
        raise ValueError(
            f"{what}: start {begin} has {len(begin)} dims and the block {block.ndim}, the "
            f"array has {array.ndim}"
        )
    if block.dtype != array.dtype:
        raise ValueError(
            f"{what}: {array.dtype} expected, got {block.dtype}; convert it explicitly: no "
            "silent wrap"
        )
    if any(
        n < 0 or n + length > size
        for n, length, size in zip(begin, block.shape, array.shape, strict=True)
    ):
        raise ValueError(
            f"{what}: {block.shape} from {begin} on is out of bounds of the shape {array.shape}"
        )
    array[tuple(slice(n, n + length) for n, length in zip(begin, block.shape, strict=True))] = block
