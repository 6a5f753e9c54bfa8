"""Whether the disk has room for the scan that is about to begin."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterable
from pathlib import Path

from bluesky_zarr._text import human_bytes
from bluesky_zarr.devices import WritableDevice

__all__ = ["check_room", "needed_bytes"]

logger = logging.getLogger("bluesky_zarr.session")

#: Frames of a photon counter get a hundredth with a photon in a hundred pixels; this is what codecs
#: make of next to nothing.
_BEST_RATIO = 1000


async def needed_bytes(devices: Iterable[WritableDevice], frames: int) -> int:
    """How many bytes so many frames of each device take, uncompressed."""
    total = 0
    for device in devices:
        total += frames * await device.frame_bytes()
    return total


def check_room(base: Path, needed: int, codec: str) -> None:
    """Refuse a scan that does not fit on the disk; warn of one that fits only if it compresses.

    Raises
    ------
    OSError
        ENOSPC, with what is needed and what is left.
    """
    # A name like {date}/{scan_id} has directories of its own, which are not made yet.
    there = next((path for path in (base, *base.parents) if path.exists()), base)
    try:
        disk = shutil.disk_usage(there)
    except OSError:
        return  # writing will say what is wrong with it
    left = disk.free
    # A file system in user space that does not count says that it has nothing at all.
    if needed <= left or not disk.total:
        return
    text = f"the frames of this scan take {human_bytes(needed)}"
    rest = f"{human_bytes(left)} are left on the disk"
    if codec == "none" or needed > left * _BEST_RATIO:
        raise OSError(
            errno.ENOSPC,
            f"{text}, and {rest}; nothing has moved yet. Free some, make the scan smaller, or give "
            "the storage another base_uri",
            str(base),
        )
    logger.warning(
        "%s uncompressed, and %s in %s: the scan fails when it is full. %r may make them small "
        "enough.",
        *(text[0].upper() + text[1:], rest, base, codec),
    )
