"""When an image was taken."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from bluesky_zarr.ingest.cubes._axes import card_value
from bluesky_zarr.ingest.cubes._errors import ImageError
from bluesky_zarr.ingest.cubes._names import mjd, time_in

if TYPE_CHECKING:
    from astropy.io.fits import Header


def time_of(header: Header, name: str) -> float:
    """When an image was taken [MJD, UTC]: of the file's name, or of DATE-OBS (and TIME-OBS).

    Raises
    ------
    ImageError
        Neither says it, or DATE-OBS cannot be read.

    Examples
    --------
    >>> from astropy.io.fits import Header
    >>> time_of(Header({"DATE-OBS": "2024-05-24", "TIME-OBS": "12:00:00"}), "sky.fits")
    60454.5
    """
    named = time_in(name)
    if named is not None:
        return named
    date = str(card_value(header, "DATE-OBS", "")).strip()
    if not date:
        raise ImageError(
            "nothing says when it was taken: neither YYYYMMDD_HHMMSS in its name nor DATE-OBS",
            "add DATE-OBS (UTC, 2024-05-24T12:00:00) to a copy, or move the file out of the input "
            "directory",
        )
    time = str(card_value(header, "TIME-OBS", "")).strip()
    text = f"{date}T{time}" if time and "T" not in date else date
    try:
        when = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise ImageError(
            f"DATE-OBS {date!r}{f' with TIME-OBS {time!r}' if time else ''} is no time as FITS "
            "writes it (2024-05-24T12:00:00)"
        ) from None
    if when.tzinfo is not None:
        when = when.astimezone(datetime.UTC).replace(tzinfo=None)
    scale = str(card_value(header, "TIMESYS", "")).strip().lower() or "utc"
    return mjd(when) if scale == "utc" else _in_utc(when, scale)


def _in_utc(when: datetime.datetime, scale: str) -> float:
    from astropy.time import Time

    try:
        return float(Time(when, scale=scale).utc.mjd)  # pyright: ignore[reportAttributeAccessIssue]
    except ValueError as error:
        raise ImageError(f"TIMESYS is {scale.upper()!r}, which astropy does not know") from error
