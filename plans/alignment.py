"""Plans that bring the beamline where the signal is: copy this file, and put your own motors in."""

from collections.abc import Mapping, Sequence
from typing import Any

from bluesky.protocols import Movable, Readable
from bluesky.utils import MsgGenerator

from bluesky_zarr.plans import zoom_scan


def go_to_peak(
    detectors: Sequence[Readable],
    signal: str,
    motor: Movable,
    start: float,
    stop: float,
    narrowest: float,
    approve: str = "none",
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Any]:
    """Find the peaks of a signal between two positions, and go to the most prominent one.

    `narrowest` is the FWHM of the narrowest peak that must be found, in the motor's units;
    with ``approve="prompt 10"`` somebody is asked before the motor goes there.
    """
    return (
        yield from zoom_scan(
            detectors,
            signal,
            motor,
            start,
            stop,
            narrowest=narrowest,
            action=["refine", "move"],
            approve=approve,
            md={"plan_name": "go_to_peak", **(md or {})},
        )
    )


def find_lines(
    detectors: Sequence[Readable],
    signal: str,
    mono: Movable,
    energies: tuple[float, float] = (7.0, 7.4),
    narrowest: float = 0.02,
    md: Mapping[str, Any] | None = None,
) -> MsgGenerator[Any]:
    """Resolve the lines of a spectrum [keV], and come back to where the monochromator was."""
    return (
        yield from zoom_scan(
            detectors,
            signal,
            mono,
            *energies,
            narrowest=narrowest,
            action=["refine", "return"],
            md={"plan_name": "find_lines", **(md or {})},
        )
    )
