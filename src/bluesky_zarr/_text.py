"""Numbers and tables as text, for people to read."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["counted", "human_bytes", "table", "with_error"]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns of text, each as wide as its widest entry.

    Examples
    --------
    >>> print(table(("array", "frames"), [("primary/cam", "600")]))
    array        frames
    -----------  ------
    primary/cam  600
    """
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    ruled = [tuple(head), tuple("-" * width for width in widths), *rows]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
        for row in ruled
    )


def counted(number: int, noun: str) -> str:
    """
    >>> counted(1, "shard file"), counted(240, "frame")
    ('1 shard file', '240 frames')
    """
    return f"{number} {noun}{'' if number == 1 else 's'}"


def human_bytes(count: int) -> str:
    """A number of bytes in the unit that suits it.

    Examples
    --------
    >>> human_bytes(532_676_608)
    '532.7 MB'
    """
    if count < 1000:
        return f"{count} B"
    size, units = count / 1000, ["kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.1f} {units[0]}"


def with_error(value: float, error: float) -> str:
    """A number with as many digits as its error has meaning for.

    >>> with_error(7.11234, 0.0021), with_error(4618704, 231000.0), with_error(2.5, math.nan)
    ('7.1123 +- 0.0021', '4620000 +- 230000', '2.5')
    """
    if not (math.isfinite(value) and math.isfinite(error) and error > 0):
        return f"{value:.6g}"
    digits = 1 - math.floor(math.log10(error))
    if not -9 < digits < 13:
        return f"{value:.12g} +- {error:.2g}"
    shown = max(0, digits)
    return f"{round(value, digits):.{shown}f} +- {round(error, digits):.{shown}f}"
