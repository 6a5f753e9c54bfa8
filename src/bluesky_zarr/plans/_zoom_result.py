"""What an adaptive scan gives back."""

from __future__ import annotations

from dataclasses import dataclass

from bluesky_zarr._text import table, with_error
from bluesky_zarr.peaks import Peak

__all__ = ["ZoomResult"]


@dataclass(frozen=True)
class ZoomResult:
    """The peaks that an adaptive scan found; prints as a table.

    Parameters
    ----------
    run_uid
        The run's uid.
    axes
        The names of the axes, as the numbers of a peak are ordered.
    peaks
        Most prominent first; inside of a nested scan those of each outer point after another.
    points
        How many exposures were taken.
    passes
        How many passes they were taken in.
    why
        A sentence where there is no peak, or where one is not resolved.
    parents
        Inside of a nested scan the number of the outer point that each peak was found at, else
        empty.

    Examples
    --------
    >>> peak = Peak(7.11, 0.05, 1000.0, 0.0004, 0.001, 12.0, resolved=True)
    >>> print(ZoomResult("b1946ac9", ("mono",), (peak,), 48, 3))
    mono                FWHM              height      resolved
    ------------------  ----------------  ----------  --------
    7.11000 +- 0.00040  0.0500 +- 0.0010  1000 +- 12  yes
    48 exposures in 3 passes
    """

    run_uid: str
    axes: tuple[str, ...]
    peaks: tuple[Peak, ...]
    points: int
    passes: int
    why: str = ""
    parents: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = []
        if self.peaks:
            head = [*self.axes, *(f"FWHM {a}" if len(self.axes) > 1 else "FWHM" for a in self.axes)]
            head += ["height", "resolved"]
            rows = [_row(peak) for peak in self.peaks]
            if self.parents:
                head.insert(0, "outer point")
                rows = [(str(n), *row) for n, row in zip(self.parents, rows, strict=True)]
            lines.append(table(head, rows))
        if self.why:
            lines.append(self.why)
        passes = f"{self.passes} pass" + ("es" if self.passes != 1 else "")
        lines.append(f"{self.points} exposures in {passes}")
        return "\n".join(lines)


def _row(peak: Peak) -> tuple[str, ...]:
    count = len(peak.centers)
    errors = [
        e if isinstance(e, tuple) else (e,) * count for e in (peak.center_error, peak.fwhm_error)
    ]
    numbers = [*zip(peak.centers, errors[0], strict=True), *zip(peak.fwhms, errors[1], strict=True)]
    return (
        *(with_error(value, error) for value, error in numbers),
        with_error(peak.height, peak.height_error),
        "yes" if peak.resolved else (f"no: {peak.note}" if peak.note else "no"),
    )
