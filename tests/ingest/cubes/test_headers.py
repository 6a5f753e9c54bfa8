"""What is put right in headers, on copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes import ImageError, SpatialGrid, fix_headers, fixed_header
from bluesky_zarr.ingest.cubes._axes import find_axes
from tests.ingest.cubes.images import SHAPE, TIMES, header, name_of, truth, write, write_scaled

NAME = name_of(TIMES[0], 41)


def fixed(name: str = NAME, ndim: int = 4, **cards) -> fits.Header:
    head = header(41, **cards)
    head["BITPIX"], head["NAXIS"] = -32, ndim
    for axis, length in enumerate((SHAPE[1], SHAPE[0], 1, 1)[:ndim], 1):
        head[f"NAXIS{axis}"] = length
    for axis in range(ndim + 1, 5):
        for card in ("CTYPE", "CRPIX", "CDELT", "CRVAL", "CUNIT"):
            del head[f"{card}{axis}"]
    before = head.copy()
    made, changes = fixed_header(head, name)
    assert head == before, "the original was changed"
    assert fixed_header(made, name) == (made, []), "a second time changes something"
    assert bool(changes) == (made != before)
    return made


def test_a_correct_header_is_not_touched() -> None:
    assert fixed() == fixed()
    assert fixed_header(fixed(), NAME)[1] == []


@pytest.mark.parametrize(
    ("card", "value"),
    [
        ("SPECSYS", "LSRK"),
        ("TIMESYS", "UTC"),
        ("RADESYS", "FK5"),
        ("LATPOLE", 90.0),
        ("BUNIT", "Jy/beam"),
    ],
)
def test_cards_that_are_absent_are_added_and_others_kept(card: str, value: object) -> None:
    assert fixed(**{card: None})[card] == value
    other = 45.0 if card == "LATPOLE" else "GALACTOC"
    assert fixed(**{card: other})[card] == other


def test_a_card_without_a_value_counts_as_absent() -> None:
    head = fixed()
    head["BUNIT"] = head["EQUINOX"] = head["RESTFRQ"] = fits.card.UNDEFINED
    made, _ = fixed_header(head, NAME)
    assert (made["BUNIT"], made["RESTFRQ"]) == ("Jy/beam", 41e6)
    assert "EQUINOX" not in dict(SpatialGrid.of(made, find_axes(made)).cards)


def test_the_old_name_of_radesys_counts() -> None:
    assert fixed(RADESYS=None, RADECSYS="ICRS")["RADESYS"] == "ICRS"


def test_blanks_around_ctype_are_stripped() -> None:
    found = fixed(CTYPE1=" RA---SIN", CTYPE3=" FREQ ")
    assert (found["CTYPE1"], found["CTYPE3"]) == ("RA---SIN", "FREQ")


@pytest.mark.parametrize("ndim", [2, 3])
def test_absent_axes_are_added(ndim: int) -> None:
    found = fixed(ndim=ndim)
    assert found["NAXIS"] == 4
    assert [found[f"CTYPE{n}"] for n in (3, 4)] == ["FREQ", "STOKES"]
    assert [found[f"NAXIS{n}"] for n in (3, 4)] == [1, 1]
    assert (found["CRVAL3"], found["CRVAL4"]) == (41e6, 1.0)
    assert WCS(found).celestial.wcs.compare(WCS(header(41)).celestial.wcs)


def test_the_polarization_of_an_absent_axis_is_that_of_the_name() -> None:
    assert fixed(name_of(TIMES[0], 41, stokes="V"), ndim=3)["CRVAL4"] == 4.0


def test_the_axis_is_added_behind_a_matrix_of_cd_cards() -> None:
    cards = {"CD1_1": -0.125, "CD2_2": 0.125, "CDELT1": None, "CDELT2": None}
    found = fixed(ndim=2, **cards)
    assert WCS(found).wcs.get_cdelt().all()
    assert found["CD3_3"] == 1.0


def test_restfreq_comes_from_the_spectral_axis() -> None:
    found = fixed("sky.fits", RESTFREQ=None, RESTFRQ=None, CRVAL3=41.5, CUNIT3="MHz")
    assert found["RESTFREQ"] == found["RESTFRQ"] == 41.5e6


def test_restfrq_is_restfreq_where_that_is_known() -> None:
    assert fixed(RESTFRQ=None, RESTFREQ=40e6)["RESTFRQ"] == 40e6
    assert fixed(RESTFRQ=40e6, RESTFREQ=0.0)["RESTFREQ"] == 40e6


def test_the_name_is_the_last_that_says_the_frequency() -> None:
    found = fixed(ndim=2, RESTFREQ=None, RESTFRQ=None)
    assert found["RESTFREQ"] == found["CRVAL3"] == 41e6
    with pytest.raises(ImageError, match=r"nothing says its frequency.*add RESTFREQ \[Hz\]"):
        fixed("sky.fits", ndim=2, RESTFREQ=None, RESTFRQ=None)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"BMAJ": 0.0}, "BMAJ is 0.0: a beam is finite and above 0 deg"),
        ({"BMIN": -0.1}, "BMIN is -0.1: a beam is"),
        ({"BMIN": None}, "it has no BMIN: a beam is"),
        ({"CTYPE3": "VELO"}, "CTYPE3 is 'VELO'; each axis has to be another one of RA, DEC, FREQ"),
        ({"CTYPE1": "DEC--SIN"}, "CTYPE2 is 'DEC--SIN'; each axis has to be another one"),
        ({"CUNIT3": "furlong", "RESTFREQ": None, "RESTFRQ": None}, "CUNIT3 is 'furlong', which is"),
    ],
)
def test_what_cannot_be_put_right_is_refused(cards: dict[str, object], words: str) -> None:
    with pytest.raises(ImageError, match=words):
        fixed(**cards)


def test_copies_have_physical_values_and_the_originals_are_not_changed(tmp_path: Path) -> None:
    stored = np.arange(np.prod(SHAPE), dtype=">i2").reshape(SHAPE)
    head = header(41, SPECSYS=None, BLANK=5)
    original = write_scaled(tmp_path / "in" / "deep" / NAME, stored, head, 0.1, 2.0)
    before = original.read_bytes()
    (made,) = fix_headers(tmp_path / "in", tmp_path / "fixed")
    assert original.read_bytes() == before
    assert made.path == tmp_path / "fixed" / "deep" / name_of(TIMES[0], 41, "_fixed")
    assert "BSCALE 0.1, BZERO 2.0, BLANK 5 applied and dropped" in made.changes
    assert "SPECSYS set to LSRK" in made.changes
    with fits.open(original) as one, fits.open(made.path) as other:
        before_it, found = cast(Any, one[0]), cast(Any, other[0])
        assert found.header["BITPIX"] == -32
        assert not {"BSCALE", "BZERO", "BLANK"} & set(found.header)
        assert found.header["SPECSYS"] == "LSRK"
        right = before_it.data.astype("float32")
        np.testing.assert_array_equal(found.data, right)
    (again,) = fix_headers(tmp_path / "fixed", tmp_path / "again")
    assert again.changes == ()


@pytest.mark.parametrize("kind", ["gzip", "fpack"])
def test_copies_of_compressed_images_are_plain(tmp_path: Path, kind: str) -> None:
    write(tmp_path / "in" / NAME, truth(0, 0), header(41), ndim=2, kind=kind)
    (made,) = fix_headers(tmp_path / "in", tmp_path / "fixed")
    assert made.path.name == name_of(TIMES[0], 41, "_fixed")
    with fits.open(made.path) as hdus:
        data = cast(Any, hdus[0]).data
        assert data.shape == (1, 1, *SHAPE)
        np.testing.assert_array_equal(data[0, 0], truth(0, 0))


def test_a_copy_never_overwrites_an_original(tmp_path: Path) -> None:
    for rest in ("", "_fixed"):
        write(tmp_path / name_of(TIMES[0], 41, rest), truth(0, 0), header(41))
    with pytest.raises(FitsError, match=r"its corrected copy would overwrite .*another directory"):
        list(fix_headers(tmp_path, tmp_path))
