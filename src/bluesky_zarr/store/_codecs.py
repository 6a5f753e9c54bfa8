"""Codecs by name: the Zarr v3 configuration, the encoder and the decoder of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from crc32c import crc32c as _crc32c
from numcodecs import blosc as _blosc  # pyright: ignore[reportAttributeAccessIssue] compiled
from numcodecs import zstd as _zstd  # pyright: ignore[reportAttributeAccessIssue] compiled

if TYPE_CHECKING:
    from typing_extensions import Buffer

    Encoder = Callable[[Buffer], Buffer]

CODECS_HELP = (
    '"none", "lz4", "zstd-N" (N from 1 to 22), '
    '"blosc-lz4-N", "blosc-zstd-N" (N from 1 to 9, with bitshuffle)'
)
"""The codec names that are understood, as a text for error messages."""

# Blosc 1 counts in signed 32-bit integers and adds up to 16 bytes of its own.
BLOSC_MAX_BYTES = 2**31 - 1 - 16

_NAME = re.compile(r"none|lz4|zstd-(?P<level>\d{1,2})|blosc-(?P<cname>lz4|zstd)-(?P<clevel>\d)")
_SHUFFLES = {"noshuffle": 0, "shuffle": 1, "bitshuffle": 2}


def compressor_configuration(name: str, itemsize: int) -> dict[str, Any] | None:
    """The Zarr v3 codec entry of a codec name; None for "none".

    Only codecs that every Zarr v3 implementation has are used. Plain "lz4" therefore is the Blosc
    container with lz4 and without a shuffle: Zarr v3 has no codec for bare lz4.

    Parameters
    ----------
    name
        One of `CODECS_HELP`.
    itemsize
        Bytes per element of the array, which the shuffle works with.

    Raises
    ------
    ValueError
        The name is not a codec.

    Examples
    --------
    >>> compressor_configuration("zstd-3", 2)
    {'name': 'zstd', 'configuration': {'level': 3, 'checksum': False}}
    """
    match = _NAME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        raise ValueError(f"{name!r} is not a codec; choose one of {CODECS_HELP}")
    if name == "none":
        return None
    if match["level"] is not None:
        level = int(match["level"])
        if not 1 <= level <= 22:
            raise ValueError(f"{name!r}: zstd levels go from 1 to 22; choose one of {CODECS_HELP}")
        return {"name": "zstd", "configuration": {"level": level, "checksum": False}}
    cname, level, shuffle = "lz4", 5, "noshuffle"
    if match["cname"] is not None:
        cname, level, shuffle = match["cname"], int(match["clevel"]), "bitshuffle"
        if level < 1:
            raise ValueError(f"{name!r}: blosc levels go from 1 to 9; choose one of {CODECS_HELP}")
    return {
        "name": "blosc",
        "configuration": {
            "typesize": itemsize,
            "cname": cname,
            "clevel": level,
            "shuffle": shuffle,
            "blocksize": 0,
        },
    }


def encoder(name: str, itemsize: int) -> Encoder:
    """A function from the bytes of a chunk to the compressed bytes, without a checksum; "none"
    hands its input back.

    Raises
    ------
    ValueError
        The name is not a codec.
    """
    return _compressing(compressor_configuration(name, itemsize))


def encoder_of(codecs: Sequence[Mapping[str, Any]]) -> Encoder:
    """As `encoder`, for the list of Zarr v3 codecs of an array that was made here; the inverse of
    `decoder`, but for the checksum.

    Raises
    ------
    ValueError
        The list is none that is written here.

    Examples
    --------
    >>> encode = encoder_of([{"name": "bytes"}, {"name": "crc32c"}])
    >>> bytes(encode(b"abc"))
    b'abc'
    """
    names = [codec.get("name") for codec in codecs]
    if names[:1] != ["bytes"] or names[-1:] != ["crc32c"] or len(names) > 3:
        raise ValueError(
            f"codecs {names} are none that bluesky-zarr writes; choose one of {CODECS_HELP}"
        )
    decoder(codecs)
    return _compressing(codecs[1] if len(codecs) == 3 else None)


def _compressing(entry: Mapping[str, Any] | None) -> Encoder:
    if entry is None:
        return _identity
    options = entry["configuration"]
    if entry["name"] == "zstd":
        level = options["level"]
        return lambda data: _zstd.compress(data, level)
    cname, clevel, itemsize = options["cname"].encode(), options["clevel"], options["typesize"]
    shuffle = _SHUFFLES[options["shuffle"]]
    # The element size is said, because Blosc would take it from a buffer that may be seen as plain
    # bytes.
    return lambda data: _blosc.compress(data, cname, clevel, shuffle, 0, itemsize)


def _identity(data: Buffer) -> Buffer:
    return data


def checksum(data: Buffer) -> bytes:
    """The crc32c as 4 little-endian bytes, as Zarr's `crc32c` codec appends it."""
    return checksum_bytes(_crc32c(data))


