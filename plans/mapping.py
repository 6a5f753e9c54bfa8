"""The plans of the simulated beamline: copy this file, and put your own motors in.

Loaded by an IPython profile, a queue server and the demo alike. Plans take their devices as
arguments, typed, so that a queue server can offer them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import bluesky.plan_stubs as bps
from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator
from scanspec.specs import Linspace

from bluesky_zarr.plans import nested_scan, place, zoom_scan


def map_energies(
    detectors: Sequence[Readable],
    mono: Movable,
    y: Movable,
    x: Movable,
    energies: tuple[float, float, int] = (7.0, 7.4, 5),
    rows: tuple[float, float, int] = (-1.0, 1.0, 8),
    columns: tuple[float, float, int] = (-1.0, 1.0, 10),
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[str]:
    """A map of the sample at each energy [keV]; rows and columns [mm], each row snaked.

    Each axis is given as first position, last position, number of points.
    """
    spec = Linspace(mono, *energies) * Linspace(y, *rows) * ~Linspace(x, *columns)
    return (yield from nested_scan(detectors, spec, md={"plan_name": "map_energies", **(md or {})}))


def map_spots(
    detectors: Sequence[Readable],
    signal: str,
    y: Movable,
    x: Movable,
    rows: tuple[float, float] = (-1.0, 1.0),
    columns: tuple[float, float] = (-1.0, 1.0),
    narrowest: float = 0.25,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Any]:
    """A coarse map of the sample [mm], and then more points where it is bright.

    `narrowest` is the FWHM of the smallest spot that must be found.
    """
    return (
        yield from zoom_scan(
            detectors,
            signal,
            [y, x],
            [rows[0], columns[0]],
            [rows[1], columns[1]],
            narrowest=narrowest,
            md={"plan_name": "map_spots", **(md or {})},
        )
    )


def dark_frames(camera: Any, number: int = 3) -> MsgGenerator[None]:
    """Frames without beam, into a stream of their own; for use inside of an open run."""
    for index in range(number):
        yield from bps.checkpoint()
        yield from place("dark", index)
        yield from bps.trigger_and_read([camera], name="dark")
