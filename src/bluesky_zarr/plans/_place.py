"""Say where the next frames belong, where counting points of the scan cannot tell."""

from __future__ import annotations

from bluesky.utils import Msg, MsgGenerator

__all__ = ["place"]


def place(stream: str, index: int) -> MsgGenerator[None]:
    """Say that the next event, or flown row, is number `index` of `stream`.

    Points of stream ``primary`` are placed without it. A second stream on one camera (dark fields,
    a region of interest) needs it before its trigger, because a plan names its stream only after
    the frame was taken. Without a session it does nothing.

    Parameters
    ----------
    stream
        Name of the event stream that will be created or collected next.
    index
        Number of the point in order of acquisition, from 0.

    Raises
    ------
    ValueError
        For an index below zero, or a stream without a name.

    Examples
    --------
    >>> def dark_field(camera, index):
    ...     yield from place("dark", index)
    ...     yield from bps.trigger_and_read([camera], name="dark")
    >>> [msg.command for msg in place("dark", 0)]
    ['null']
    """
    if not stream:
        raise ValueError("place() needs the name of a stream, for example place('dark', 0).")
    if index < 0:
        raise ValueError(f"place('{stream}', {index}): an index counts points from 0.")
    yield Msg("null", None, place=(stream, index))
