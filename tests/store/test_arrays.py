"""Blocks become files that any Zarr reader takes, and the same blocks the same bytes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bluesky_zarr.store import ArrayWriter, BatchStore
from bluesky_zarr.store import _appender as appender_module
from bluesky_zarr.store._pool import in_order
from tests.store.reading import READERS, zarr_python
from tests.store.sinks import full_disk

CODECS = ["none", "lz4", "zstd-1", "blosc-lz4-5", "blosc-zstd-1"]
DTYPES = ["bool", "int8", "uint16", "int32", "uint64", "float32", "float64", "complex64"]


def values(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(7).random(shape) * 100).astype(dtype)


def cut(store: BatchStore, **options: Any) -> ArrayWriter:
    return store.create_array(
        "cube",
        **{
            "shape": (10, 9), "dtype": "float32", "dims": ("y", "x"), "chunks": (2, 3),
            "shards": (4, 6), **options,
        },
    )  # fmt: skip


def files_of(node: Path) -> dict[str, bytes]:
    return {
        p.relative_to(node).as_posix(): p.read_bytes()
        for p in (node / "c").rglob("*")
        if p.is_file()
    }


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize("shards", [None, (4, 6)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_block_is_read_as_it_was_written(
    tmp_path: Path, codec: str, shards: tuple[int, int] | None, dtype: str
) -> None:
    expected = values((10, 9), dtype)
    with BatchStore(tmp_path / "a.zarr") as store:
        cut(store, codec=codec, shards=shards, dtype=dtype).write((0, 0), expected)
        path = store.publish(deep=True)
    for reader in READERS:
        np.testing.assert_array_equal(reader(path, "cube"), expected)


@pytest.mark.parametrize("shards", [None, (4, 6)])
def test_the_same_blocks_give_the_same_bytes(tmp_path: Path, shards: Any) -> None:
    expected = values((10, 9))
    found = []
    for name, steps in (("a", (4, 4, 2)), ("b", (10,)), ("c", (8, 2))):
        store = BatchStore(tmp_path / name)
        array = cut(store, shards=shards)
        start = 0
        for step in steps:
            array.write((start, 0), expected[start : start + step])
            start += step
        found.append(files_of(store.path / "cube"))
    assert found[0] == found[1] == found[2]


def test_blocks_of_any_shape_end_up_where_they_belong(tmp_path: Path) -> None:
    expected = values((10, 9))
    array = cut(BatchStore(tmp_path / "a.zarr"))
    array.write((0, 0), expected)
    array.write((1, 2), 2 * expected[1:8, 2:7])
    expected[1:8, 2:7] *= 2
    for reader in READERS:
        np.testing.assert_array_equal(reader(tmp_path / "a.zarr.tmp", "cube"), expected)


def test_what_was_never_written_is_the_fill_value(tmp_path: Path) -> None:
    store = BatchStore(tmp_path / "a.zarr")
    array = cut(store, fill_value=np.nan)
    array.write((4, 0), values((4, 6)))
    found = READERS[0](store.path, "cube")
    assert np.isnan(found[:4]).all()
    assert not np.isnan(found[4:8, :6]).any()
    assert [*files_of(store.path / "cube")] == ["c/1/0"]


def test_a_shard_is_filled_chunk_by_chunk_in_bounded_memory(tmp_path: Path) -> None:
    store = BatchStore(tmp_path / "a.zarr")
    array = cut(store)
    expected = np.zeros((10, 9), "float32")
    with array.shard((2, 1)) as shard:
        assert not files_of(store.path / "cube").get("c/2/1")
        expected[8:, 6:] = values((2, 3))
        shard.append(array.number((slice(8, 10), slice(6, 9))), array.encoded(expected[8:, 6:]))
        with pytest.raises(ValueError, match=r"chunk 0 of .* is there already"):
            shard.append(0, array.encoded(expected[8:, 6:]))
    with array.shard((0, 0)):
        pass
    assert [*files_of(store.path / "cube")] == ["c/2/1"]
    np.testing.assert_array_equal(READERS[1](store.path, "cube"), expected)
    with pytest.raises(ValueError, match=r"has no shard at \(3, 0\)"):
        array.shard((3, 0))
    loose = store.create_array("loose", shape=(3,), dtype="i4", dims=("t",), chunks=(3,))
    with pytest.raises(ValueError, match="'loose' is not sharded"):
        loose.shard((0,))


def test_a_shard_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BatchStore(tmp_path / "a.zarr")
    array = cut(store)
    array.write((0, 0), values((10, 9)))
    before = files_of(store.path / "cube")

    monkeypatch.setattr(appender_module, "pwrite_all", full_disk)
    with pytest.raises(OSError, match="No space left"):
        array.write((0, 0), 2 * values((10, 9)))
    assert files_of(store.path / "cube") == before


def test_text_of_any_length(tmp_path: Path) -> None:
    names = np.array(
        ["", "HD 12345", "Lacaille 9352 \N{EM DASH} \N{GREEK SMALL LETTER SIGMA}"], dtype=object
    )
    with BatchStore(tmp_path / "a.zarr") as store:
        array = store.create_array("metadata/name", shape=(3,), dtype="str", dims=("spec",))
        array.write((0,), names[:2])
        array.write((2,), list(names[2:]))
        with pytest.raises(ValueError, match="text expected, got 5"):
            array.write((0,), np.array([5], dtype=object))
        path = store.publish(deep=True)
    assert list(zarr_python(path, "metadata/name")) == list(names)


def test_text_is_not_cut_in_shards(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="text is not stored in shards"):
        cut(BatchStore(tmp_path / "a.zarr"), dtype="str")


@pytest.mark.parametrize(
    ("start", "block", "words"),
    [
        ((0,), np.zeros((2, 2), "f4"), "start .* has 1 dims and the block 2, the array has 2"),
        ((0, 0), np.zeros((2, 2)), "float32 expected, got float64; convert it explicitly"),
        ((0, 0), np.zeros((2, 2), ">f4"), "float32 expected, got >f4"),
        ((9, 0), np.zeros((2, 2), "f4"), r"\(2, 2\) from \(9, 0\) on is out of bounds"),
        ((-1, 0), np.zeros((2, 2), "f4"), "is out of bounds"),
    ],
)
def test_a_block_that_does_not_fit_is_refused(
    tmp_path: Path, start: tuple[int, ...], block: np.ndarray, words: str
) -> None:
    array = cut(BatchStore(tmp_path / "a.zarr"))
    with pytest.raises(ValueError, match=words):
        array.write(start, block)
    assert not files_of(tmp_path / "a.zarr.tmp/cube")


def test_many_threads_and_writers_fill_one_array(tmp_path: Path) -> None:
    expected = values((64, 9))
    store = BatchStore(tmp_path / "a.zarr")
    cut(store, shape=(64, 9))
    errors = []

    def fill(first: int) -> None:
        try:
            ArrayWriter(store.path, "cube").write((first, 0), expected[first : first + 16])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fill, args=(first,)) for first in range(0, 64, 16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    np.testing.assert_array_equal(READERS[1](store.path, "cube"), expected)


def test_calls_in_the_pool_keep_their_order_and_stop_at_an_error() -> None:
    made = []

    def calls() -> Any:
        for n in range(1000):
            made.append(n)
            yield lambda n=n: 10 // (5 - n)

    results = in_order(calls())
    assert [next(results) for _ in range(5)] == [2, 2, 3, 5, 10]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert len(made) < 100
