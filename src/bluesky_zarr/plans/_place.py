"""Say where the next frames belong, where counting points of the scan cannot tell."""

from __future__ import annotations

from collections.abc import Sequence

from bluesky.utils import Msg, MsgGenerator

from bluesky_zarr.geometry import ScanGeometry

__all__ = ["declare_geometry", "place"]


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
        raise ValueError(
            f"place('{stream}', {index}): an index counts points from 0, give 0 or more."
        )
    yield Msg("null", None, place=(stream, index))


def declare_geometry(
    stream: str, geometry: ScanGeometry, *, merged: str = "", axes: Sequence[str] = ()
) -> MsgGenerator[None]:
    """Say what shape a stream will have, before its first point.

    Its arrays are made with this shape, and each point is held against the positions that it
    should have. Streams that are not declared are stored in order of events. Without a session it
    does nothing.

    Parameters
    ----------
    stream
        Name of the event stream.
    geometry
        Its dims, shape and coordinates; ``ScanGeometry.events()`` for events in order, each with
        the setpoints of the run's motors.
    merged
        Name of a group in which the store shall hold the readings (not the frames) of this stream
        together with those of all others that name the same group, sorted by `axes`.
    axes
        The motors by which these are sorted, slowest first.

    Raises
    ------
    ValueError
        For a stream without a name, or a merged group without axes.

    Examples
    --------
    >>> from scanspec.specs import Linspace
    >>> line = ScanGeometry.from_spec(Linspace("x", 0, 1, 5))
    >>> [msg.command for msg in declare_geometry("zoom_1", line, merged="merged", axes=["x"])]
    ['null']
    """
    if not stream:
        raise ValueError("declare_geometry() needs the name of a stream, for example 'zoom_1'.")
    if merged and not axes:
        raise ValueError(f"The merged group '{merged}' needs the names of the axes to sort it by.")
    part = {"merged": (merged, tuple(axes))} if merged else {}
    yield Msg("null", None, geometry=(stream, geometry), **part)
