"""Chunks are encoded as numcodecs does it, with and without Blosc's own function at hand."""

from __future__ import annotations

import numpy as np
import pytest
from numcodecs import blosc, zstd

from bluesky_zarr.store import _codecs as codecs
from bluesky_zarr.store._codecs import encoder

DATA = np.random.default_rng(0).poisson(500, 100_000).astype("uint16")


def encoded(name: str, data: np.ndarray) -> bytes:
    encode = encoder(name, data.itemsize)
    out = np.empty(data.nbytes + encode.overhead, np.uint8)
    return bytes(encode(data.view(np.uint8).data, out.data))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("noise", [False, True], ids=["counts", "noise"])
def test_blosc_gives_what_numcodecs_gives(
    monkeypatch: pytest.MonkeyPatch, hidden: bool, noise: bool
) -> None:
    if hidden:
        monkeypatch.setattr(codecs, "_blosc_compress_ctx", lambda: None)
    data = DATA
    if noise:  # which gets longer by all of the overhead
        data = np.random.default_rng(1).integers(0, 2**16, 100_000).astype("uint16")
    monkeypatch.setattr(blosc, "use_threads", False)
    for name, cname, level in (("blosc-zstd-1", b"zstd", 1), ("blosc-lz4-9", b"lz4", 9)):
        plain = data.view(np.uint8)
        assert encoded(name, data) == blosc.compress(plain, cname, level, 2, 0, 2)


def test_the_other_codecs_are_decoded_to_what_went_in() -> None:
    assert encoded("none", DATA) == DATA.tobytes()
    assert zstd.decompress(encoded("zstd-3", DATA)) == DATA.tobytes()
    assert blosc.decompress(encoded("lz4", DATA)) == DATA.tobytes()


def test_blosc_writes_where_it_is_told_if_this_build_of_numcodecs_lets_us() -> None:
    if codecs._blosc_compress_ctx() is None:
        pytest.skip("this build of numcodecs hides Blosc's functions; it works, but more slowly")
    out = np.zeros(DATA.nbytes + 16, np.uint8)
    result = encoder("blosc-lz4-5", 2)(DATA.view(np.uint8).data, out.data)
    assert bytes(result) == out[: len(result)].tobytes()


def test_a_buffer_that_is_too_small_is_an_error_and_not_a_chunk() -> None:
    if codecs._blosc_compress_ctx() is None:
        pytest.skip("this build of numcodecs hides Blosc's functions")
    noise = np.random.default_rng(1).integers(0, 256, 10_000).astype("uint8")
    with pytest.raises(RuntimeError, match="blosc cannot compress 10000 bytes: error"):
        encoder("blosc-lz4-5", 1)(noise.data, np.empty(100, np.uint8).data)
