"""Cards become columns under names that follow from their keywords alone."""

from __future__ import annotations

import pytest
from astropy.io.fits import Card, Header, Undefined

from bluesky_zarr.ingest._headers import HeaderProjection, column_name


@pytest.mark.parametrize(
    ("hdu", "keyword", "name"),
    [
        (0, "AIRMASS", "h0_airmass"),
        (1, "DATE-OBS", "h1_date_obs"),
        (0, "ESO TEL AIRM START", "h0_eso_tel_airm_start"),
        (12, "[FE/H]", "h12_fe_h_"),
        (0, "A--B  C", "h0_a_b_c"),
        (0, "DP1.EXTVER", "h0_dp1_extver"),
        (0, "_X", "h0_x"),
    ],
)
def test_columns_are_named_after_hdu_and_keyword(hdu: int, keyword: str, name: str) -> None:
    assert column_name(hdu, keyword) == name


def test_observing_fields_are_kept_as_text() -> None:
    header = Header(
        [
            ("AIRMASS", 1.25), ("EXPTIME", 300.0), ("RA", "12:30:00"), ("OBJECT", "HD 1"),
            ("INSTRUME", "UVES"), ("HUMIDITY", 12), ("GUIDING", True), ("TAMBIENT", Undefined()),
        ]
    )  # fmt: skip
    assert HeaderProjection().of([header]) == {
        "h0_airmass": "1.25",
        "h0_exptime": "300.0",
        "h0_ra": "12:30:00",
        "h0_object": "HD 1",
        "h0_instrume": "UVES",
        "h0_humidity": "12",
        "h0_guiding": "T",
        "h0_tambient": "",
    }


def test_a_repeated_card_is_counted_in_its_hdu() -> None:
    first = Header()
    for value in (1, 2, 3):
        first.append(Card("EXPOSED", value))
    first.append(Card("A-B", "x"))
    first.append(Card("A_B", "y"))
    second = Header([("EXPOSED", 4)])
    assert HeaderProjection().of([first, second]) == {
        "h0_exposed": "1",
        "h0_exposed_2": "2",
        "h0_exposed_3": "3",
        "h0_a_b": "x",
        "h0_a_b_2": "y",
        "h1_exposed": "4",
    }


@pytest.mark.parametrize(
    "keyword",
    [
        "SIMPLE", "BITPIX", "NAXIS2", "TTYPE3", "TFORM12", "CHECKSUM", "COMMENT", "BSCALE",
        "ESO DRS CAL TH COEFF LL0", "COEFF0", "CD1_1", "CRVAL1", "WAT1_001", "PV2_3", "PROV17",
        "ESO INS SENS12 VAL", "ESO INS TEMP1 MEAN", "ESO DET OUT4 GAIN", "ESO PRO REC1 RAW3 NAME",
    ],
)  # fmt: skip
def test_structure_and_bulk_stay_out(keyword: str) -> None:
    header = Header()
    header.append(Card("AIRMASS", 1.0))
    header[f"HIERARCH {keyword}" if " " in keyword else keyword] = "1"
    assert set(HeaderProjection().of([header])) == {"h0_airmass"}


def test_a_users_list_adds_to_it() -> None:
    header = Header([("AIRMASS", 1.0), ("LAMPS", 2), ("LAMPT", 3)])
    assert set(HeaderProjection(exclude=["lamp?"]).of([header])) == {"h0_airmass"}


def test_a_card_that_cannot_be_parsed_is_left_out() -> None:
    header = Header.fromstring(
        "AIRMASS =                  1.0".ljust(80) + "BAD     = 'no end".ljust(80)
    )
    assert HeaderProjection().of([header]).get("h0_airmass") == "1.0"