def checksum_so_far(data: Buffer, before: int = 0) -> int:
    """The crc32c of `data` as a number, after bytes of which it is `before`.

    Examples
    --------
    >>> checksum_bytes(checksum_so_far(b"cd", checksum_so_far(b"ab"))) == checksum(b"abcd")
    True
    """
    return _crc32c(data, before)


def checksum_bytes(value: int) -> bytes:
    """A crc32c as it is stored."""
    return value.to_bytes(4, "little")


def decoder(codecs: Sequence[Mapping[str, Any]]) -> Callable[[Buffer], bytes]:
    """A function from a stored chunk to its raw little-endian bytes, for a list of Zarr v3 codecs.

    The list is what stands in the metadata of an array written here: `bytes`, perhaps a compressor,
    and `crc32c`. The function raises ValueError where a checksum does not fit or the data cannot be
    decompressed.

    Raises
    ------
    ValueError
        The list holds a codec that is not written here.

    Examples
    --------
    >>> decode = decoder([{"name": "bytes"}, {"name": "crc32c"}])
    >>> decode(b"abc" + checksum(b"abc"))
    b'abc'
    """
    steps = [_decoding_step(codec) for codec in reversed(codecs)]

    def decode(data: Buffer) -> bytes:
        value: Buffer = data
        for step in steps:
            value = step(value)
        return bytes(value)

    return decode


def _decoding_step(codec: Mapping[str, Any]) -> Callable[[Buffer], Buffer]:
    name = codec.get("name")
    if name == "bytes":
        if (codec.get("configuration") or {}).get("endian", "little") != "little":
            raise ValueError(
                f"codec {codec} is big-endian; bluesky-zarr writes little-endian chunks only"
            )
        return _identity
    if name == "crc32c":
        return _without_checksum
    if name == "blosc":
        return _decompressing("blosc", _blosc.decompress)
    if name == "zstd":
        return _decompressing("zstd", _zstd.decompress)
    raise ValueError(
        f"codec {name!r} is none that bluesky-zarr writes ({CODECS_HELP}, each with crc32c)"
    )


def _without_checksum(data: Buffer) -> memoryview:
    view = memoryview(data).cast("B")
    if len(view) < 4:
        raise ValueError(f"{len(view)} bytes are too few for a chunk with a crc32c checksum")
    body, stored = view[:-4], bytes(view[-4:])
    found = checksum(body)
    if stored != found:
        raise ValueError(
            f"crc32c checksum of the chunk is {stored.hex()}, of its data {found.hex()}: damaged"
        )
    return body


def _decompressing(name: str, decompress: Callable[[Any], bytes]) -> Callable[[Buffer], bytes]:
    def step(data: Buffer) -> bytes:
        try:
            return decompress(data)
        except (RuntimeError, ValueError) as error:
            raise ValueError(
                f"{name} cannot decompress a chunk of {memoryview(data).nbytes} bytes: {error}"
            ) from error

    return step
