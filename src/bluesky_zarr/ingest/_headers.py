"""Headers as columns: which cards of a file's headers are kept, and what they are called.

A card of HDU 0 with the keyword ``ESO TEL AIRM START`` becomes ``h0_eso_tel_airm_start``: lower
case, whatever is no letter or digit becomes ``_``, runs of ``_`` become one, and a card that an HDU
has several times gets ``_2``, ``_3``, ... Values are text.

What describes the file and not the observation stays out, and so do families of keywords that come
in bulk: coefficients of calibrations, telemetry of the instrument's insides. `STRUCTURE` and `BULK`
are the lists, as shell patterns; an ingest takes more of them.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence
from typing import Any

STRUCTURE = (
    *("SIMPLE", "XTENSION", "BITPIX", "NAXIS*", "EXTEND", "PCOUNT", "GCOUNT", "GROUPS", "END"),
    *(
        "BSCALE",
        "BZERO",
        "BLANK",
        "DATAMIN",
        "DATAMAX",
        "CHECKSUM",
        "DATASUM",
        "ZHECKSUM",
        "ZDATASUM",
    ),
    *("TFIELDS", "THEAP", "LONGSTRN", "CONTINUE", "COMMENT", "HISTORY", "INHERIT"),
    *("TTYPE[0-9]*", "TFORM[0-9]*", "TUNIT[0-9]*", "TDIM[0-9]*", "TDISP[0-9]*", "TNULL[0-9]*"),
    *(
        "TSCAL[0-9]*",
        "TZERO[0-9]*",
        "TUTYP[0-9]*",
        "TUCD[0-9]*",
        "TCOMM[0-9]*",
        "TXLNK[0-9]*",
        "TBCOL[0-9]*",
    ),
    *("PTYPE[0-9]*", "PSCAL[0-9]*", "PZERO[0-9]*"),
    *("TDMIN[0-9]*", "TDMAX[0-9]*", "ZIMAGE", "ZTABLE", "ZCMPTYPE", "ZTILE[0-9]*", "ZNAXIS*"),
    *("ZBITPIX", "ZNAME[0-9]*", "ZVAL[0-9]*", "ZQUANTIZ", "ZDITHER0", "ZPCOUNT", "ZGCOUNT"),
)
"""Keywords that say how a file is built."""

BULK = (
    # coefficients of calibrations and of the coordinates: the pixels are calibrated already
    *("CTYPE[0-9]*", "CRVAL[0-9]*", "CRPIX[0-9]*", "CDELT[0-9]*", "CUNIT[0-9]*", "CROTA[0-9]*"),
    *(
        "CD[0-9]_[0-9]*",
        "PC[0-9]_[0-9]*",
        "PV[0-9]_[0-9]*",
        "PS[0-9]_[0-9]*",
        "LTM[0-9]*",
        "LTV[0-9]*",
    ),
    *(
        "WAT[0-9]_*",
        "WCSDIM",
        "DC-FLAG",
        "COEFF[0-9]*",
        "APNUM[0-9]*",
        "A_[0-9]_[0-9]",
        "B_[0-9]_[0-9]",
    ),
    *("AP_[0-9]_[0-9]", "BP_[0-9]_[0-9]", "TR[0-9]_[0-9]*", "WAXMAP*", "*COEFF*", "*COEF[0-9]*"),
    # ESO: what pipelines read and fitted, and the insides of telescope, instrument and detector
    *(
        "ESO DRS CAL *",
        "ESO DRS BLAZE *",
        "ESO DRS CCF *",
        "ESO QC *",
        "ESO PRO REC*",
        "ESO PRO DATANCOM",
    ),
    *("ESO INS SENS[0-9]*", "ESO INS TEMP[0-9]*", "ESO INS OPTI[0-9]*", "ESO INS LAMP[0-9]*"),
    *(
        "ESO INS SWSIM*",
        "ESO INS PRES[0-9]*",
        "ESO DET CHIP[0-9]*",
        "ESO DET OUT[0-9]*",
        "ESO DET SHUT*",
    ),
    *(
        "ESO DET READ*",
        "ESO DET FRAM*",
        "ESO TEL TH *",
        "ESO TEL MOON*",
        "ESO TEL ACTO*",
        "ESO OCS *",
    ),
    *("ESO ADA *", "ESO AOS *", "ESO GEN *", "ESO TPL *", "ESO DPR SEQ*"),
    # provenance of archives, one card for each file or step
    *(
        "PROV[0-9]*",
        "ASSON[0-9]*",
        "ASSOC[0-9]*",
        "ASSOM[0-9]*",
        "OBID[0-9]*",
        "EXPID[0-9]*",
        "NCOMBINE",
    ),
    # telemetry of SDSS: dither, guiding, one card for each exposure and fibre
    *(
        "CAMDY*",
        "CAMROT*",
        "HELIO_RV",
        "MGDPOS",
        "FBADPIX*",
        "RDNOISE[0-9]*",
        "GAIN[0-9]*",
        "FRAMES*",
    ),
)
"""Families of keywords that come in bulk and say nothing of the observation."""


def column_name(hdu: int, keyword: str) -> str:
    """What a keyword of an HDU is called.

    Examples
    --------
    >>> column_name(0, "ESO TEL AIRM START"), column_name(1, "[FE/H]"), column_name(0, "DATE-OBS")
    ('h0_eso_tel_airm_start', 'h1_fe_h_', 'h0_date_obs')
    """
    return re.sub("_+", "_", re.sub("[^a-z0-9]", "_", f"h{hdu}_{keyword}".lower()))


class HeaderProjection:
    """Which cards become columns, and their names.

    Parameters
    ----------
    exclude
        Keywords to leave out beside `STRUCTURE` and `BULK`, as shell patterns, in any case:
        ``ESO DET *``.

    Examples
    --------
    >>> from astropy.io.fits import Header
    >>> header = Header([("AIRMASS", 1.2), ("EXPTIME", 30.0), ("NAXIS", 0), ("COEFF3", 2.5)])
    >>> HeaderProjection(exclude=["EXP*"]).of([header])
    {'h0_airmass': '1.2'}
    """

    def __init__(self, exclude: Iterable[str] = ()) -> None:
        patterns = (*STRUCTURE, *BULK, *(pattern.upper() for pattern in exclude))
        self._excluded = re.compile("|".join(f"(?:{fnmatch.translate(p)})" for p in patterns))
        self._names: dict[tuple[int, str], str] = {}

    def of(self, headers: Sequence[Any]) -> dict[str, str]:
        """The columns of one file: name and text, from the headers of all its HDUs."""
        found: dict[str, str] = {}
        for number, header in enumerate(headers):
            for card in header.cards:
                name = self._name(number, card.keyword)
                if not name:
                    continue
                text = card_text(card)
                if text is None:
                    continue
                unique, count = name, 1
                while unique in found:
                    count += 1
                    unique = f"{name}_{count}"
                found[unique] = text
        return found

    def _name(self, hdu: int, keyword: str) -> str:
        known = self._names.get((hdu, keyword))
        if known is None:
            stays_out = not keyword or self._excluded.match(keyword.upper())
            known = self._names[hdu, keyword] = "" if stays_out else column_name(hdu, keyword)
        return known


def card_text(card: Any) -> str | None:
    """The value of a card as text; None where the card is too damaged to have one."""
    try:
        value = card.value
    except Exception:  # astropy's VerifyError, and others, of a card that it cannot parse
        return None
    if isinstance(value, bool):
        return "T" if value else "F"
    text = str(value) if value is not None and type(value).__name__ != "Undefined" else ""
    # Text that UTF-8 cannot hold would stop the whole file for one card.
    return text.encode("utf-8", "replace").decode("utf-8")
