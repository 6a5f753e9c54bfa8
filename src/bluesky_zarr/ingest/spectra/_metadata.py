"""What is known of a spectrum beside its pixels, from the cards of its file."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bluesky_zarr.ingest._headers import card_text
from bluesky_zarr.ingest.spectra._config import SpectraConfig
from bluesky_zarr.ingest.spectra._schema import SENTINELS

# The first keyword with a value counts, and of one keyword the first HDU.
_TEXTS = {
    "object_name": ("OBJECT", "ESO OBS TARG NAME", "TARGNAME", "OBJNAME", "PLUGID"),
    "instrument": ("INSTRUME", "ESO INS ID", "INSTRUMENT", "SPECTROG"),
    "date_obs": ("DATE-OBS", "DATE_OBS", "DATE-BEG"),
    "gaia_id": ("GAIA_ID", "GAIAID", "GAIA_DR3", "GAIA_DR2", "SOURCE_ID"),
    "gaia_dr": ("GAIA_DR", "GAIADR"),
    "simulator": ("SIMULATR", "SIMULATOR", "SIMCODE"),
}
_NUMBERS = {
    "snr": ("SNR", "SN_MEDIAN", "SN_MED"),
    "exptime": ("EXPTIME", "EXPOSURE", "TEXPTIME"),
    "mjdate": ("MJD-OBS", "MJD_OBS", "MJDATE", "MJD"),
}
_RIGHT_ASCENSIONS = ("PLUG_RA", "RA_TARG", "RA_DEG", "RADEG", "RA", "ESO TEL TARG RA")
_DECLINATIONS = ("PLUG_DEC", "DEC_TARG", "DEC_DEG", "DECDEG", "DEC", "ESO TEL TARG DEC")

_PARAMS = {
    "teff": ("TEFF", "T_EFF", "PHXTEFF"),
    "logg": ("LOGG", "LOG_G", "PHXLOGG"),
    "feh": ("FEH", "FE_H", "[FE/H]", "PHXM_H", "M_H", "METAL"),
    "alpha_fe": ("ALPHAFE", "ALPHA_FE", "[A/FE]", "PHXALPHA"),
    "vmicro": ("VMICRO", "VMIC", "VTURB", "PHXXI_L"),
    "vsini": ("VSINI",),
    "rv": ("RADVEL", "VRAD", "RV"),
}
PARAM_UNITS = {"teff": "K", "logg": "dex", "feh": "dex", "alpha_fe": "dex"}
PARAM_UNITS |= dict.fromkeys(("vmicro", "vsini", "rv"), "km/s")
"""The unit of each parameter that files give; a header's values are taken to be in it."""

_GAIA = re.compile(r"gaia\s*(e?dr\d)\s+(\d+)", re.IGNORECASE)


class Cards:
    """The cards of all HDUs of a file, looked up by keyword."""

    def __init__(self, headers: Sequence[Any]) -> None:
        # Asking astropy for a keyword that is not there takes longer than all else.
        self._cards: dict[str, Any] = {}
        for header in headers:
            for card in header.cards:
                self._cards.setdefault(card.keyword, card)

    def first(self, keywords: Sequence[str]) -> Any:
        """The first value that is there, None for none."""
        for keyword in keywords:
            if keyword in self._cards:
                text = card_text(self._cards[keyword])
                if text:
                    return self._cards[keyword].value
        return None

    def text(self, keywords: Sequence[str]) -> str:
        """A value as text, "" for none."""
        value = self.first(keywords)
        return "" if value is None else str(value).strip()

    def number(self, keywords: Sequence[str]) -> float:
        """A value as a number; NaN for none, and for what stands for none."""
        return number(self.first(keywords))


def number(value: Any) -> float:
    """A number, or NaN where it is none or one of the numbers that stand for none.

    Examples
    --------
    >>> number("5777"), number(-9999), number("unknown")
    (5777.0, nan, nan)
    """
    if isinstance(value, bool):
        return math.nan
    try:
        found = float(value)
    except (TypeError, ValueError):
        return math.nan
    return math.nan if found in SENTINELS or math.isinf(found) else found


def metadata(path: Path, cards: Cards, config: SpectraConfig, flux_type: str) -> dict[str, Any]:
    """The `metadata` of one spectrum but for its `spec_id`: texts, and numbers in the units of the
    schema.
    """
    found: dict[str, Any] = {name: cards.text(keywords) for name, keywords in _TEXTS.items()}
    found |= {name: cards.number(keywords) for name, keywords in _NUMBERS.items()}
    found["ra_deg"] = degrees(cards.first(_RIGHT_ASCENSIONS), hours=True)
    found["dec_deg"] = degrees(cards.first(_DECLINATIONS), hours=False)
    in_name = _GAIA.search(found["object_name"])
    if in_name is not None and not found["gaia_id"]:
        found |= {"gaia_dr": in_name[1].upper(), "gaia_id": in_name[2]}
    if math.isnan(found["mjdate"]):
        found["mjdate"] = mjd(found["date_obs"])
    return found | {
        "file_name": path.name,
        "source_type": config.source_type,
        "flux_type": config.flux_type or flux_type,
        "simulator": found["simulator"] or config.simulator,
    }


def params(cards: Cards) -> dict[str, float]:
    """The physical parameters that a file gives."""
    found = {name: cards.number(keywords) for name, keywords in _PARAMS.items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def degrees(value: Any, *, hours: bool) -> float:
    """An angle in degrees: of a number, that number; of text such as ``12:30:00``, in hours or
    degrees as it is usual.

    Examples
    --------
    >>> (
    ...     degrees("12:30:00", hours=True),
    ...     degrees("-00 30 00", hours=False),
    ...     degrees(83.6, hours=True),
    ... )
    (187.5, -0.5, 83.6)
    """
    if not isinstance(value, str) or re.fullmatch(r"[-+.\deE ]+", value.strip()):
        plain = number(value)
        if not math.isnan(plain) or not isinstance(value, str):
            return plain
    parts = re.fullmatch(r"([+-]?)(\d+)[:hd ]\s*(\d+)[:m' ]\s*([\d.]+)[s\"]?", value.strip())
    if parts is None:
        return math.nan
    whole = int(parts[2]) + int(parts[3]) / 60 + float(parts[4]) / 3600
    return (-whole if parts[1] == "-" else whole) * (15 if hours else 1)


def mjd(date: str) -> float:
    """The modified Julian date of an ISO date and time (UTC); NaN of any other text.

    Examples
    --------
    >>> mjd("2016-09-20T12:00:00"), mjd("20/09/96")
    (57651.5, nan)
    """
    if not re.match(r"\d{4}-\d\d-\d\dT", date):
        return math.nan
    from astropy.time import Time

    try:
        time: Any = Time(date, format="isot", scale="utc")
        return float(time.mjd)
    except ValueError:
        return math.nan
