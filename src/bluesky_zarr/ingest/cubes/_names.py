"""What the name of an image says: when it was taken, at which frequency, in which polarization."""

from __future__ import annotations

import re
from pathlib import Path

from bluesky_zarr.ingest._files import stem

FIXED = "_fixed"
"""What a corrected copy has at the end of its name, before the suffix."""

_WHEN = r"(\d{4})(\d\d)(\d\d)_(\d\d)(\d\d)(\d\d)"
_FIRST = re.compile(rf"^{_WHEN}_\d+(?:\.\d+)?MHz")
_LAST = re.compile(rf"-image-{_WHEN}(?!\d)")
_MHZ = re.compile(r"(?<![\d.])(\d+(?:\.\d+)?)MHz")
_STOKES = re.compile(r"-([IQUV])-image")


def time_in(name: str) -> str | None:
    """The time in a file's name (UTC), as FITS writes it; None where there is none.

    Two ways to write it are known: ``YYYYMMDD_HHMMSS_<n>MHz...`` and
    ``...-image-YYYYMMDD_HHMMSS...``.

    >>> time_in("20240524_120000_41MHz_averaged_2_iterations-I-image_fixed.fits")
    '2024-05-24T12:00:00'
    >>> time_in("deep-image-20240524_180000.fits")
    '2024-05-24T18:00:00'
    """
    match = _FIRST.match(name) or _LAST.search(name)
    return None if match is None else "{}-{}-{}T{}:{}:{}".format(*match.groups())


def frequency_in(name: str) -> float | None:
    """The frequency in a file's name [Hz]; None where there is none.

    >>> frequency_in("20240524_120000_41.5MHz_averaged-I-image.fits")
    41500000.0
    """
    match = _MHZ.search(name)
    return float(match[1]) * 1e6 if match else None


def stokes_in(name: str) -> str:
    """The polarization in a file's name; "I" where there is none.

    >>> stokes_in("20240524_120000_41MHz_averaged-V-image.fits"), stokes_in("sky.fits")
    ('V', 'I')
    """
    match = _STOKES.search(name)
    return match[1] if match else "I"


def fixed_name(name: str) -> str:
    """The name of the corrected copy of a file: always an uncompressed ``.fits``.

    >>> fixed_name("a-I-image.fits.gz"), fixed_name("a_fixed.fits")
    ('a-I-image_fixed.fits', 'a_fixed.fits')
    """
    return f"{stem(Path(name)).removesuffix(FIXED)}{FIXED}.fits"
