"""What a chunk of several frames says of each of them: a table before the head of its record.

A chunk has a slot for each position that it spans. Its bytes do not say which of them hold a frame
and which are still the fill value; the table does, so that whoever comes after a crash knows.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from bluesky_zarr.store._codecs import checksum

if TYPE_CHECKING:
    from typing_extensions import Buffer

_SLOT = np.dtype([("time", "<f8"), ("count", "<u4")])
_LENGTH = struct.Struct("<I")


@dataclass
class Slots:
    """How often each slot was written (0 = no frame) and when its frame was taken.

    `counts` and `times` (seconds since the epoch, NaN where there is no frame) are as long as the
    chunk has slots.

    Examples
    --------
    >>> slots = Slots.empty(3)
    >>> slots.counts[1], slots.times[1] = 2, 1.76e9
    >>> Slots.unpack(slots.pack(), 3).counts.tolist()
    [0, 2, 0]
    """

    counts: npt.NDArray[np.uint32]
    times: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, count: int) -> Slots:
        """A table of `count` slots without a frame."""
        return cls(np.zeros(count, np.uint32), np.full(count, np.nan))

    def pack(self) -> bytes:
        """The table as it is stored: a time and a count for each slot, their number, a crc32c."""
        rows = np.empty(len(self.counts), _SLOT)
        rows["time"], rows["count"] = self.times, self.counts
        table = rows.tobytes() + _LENGTH.pack(len(rows))
        return table + checksum(table)

    @classmethod
    def unpack(cls, table: Buffer, count: int) -> Slots | None:
        """The table of `count` slots that these bytes are; None if that is not what they are."""
        view = memoryview(table)
        if (
            not slots_bytes(count)
            or len(view) != slots_bytes(count)
            or checksum(view[:-4]) != bytes(view[-4:])
        ):
            return None
        rows = np.frombuffer(view[: count * _SLOT.itemsize], _SLOT)
        return cls(rows["count"].astype(np.uint32), rows["time"].astype(np.float64))


def slots_bytes(count: int) -> int:
    """Bytes of the table of a chunk of `count` positions; one of a single position has none."""
    return 0 if count == 1 else count * _SLOT.itemsize + _LENGTH.size + 4
