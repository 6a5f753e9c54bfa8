"""A flipped bit, wherever it is in a published store, is found, and is never read as right."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr

from bluesky_zarr.store import SourceInfo, ZarrWriter, validate
from bluesky_zarr.store._frame_array import FrameArray, ShardGroup
from bluesky_zarr.store._metadata import read_document
from bluesky_zarr.store._shard import ENTRY, HEAD_BYTES
from tests.faults.pictures import picture
from tests.faults.victims import Scan
from tests.store.crashed import flip_bit, shard_of
from tests.store.reading import READERS

KEY = "primary/cam0"
FIXED = Scan("fixed", (4, 5), (12, 10))
VARIABLE = Scan("variable", (4, 5), (12, 10), "blosc-zstd-1")
GROUPED = Scan("grouped", (2, 60), (8, 8), "zstd-1", flown=True)
REGIONS = ("data", "record head", "front index", "end index")


def made(path: Path, scan: Scan, *, publish: bool = True) -> Path:
    writer = ZarrWriter(path, codec=scan.codec)
    info = SourceInfo("cam0", "uint16", scan.frame, geometry=scan.geometry, flown=scan.flown)
    sink = writer.prepare(info, key=KEY)
    for write, flat in enumerate(scan.order(), 1):
        sink.write(picture(0, flat, write, scan.frame), flat)
    sink.drain()
    if publish:
        writer.publish()
    return path


def places(store: Path, region: str) -> np.ndarray:
    """The bytes of the shard file that are in a region; of data and heads those in use."""
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members) as group:
        (file,) = group.files.values()
        extents = [extent for _, extent in file.present()]
        header, size = file.header_bytes, file.size
    if region == "front index":
        return np.arange(header)
    if region == "end index":
        return np.arange(size - header - 4, size)
    if region == "record head":
        return np.concatenate([np.arange(at - HEAD_BYTES, at) for at, _ in extents])
    return np.concatenate([np.arange(at, at + length) for at, length in extents])


def read_right_or_not_at_all(store: Path, whole: np.ndarray, read: Callable[..., object]) -> None:
    try:
        data = read(store, KEY)
    except Exception:  # that a reader refuses is what is wanted, however it says so
        return
    np.testing.assert_array_equal(data, whole)


def each_flip(tmp_path: Path, scan: Scan, region: str, times: int) -> None:
    store = made(tmp_path / "scan.zarr", scan)
    whole = READERS[0](store, KEY)
    path = shard_of(store, KEY)
    random = np.random.default_rng([ord(c) for c in scan.name + region])
    for place in random.choice(places(store, region), times):
        bit = int(random.integers(8))
        flip_bit(path, int(place), bit)
        assert not validate(store, deep=True), f"{region}: byte {place}, bit {bit}"
        for read in READERS:
            read_right_or_not_at_all(store, whole, read)
        flip_bit(path, int(place), bit)
    assert validate(store, deep=True)


@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("scan", [FIXED, VARIABLE, GROUPED], ids=lambda scan: scan.name)
def test_a_flip_is_found_and_never_read_as_right(tmp_path: Path, scan: Scan, region: str) -> None:
    each_flip(tmp_path, scan, region, times=8)


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore:overflow")
@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("scan", [FIXED, VARIABLE, GROUPED], ids=lambda scan: scan.name)
def test_200_flips_are_found_and_never_read_as_right(
    tmp_path: Path, scan: Scan, region: str
) -> None:
    each_flip(tmp_path, scan, region, times=200)


def flips_of_metadata(tmp_path: Path, times: int) -> int:
    """How many flips of documents change what is read and are not found."""
    store = made(tmp_path / "scan.zarr", FIXED)
    whole = READERS[0](store, KEY)
    documents = [*sorted(store.rglob("zarr.json"))]
    random = np.random.default_rng(11)
    silent = 0
    for _ in range(times):
        path = documents[random.integers(len(documents))]
        place, bit = int(random.integers(path.stat().st_size)), int(random.integers(8))
        before = path.read_bytes()
        flip_bit(path, place, bit)
        if validate(store, deep=True):
            # White space, or a word of ours that nobody reads: the data has to be right.
            for read in READERS:
                np.testing.assert_array_equal(read(store, KEY), whole)
            silent += 1
        path.write_bytes(before)
    return silent


def test_a_flip_in_metadata_is_found_or_changes_nothing_that_is_read(tmp_path: Path) -> None:
    assert flips_of_metadata(tmp_path, 40) < 30


@pytest.mark.faults
def test_200_flips_in_metadata_are_found_or_change_nothing(tmp_path: Path) -> None:
    assert flips_of_metadata(tmp_path, 200) < 150


def test_an_entry_that_points_at_a_neighbour_is_read_as_that_while_the_run_goes_on_only(
    tmp_path: Path,
) -> None:
    """The one exception, in the documentation: the live index has no checksum of its own."""
    live = made(tmp_path / "live.zarr", FIXED, publish=False)
    published = made(tmp_path / "published.zarr", FIXED)
    for store, silent in ((live, True), (published, False)):
        array = FrameArray(store, KEY, read_document(store / KEY))
        ((members),) = array.groups()
        with ShardGroup(array, members) as group:
            (neighbour,) = group.indexed()[(1, 2)].values()
        place = array.entry((1, 1), (0, 0))[1] * ENTRY.size
        shard = shard_of(store, KEY)
        data = bytearray(shard.read_bytes())
        data[place : place + 16] = ENTRY.pack(*neighbour)
        shard.write_bytes(data)
        read = READERS[0](store, KEY)
        assert np.array_equal(read[1, 1], read[1, 2]) == silent
        assert not validate(store, deep=True)


def test_zarrs_does_not_look_at_the_checksum_of_a_part_of_a_shard(tmp_path: Path) -> None:
    pytest.importorskip("zarrs", reason="zarrs is in the extra 'bench'")
    store = made(tmp_path / "scan.zarr", FIXED)
    frame = READERS[0](store, KEY)[1, 1]
    array = FrameArray(store, KEY, read_document(store / KEY))
    ((members),) = array.groups()
    with ShardGroup(array, members) as group:
        ((offset, _),) = group.indexed()[(1, 1)].values()
    flip_bit(shard_of(store, KEY), offset + 40, 3)
    assert not validate(store, deep=True)
    pipeline = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}
    with zarr.config.set(pipeline):
        wrong = zarr.open_array(str(store), path=KEY, mode="r", zarr_format=3)[1, 1]
    assert np.count_nonzero(wrong != frame) == 1, "zarrs has learned it: say so in the docs"
    with pytest.raises(ValueError, match="checksum"):
        zarr.open_array(str(store), path=KEY, mode="r", zarr_format=3)[1, 1]
    shutil.rmtree(store)
