"""When an image was taken."""

from __future__ import annotations

import contextlib
import datetime
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest.cubes._axes import card_value
from bluesky_zarr.ingest.cubes._errors import ImageError
from bluesky_zarr.ingest.cubes._names import time_in

if TYPE_CHECKING:
    from astropy.io.fits import Header

# FITS standard 4.0, table 30.
_OLD_SCALES = {"gmt": "utc", "iat": "tai", "tdt": "tt", "et": "tt"}


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
        with contextlib.suppress(ValueError):  # digits that are no time
            return mjd(named)
    date = str(card_value(header, "DATE-OBS", "")).strip()
    if not date:
        raise ImageError(
            "nothing says when it was taken: neither YYYYMMDD_HHMMSS in its name nor DATE-OBS",
            "add DATE-OBS (UTC, 2024-05-24T12:00:00) to a copy, or move the file out of the input "
            "directory",
        )
    time = str(card_value(header, "TIME-OBS", "")).strip()
    text = f"{date}T{time}" if time and "T" not in date else date
    said = str(card_value(header, "TIMESYS", "")).strip()
    # UTC(NIST) is UTC, and old names are names.
    scale = said.lower().partition("(")[0].strip() or "utc"
    try:
        return mjd(text, _OLD_SCALES.get(scale, scale))
    except ScaleError:
        raise ImageError(f"TIMESYS is {said!r}, which is not converted to UTC") from None
    except ValueError:
        raise ImageError(
            f"DATE-OBS {date!r}{f' with TIME-OBS {time!r}' if time else ''} is no time as FITS "
            "writes it (2024-05-24T12:00:00)"
        ) from None


class ScaleError(ValueError):
    """A scale of time that is not converted to UTC."""


def mjd(text: str, scale: str = "utc") -> float:
    """The modified Julian date (UTC) of a date and time, in any scale that astropy converts.

    As astropy counts it: a day with a leap second has 86401 seconds, so that
    ``Time(mjd, format="mjd", scale="utc")`` is that time again.

    Raises
    ------
    ScaleError, ValueError
        The scale cannot be converted; the text is no time.

    Examples
    --------
    >>> mjd("2000-01-01T12:00:00"), mjd("2024-05-24T12:00:37", "tai")
    (51544.5, 60454.5)
    """
    from astropy.time import ScaleValueError, Time

    moment: Any = text
    try:
        moment = datetime.datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            moment = moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except ValueError:
        # A leap second, 23:59:60, which datetime does not know, or no time at all.
        Time(text, format="isot")
    try:
        utc: Any = Time(moment, scale=scale).utc
    except (ScaleValueError, ValueError, IndexError, OSError) as error:  # of UT1: no table of it
        raise ScaleError(scale) from error
    return float(utc.mjd)
