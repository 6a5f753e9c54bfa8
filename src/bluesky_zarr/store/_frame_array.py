"""A frame array as it is on disk: which shard file and which entry hold which tile of which
position.

What `validate`, `recover` and `inspect` know of a frame array comes from its document and its files
alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bluesky_zarr.store._kinds import is_frame_array
from bluesky_zarr.store._metadata import Document, read_document, read_whole
from bluesky_zarr.store._progress import counts_key
from bluesky_zarr.store._shard import Record, ShardFile
from bluesky_zarr.store._slots import Slots, slots_bytes

Cell = tuple[int, ...]
Extent = tuple[int, int]


class FrameArray:
    """The layout of one frame array; ValueError where its document does not describe one.

    A position is a cell of the scan's dims, a tile a cell of the grid of inner chunks over the
    frame's dims, a place a cell of the grid of shards. Where a chunk spans a `group` of positions
    along the fastest scan dim, it is named by the first of them.
    """

    def __init__(self, store: Path, key: str, document: Document) -> None:
        self.key = key
        self.node = store / key
        self.document = document
        try:
            ours = document["attributes"]["bluesky_zarr"]
            self.array_id = bytes.fromhex(ours["array_id"])
            self.scan_ndim = int(ours["scan_ndim"])
            self.shape: Cell = tuple(document["shape"])
            self.dims: tuple[str, ...] = tuple(document["dimension_names"])
            self.shard: Cell = tuple(document["chunk_grid"]["configuration"]["chunk_shape"])
            (sharding,) = document["codecs"]
            self.inner: Cell = tuple(sharding["configuration"]["chunk_shape"])
            location = sharding["configuration"].get("index_location", "end")
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the document of {key!r} does not describe an array of frames ({error!r})"
            ) from None
        if not len(self.shape) == len(self.shard) == len(self.inner) == len(self.dims):
            raise ValueError(f"shape, shards and inner chunks of {key!r} are not of one length")
        if any(n < 1 or whole % n for whole, n in zip(self.shard, self.inner, strict=True)):
            raise ValueError(f"the shards of {key!r} are not whole numbers of inner chunks")
        self.published: bool = location == "end"
        self.growing = self.dims[:1] == ("event",)
        n = self.scan_ndim
        self.scan_shape: Cell = self.shape[:n]
        self.group = self.inner[n - 1]
        self.lead = slots_bytes(self.group)
        # A shard may reach beyond the frame's edge, so a frame may have fewer tiles than places.
        self.tiles = _grid(self.shape[n:], self.inner[n:])
        self.grid: Cell = _grid(self.shard, self.inner)
        self.entries = math.prod(self.grid)
        self._shards = _grid(self.shape, self.shard)

    def files(self) -> Iterator[tuple[Cell, Path]]:
        """Every shard file there is, with its place, in C order."""

        def below(directory: Path, place: Cell) -> Iterator[tuple[Cell, Path]]:
            try:
                names = [entry.name for entry in directory.iterdir()]
            except (FileNotFoundError, NotADirectoryError):
                return
            for number in sorted(int(n) for n in names if n.isascii() and n.isdecimal()):
                path, here = directory / str(number), (*place, number)
                if len(here) < len(self.shape):
                    yield from below(path, here)
                elif path.is_file():
                    yield here, path

        yield from below(self.node / "c", ())

    def groups(self) -> Iterator[list[tuple[Cell, Path]]]:
        """The shard files by stretch of the scan: all tiles of a position are in one group."""
        n = self.scan_ndim
        for _, members in itertools.groupby(self.files(), key=lambda member: member[0][:n]):
            yield list(members)

    def shard_number(self, place: Cell) -> int:
        """The number of a shard, in C order of the grid of shards."""
        number = 0
        for index, length in zip(place, self._shards, strict=True):
            number = number * length + index
        return number

    def locate(self, place: Cell, index: int) -> tuple[Cell, Cell]:
        """Position and tile of one entry of one shard."""
        inside = np.unravel_index(index, self.grid)
        chunk = [p * g + int(i) for p, g, i in zip(place, self.grid, inside, strict=True)]
        n = self.scan_ndim
        position = tuple(c * size for c, size in zip(chunk[:n], self.inner[:n], strict=True))
        return position, tuple(chunk[n:])

    def entry(self, position: Cell, tile: Cell) -> tuple[Cell, int]:
        """Place and number of the entry of a tile: the inverse of `locate`."""
        sizes = self.inner[: self.scan_ndim]
        chunk = (*(p // size for p, size in zip(position, sizes, strict=True)), *tile)
        place = tuple(c // g for c, g in zip(chunk, self.grid, strict=True))
        index = 0
        for c, g in zip(chunk, self.grid, strict=True):
            index = index * g + c % g
        return place, index

    def holds(self, position: Cell, tile: Cell) -> bool:
        """Whether the array has such a position and tile; a growing one has every position."""
        if any(t >= count for t, count in zip(tile, self.tiles, strict=True)):
            return False
        return self.growing or all(p < s for p, s in zip(position, self.scan_shape, strict=True))

    def slots_of(self, position: Cell) -> list[Cell]:
        """The positions of the chunk that begins at this one, as many as the array has."""
        *slow, fast = position
        end = fast + self.group
        if not self.growing:
            end = min(end, self.scan_shape[-1])
        return [(*slow, place) for place in range(fast, end)]

    def words(self, position: Cell, tile: Cell = (), *, alone: bool = False) -> str:
        """A position, and the tile where a frame has several, in words; of a chunk of several
        frames all its positions, unless this one is meant `alone`.
        """
        text = f"index {position if len(position) != 1 else next(iter(position))}"
        if self.group > 1 and not alone:
            text += f" and the {self.group - 1} after it"
        return f"{text}, tile {tile}" if tile and math.prod(self.tiles) > 1 else text


@dataclass
class Version:
    """One writing of a frame: of each tile, the place and the record.

    `number` is that of the write; 0 where the head that said it is damaged.
    """

    number: int
    records: dict[Cell, tuple[Cell, Record]] = field(default_factory=dict)

    @property
    def extents(self) -> dict[Cell, Extent]:
        """Of each tile, offset and length of its encoded chunk."""
        return {tile: (r.offset, r.nbytes) for tile, (_, r) in self.records.items()}

    @property
    def time(self) -> float:
        """When the frame was taken, in seconds since 1970; NaN where the head is damaged."""
        return next(iter(self.records.values()))[1].time

    @property
    def offset(self) -> int:
        """Where its first tile is in its file."""
        return min(self.records.items())[1][1].offset


class ShardGroup:
    """The open shard files of one stretch of a scan.

    `broken` are those that cannot be opened, as they are shorter than their index, with the reason.
    """

    def __init__(
        self, array: FrameArray, members: list[tuple[Cell, Path]], *, writable: bool = False
    ) -> None:
        self.array = array
        self.files: dict[Cell, ShardFile] = {}
        self.broken: list[tuple[Path, str]] = []
        self._tiles = math.prod(array.tiles)
        for place, path in members:
            try:
                self.files[place] = ShardFile(
                    path, array.entries, writable=writable, lead=array.lead
                )
            except ValueError as error:
                self.broken.append((path, str(error)))

    def __enter__(self) -> ShardGroup:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self.files.values():
            file.close()

    def indexed(self) -> dict[Cell, dict[Cell, Extent]]:
        """What the front indexes say: of every position the array has, the tiles not missing."""
        found: dict[Cell, dict[Cell, Extent]] = {}
        for place, file in self.files.items():
            for index, extent in file.present():
                position, tile = self.array.locate(place, index)
                if self.array.holds(position, tile):
                    found.setdefault(position, {})[tile] = extent
        return found

    def readable(self) -> dict[Cell, int]:
        """Every position that a reader finds a frame at, and how often it was written by the
        table of its chunk; 1, where it has none of several frames.
        """
        found: dict[Cell, int] = {}
        for position, tiles in self.indexed().items():
            if self.is_complete(tiles):
                for cell, (count, _) in self.filled(position, tiles).items():
                    found[cell] = count
        return found

    def filled(self, position: Cell, extents: dict[Cell, Extent]) -> dict[Cell, tuple[int, float]]:
        """The positions with a frame of one writing of a chunk: how often each was written, and
        when its frame was taken.

        Without a table (a chunk of one position) that is (1, NaN); with a damaged one it is that
        for every position, as the frames may be all that is whole.
        """
        cells = self.array.slots_of(position)
        slots = self.slots(position, extents)
        if slots is None:
            return dict.fromkeys(cells, (1, math.nan))
        return {
            cell: (int(count), float(time))
            for cell, count, time in zip(cells, slots.counts, slots.times, strict=False)
            if count
        }

    def slots(self, position: Cell, extents: dict[Cell, Extent]) -> Slots | None:
        """The table of one writing of a chunk; None if it has none, or a damaged one."""
        tile, extent = min(extents.items())
        place, _ = self.array.entry(position, tile)
        return Slots.unpack(self.files[place].read_lead(extent), self.array.group)

    def is_complete(self, tiles: dict[Cell, Extent]) -> bool:
        """Whether these are all tiles of a frame."""
        return len(tiles) == self._tiles

    def versions(self) -> dict[Cell, list[Version]]:
        """Of every position, the frames that were written whole and not taken back, oldest first.

        Whole means that every tile's record has a good head and lies inside its file; chunks are
        not looked at. Where an entry points at a place that no good head describes, what is there
        counts as one more version: its head may be all that is damaged.
        """
        found: dict[Cell, dict[int, Version]] = {}
        described: set[tuple[Cell, int]] = set()
        for place, file in self.files.items():
            number = self.array.shard_number(place)
            for record in file.records(self.array.array_id):
                described.add((place, record.offset))
                if record.retracted or record.index >= self.array.entries:
                    continue
                position, tile = self.array.locate(place, record.index)
                if record.shard == number and self.array.holds(position, tile):
                    of_position = found.setdefault(position, {})
                    version = of_position.setdefault(record.number, Version(record.number))
                    version.records[tile] = (place, record)
        whole = {
            position: [v for _, v in sorted(of.items()) if len(v.records) == self._tiles]
            for position, of in found.items()
        }
        for position, extents in self.indexed().items():
            headless = self._headless(position, extents, described)
            if headless is not None:
                # The file is a log: what lies further on was written later.
                whole.setdefault(position, []).append(headless)
                whole[position].sort(key=lambda version: version.offset)
        return whole

    def _headless(
        self, position: Cell, extents: dict[Cell, Extent], described: set[tuple[Cell, int]]
    ) -> Version | None:
        if not self.is_complete(extents):
            return None
        version = Version(0)
        damaged = 0
        for tile, (offset, nbytes) in extents.items():
            place, index = self.array.entry(position, tile)
            number = self.array.shard_number(place)
            head = self.files[place].read_record((offset, nbytes))
            if head is not None and (head.retracted or (head.index, head.shard) != (index, number)):
                return None
            damaged += (place, offset) not in described
            record = Record(self.array.array_id, number, index, 0, math.nan, offset, nbytes)
            version.records[tile] = (place, record)
        return version if damaged else None

    def is_whole(self, version: Version) -> bool:
        """Whether the chunks of a version are what was written, by their crc32c."""
        return all(
            self.files[place].chunk_is_whole((record.offset, record.nbytes))
            for place, record in version.records.values()
        )


def _grid(whole: Cell, part: Cell) -> Cell:
    return tuple(-(-w // p) for w, p in zip(whole, part, strict=True))


def readable_positions(store: Path, key: str) -> set[Cell]:
    """Every position of a frame array that a reader finds a frame at; none where there is no such
    array.
    """
    try:
        document = read_document(store / key)
        if not is_frame_array(document):
            # Re-laid shards have no records; what counts the frames came along.
            counts = read_whole(store / counts_key(key))
            return {tuple(map(int, cell)) for cell in np.argwhere(counts)}
        array = FrameArray(store, key, document)
    except (OSError, ValueError):
        return set()
    found: set[Cell] = set()
    for members in array.groups():
        with ShardGroup(array, members) as group:
            found.update(group.readable())
    return found
