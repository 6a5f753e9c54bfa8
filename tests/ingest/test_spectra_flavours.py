"""Each flavour of file gives the values that are in it, to the last bit, or says why not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from bluesky_zarr.ingest import FitsError
from bluesky_zarr.ingest._fits import open_fits
from bluesky_zarr.ingest._units import converted, frequency_range, parsed, spelled
from bluesky_zarr.ingest.spectra._flavours import DefaultUnits, read_spectrum
from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from tests.ingest import files

same = np.testing.assert_array_equal
N = 50


def read(path: Path, **units: str) -> Spectrum:
    with open_fits(path) as hdus:
        return read_spectrum(path, hdus, DefaultUnits(**units))


# ------------------ ESO


def test_a_row_of_arrays(tmp_path: Path) -> None:
    path = files.eso(tmp_path / "a.fits")
    found = read(path)
    with fits.open(path) as hdus:
        row = hdus[1].data[0]
        same(found.wavelength, row["WAVE"])
        same(found.flux_raw, row["FLUX"])
        same(found.uncertainty_raw, row["ERR"])
    assert found.flux_raw.dtype == np.dtype("f4")
    assert (found.wavelength_unit, found.flux_unit) == ("Angstrom", "erg / (Angstrom s cm2)")
    assert (found.method, found.flux_type, found.medium) == ("none", "flux", "")
    assert found.present == ("flux_raw", "uncertainty_raw")


@pytest.mark.parametrize("name", ["WAVE", "WAVELENGTH", "LAMBDA", "AWAV", "wave", "Lambda"])
@pytest.mark.parametrize("flux", ["FLUX", "INTENSITY", "SCI_FLUX"])
def test_every_name_of_wavelength_and_flux(tmp_path: Path, name: str, flux: str) -> None:
    found = read(files.eso(tmp_path / "a.fits", names=(name, flux)))
    same(found.wavelength, files.wavelength_of(N))
    assert found.medium == ("air" if name == "AWAV" else "")
    assert found.flux_type == ("intensity" if flux == "INTENSITY" else "flux")


@pytest.mark.parametrize("name", ["ERR", "ERROR", "FLUX_ERR", "SIGMA", "UNCERTAINTY"])
def test_every_name_of_the_uncertainty(tmp_path: Path, name: str) -> None:
    sigma = np.linspace(0.1, 0.2, N).astype("f4")
    path = files.eso(tmp_path / "a.fits", error=False, columns={name: (sigma, files.FLUX_UNIT)})
    same(read(path).uncertainty_raw, sigma)


@pytest.mark.parametrize("name", ["CONTINUUM", "CONT"])
@pytest.mark.parametrize("normalized", ["NORMALIZED_FLUX", "NORM_FLUX"])
def test_continuum_and_normalized_flux_as_the_file_gives_them(
    tmp_path: Path, name: str, normalized: str
) -> None:
    continuum, norm = np.full(N, 2, "f4"), np.full(N, 0.9, "f4")
    found = read(
        files.eso(tmp_path / "a.fits", columns={name: (continuum, None), normalized: (norm, None)})
    )
    same(found.continuum_model, continuum)
    same(found.normalized_flux, norm)
    assert found.method == f"column:{name}"
    assert found.continuum_uncertainty is None
    assert found.normalized_uncertainty is None


def test_arrays_of_variable_length_are_a_row_as_well(tmp_path: Path) -> None:
    def cell(values: np.ndarray) -> np.ndarray:
        row = np.empty(1, object)
        row[0] = values
        return row

    flux = files.flux_of(3, N)
    columns = [
        fits.Column("WAVE", "PD()", unit="nm", array=cell(files.wavelength_of(N))),
        fits.Column("FLUX", "PE()", unit="adu", array=cell(flux)),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    same(read(tmp_path / "a.fits").flux_raw, flux)


def test_several_rows_of_arrays_are_no_spectrum(tmp_path: Path) -> None:
    columns = [
        fits.Column(name, "5E", unit="nm", array=np.ones((3, 5), "f4")) for name in ("WAVE", "FLUX")
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with pytest.raises(FitsError, match=r"a.fits: .* 3 rows of arrays; one row is one spectrum"):
        read(tmp_path / "a.fits")


# ------------------ SDSS


def test_a_row_per_pixel(tmp_path: Path) -> None:
    path = files.sdss(tmp_path / "spec.fits")
    found = read(path)
    with fits.open(path) as hdus:
        table = hdus[1].data
        same(found.wavelength, 10 ** table["loglam"].astype("f8"))
        same(found.flux_raw, table["flux"])
    assert found.uncertainty_raw is not None
    assert np.isnan(found.uncertainty_raw[3])
    same(np.delete(found.uncertainty_raw, 3), np.full(59, 0.5, "f4"))
    assert found.wavelength_unit == "Angstrom"
    assert found.flux_unit == "1e-17 erg / (Angstrom s cm2)"


def test_the_units_of_sdss_are_those_of_its_data_model(tmp_path: Path) -> None:
    found = read(files.sdss(tmp_path / "spec.fits", BUNIT=""))
    assert parsed(found.flux_unit) == parsed("1e-17 erg / (Angstrom s cm2)")


# ------------------ images


def image_wavelengths(n: int, start: float = 5000.0, step: float = 1.25, ref: float = 1) -> Any:
    return start + step * (np.arange(n) + 1 - ref)


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        ({}, image_wavelengths(40)),
        ({"CRPIX1": 11.0}, image_wavelengths(40, ref=11)),
        ({"CRPIX1": None}, image_wavelengths(40, ref=0)),
        ({"CDELT1": None, "CD1_1": 2.5}, image_wavelengths(40, step=2.5)),
        ({"CDELT1": 1.0, "CD1_1": 2.5}, image_wavelengths(40, step=2.5)),
        ({"DC-FLAG": 0}, image_wavelengths(40)),
        (
            {"DC-FLAG": 1, "CRVAL1": 3.6, "CDELT1": 1e-4},
            10 ** image_wavelengths(40, 3.6, 1e-4),
        ),
        (
            {"CTYPE1": "WAVE-LOG"},
            5000.0 * np.exp(1.25 * np.arange(40) / 5000.0),
        ),
    ],
    ids=["linear", "CRPIX1", "no CRPIX1", "CD1_1", "both", "DC-FLAG 0", "DC-FLAG 1", "WAVE-LOG"],
)
def test_wavelengths_of_an_image(tmp_path: Path, cards: dict[str, Any], expected: Any) -> None:
    found = read(files.iraf(tmp_path / "a.fits", **cards))
    same(found.wavelength, expected)
    same(found.flux_raw, files.flux_of(2, 40))


@pytest.mark.filterwarnings("ignore:'datfix'")
@pytest.mark.parametrize("cards", [{}, {"CTYPE1": "WAVE-LOG"}, {"CRPIX1": 7.5}, {"CD1_1": 2.5}])
def test_astropys_wcs_agrees(tmp_path: Path, cards: dict[str, Any]) -> None:
    from astropy.wcs import WCS

    path = files.iraf(tmp_path / "a.fits", **{"CTYPE1": "WAVE", **cards})
    theirs = WCS(fits.getheader(path)).wcs_pix2world(np.arange(40), 0)[0] * 1e10  # m
    np.testing.assert_allclose(read(path).wavelength, theirs, rtol=1e-14)


def test_air_and_vacuum_are_told_apart(tmp_path: Path) -> None:
    assert read(files.iraf(tmp_path / "a.fits", CTYPE1="AWAV")).medium == "air"
    assert read(files.iraf(tmp_path / "b.fits", CTYPE1="WAVE")).medium == "vacuum"
    assert read(files.iraf(tmp_path / "c.fits")).medium == ""


def test_a_scaled_image(tmp_path: Path) -> None:
    raw = np.arange(40, dtype="i2")
    path = files.iraf(tmp_path / "a.fits", data=raw)
    with fits.open(path, mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(BSCALE=0.5, BZERO=10.0)
    fits.setval(path, "CHECKSUM", value="")  # of before the scaling
    for card in ("CHECKSUM", "DATASUM"):
        fits.delval(path, card)
    with fits.open(path) as hdus:
        same(read(path).flux_raw, hdus[0].data.astype("f8"))
    same(read(path).flux_raw, 10 + 0.5 * raw)


def test_iraf_says_units_in_its_own_card(tmp_path: Path) -> None:
    text = "wtype=linear label=Wavelength units=angstroms"
    assert read(files.iraf(tmp_path / "a.fits", CUNIT1=None, WAT1_001=text)).wavelength_unit == (
        "Angstrom"
    )


def test_uncertainty_and_continuum_in_further_images(tmp_path: Path) -> None:
    sigma, continuum = np.full(40, 0.5, "f4"), np.full(40, 3, "f4")
    path = files.iraf(tmp_path / "a.fits", extensions={"SIGMA": sigma, "CONTINUUM": continuum})
    found = read(path)
    same(found.uncertainty_raw, sigma)
    same(found.continuum_model, continuum)
    assert found.method == "hdu:CONTINUUM"


def test_the_flux_is_not_taken_for_granted_where_images_have_names(tmp_path: Path) -> None:
    cards = fits.getheader(files.iraf(tmp_path / "cards.fits"))
    del cards["CHECKSUM"], cards["DATASUM"]
    names = {"ERR": np.full(40, 0.5, "f4"), "DQ": np.ones(40, "f4"), "FLUX": files.flux_of(2, 40)}
    hdus = [fits.ImageHDU(values, cards, name=name) for name, values in names.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")
    found = read(tmp_path / "a.fits")
    same(found.flux_raw, names["FLUX"])
    same(found.uncertainty_raw, names["ERR"])


def test_an_uncertainty_in_another_unit_is_converted(tmp_path: Path) -> None:
    path = files.iraf(tmp_path / "a.fits", BUNIT="Jy", extensions={"ERR": np.full(40, 2, "f4")})
    for unit, right in (("mJy", np.float32(0.002)), ("Jy", 2)):
        fits.setval(path, "BUNIT", value=unit, ext=1)
        for card in ("CHECKSUM", "DATASUM"):
            fits.setval(path, card, value="", ext=1)
            fits.delval(path, card, ext=1)
        same(read(path).uncertainty_raw, np.full(40, right, "f4"))
    fits.setval(path, "BUNIT", value="s", ext=1)
    with pytest.raises(FitsError, match=r"a.fits: the image ERR is in s, the flux in Jy; mend the"):
        read(path)


def test_an_image_with_dims_of_one_and_compressed(tmp_path: Path) -> None:
    data = files.flux_of(2, 40)
    same(read(files.iraf(tmp_path / "a.fits", data=data.reshape(1, 1, 40))).flux_raw, data)
    header = fits.getheader(tmp_path / "a.fits")
    packed = fits.CompImageHDU(
        np.arange(40, dtype="i4").reshape(1, 40), header, compression_type="GZIP_1"
    )
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "a.fits.fz")
    same(read(tmp_path / "a.fits.fz").flux_raw, np.arange(40.0))


# ------------------ what cannot be used


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CRVAL1": None}, "no wavelength: .* no CRVAL1 and CDELT1 or CD1_1"),
        ({"CDELT1": None}, "no wavelength: .* no CRVAL1 and CDELT1 or CD1_1"),
        ({"CDELT1": 0.0}, "width of 0"),
        ({"DC-FLAG": -1}, "no wavelength: .*DC-FLAG = -1 .no dispersion"),
        ({"CTYPE1": "FREQ"}, "no wavelength: the axis of HDU 0 is CTYPE1 = 'FREQ'"),
        ({"CTYPE1": "MULTISPE"}, "no wavelength: .* is CTYPE1 = 'MULTISPE'; convert it"),
        (
            {"CTYPE1": "LOGLAM"},
            "CTYPE1 = 'LOGLAM' is a logarithm, .*; set DC-FLAG = 1 if",
        ),
        ({"CTYPE1": "log10(lam)", "DC-FLAG": 0}, "is a logarithm"),
        ({"CUNIT1": "s"}, "its wavelengths are in s, which is no unit of length"),
        ({"CUNIT1": "log(Angstrom)"}, "are in log.Angstrom., which is no unit of length"),
        ({"CTYPE1": "WAVE-GRI"}, "algorithm 'GRI' .* neither linear nor logarithmic; resample it"),
        ({"CUNIT1": None}, "no unit of the wavelength .*; say which by --wavelength-unit"),
        ({"BUNIT": None}, "no unit of the flux .*; say which by --flux-unit"),
    ],
)
def test_an_image_that_says_too_little(tmp_path: Path, cards: dict[str, Any], words: str) -> None:
    with pytest.raises(FitsError, match=f"a.fits: .*{words}"):
        read(files.iraf(tmp_path / "a.fits", **cards))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"names": ("X", "FLUX")}, "no wavelength: .* the columns X, FLUX, ERR and none of WAVE"),
        (
            {"units": (None, "adu")},
            "column WAVE in HDU 1 has no unit; say which by --wavelength-un",
        ),
        ({"units": ("nm", None)}, "column FLUX in HDU 1 has no unit; say which by --flux-unit"),
        ({"units": ("Hz", "adu")}, "its wavelengths are in Hz, which is no unit of length; conv"),
        ({"names": ("WAVE", "COUNTS")}, "no spectrum in it: HDU 0 is empty; HDU 1 is a table of W"),
        (
            {"wavelength": np.arange(30.0)},
            "flux_raw has the shape .50,., its wavelength has 30 pix",
        ),
        ({"wavelength": np.full(N, np.nan)}, "its wavelength has no finite value"),
        ({"flux": np.full(N, np.nan, "f4")}, "its flux is NaN or 0 in each of its 50 pixels"),
        (
            {"flux": np.zeros(N, "f4")},
            "its flux is NaN or 0 in each of its 50 pixels; leave it out",
        ),
        (
            {"columns": {"CONTINUUM": (np.ones(N, "f4"), "Jy")}},
            "column CONTINUUM in HDU 1 is in Jy, the flux in erg",
        ),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(FitsError, match=f"a.fits: .*{words}"):
        read(files.eso(tmp_path / "a.fits", **options))


def test_a_file_without_a_spectrum_says_what_is_in_it(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((20, 30), "f4")).writeto(tmp_path / "a.fits")
    with pytest.raises(FitsError, match="HDU 0 is an image of 20 x 30; a spectrum is a table with"):
        read(tmp_path / "a.fits")


def test_units_that_the_user_says_stand_in_for_those_that_files_do_not(tmp_path: Path) -> None:
    path = files.eso(tmp_path / "a.fits", units=(None, None))
    found = read(path, wavelength="nm", flux="adu")
    assert (found.wavelength_unit, found.flux_unit) == ("nm", "adu")
    said = read(files.eso(tmp_path / "b.fits"), wavelength="nm", flux="adu")
    assert said.wavelength_unit == "Angstrom"


# ------------------ units


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("angstrom", "Angstrom"), ("Angstroms", "Angstrom"), ("nm", "nm"),
        ("micron", "micron"), ("adu", "adu"), ("", ""), ("dimensionless", "dimensionless"),
        ("erg/cm^2/s/Ang", "erg / (Angstrom s cm2)"), ("furlong", "furlong"),
    ],
)  # fmt: skip
def test_one_spelling_of_each_unit(text: str, unit: str) -> None:
    assert spelled(text) == unit


def test_a_wavelength_is_not_in_ampere(tmp_path: Path) -> None:
    assert read(files.eso(tmp_path / "a.fits", units=("A", "adu"))).wavelength_unit == "Angstrom"


def test_conversion_is_astropys() -> None:
    from astropy import units

    values = files.wavelength_of(9)
    same(converted(values, "Angstrom", "nm"), (values * units.AA).to_value("nm"))
    assert converted(values, "Angstrom", "Jy") is None
    assert converted(values, "furlong", "nm") is None


def test_frequencies_of_a_range_of_wavelengths() -> None:
    assert frequency_range(299.792458, 599.584916, "nm") == pytest.approx((5e14, 1e15))
    assert frequency_range(1, 2, "adu") is None
