"""What is in a cube is what is in the files, to the last bit, whatever the flavour of FITS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import xarray
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from crc32c import crc32c

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes import CubesConfig, Ingested, _task, ingest_cube
from bluesky_zarr.ingest.cubes._tiles import Tiles
from bluesky_zarr.ingest.cubes._time import time_of
from bluesky_zarr.store import validate
from bluesky_zarr.store._metadata import read_document
from tests.ingest.cubes.images import (
    MHZ,
    SHAPE,
    TIMES,
    content,
    header,
    name_of,
    night,
    truth,
    write,
    write_scaled,
)
from tests.store.reading import READERS


def ingest(directory: Path, **options: Any) -> Ingested:
    output = directory.parent / "out"
    return ingest_cube(CubesConfig(input_dir=directory, output_dir=output, **options))


def image(cube: Path, time: int = 0, frequency: int = 0) -> np.ndarray:
    """As astropy has it: (dec, ra)."""
    with xarray.open_zarr(cube) as opened:
        return opened["SKY"][time, frequency, 0].to_numpy().T


def physical(path: Path) -> np.ndarray:
    """The image by astropy alone."""
    with fits.open(path) as hdus:
        data = next(hdu.data for hdu in cast(Any, hdus) if hdu.data is not None)
        return np.squeeze(data).astype("float32")


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("chunk", [0, 16])
def test_each_image_is_where_its_time_and_frequency_are(tmp_path: Path, reader, chunk) -> None:
    made = ingest(night(tmp_path / "in"), chunk_lm=chunk)
    found = reader(made.path, "SKY")
    assert found.shape == (len(TIMES), len(MHZ), 1, SHAPE[1], SHAPE[0])
    for t in range(len(TIMES)):
        for f in range(len(MHZ)):
            np.testing.assert_array_equal(found[t, f, 0].T, truth(t, f))
    assert validate(made.path, deep=True)


@pytest.mark.parametrize("planes", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "gzip"])
@pytest.mark.parametrize("chunk", [0, 48, 64])
def test_an_image_of_many_rows_and_of_chunks_that_do_not_fit_into_it(
    tmp_path: Path, kind: str, planes: int, chunk: int
) -> None:
    shape = (203, 150)
    values = np.stack([truth(0, p, shape) for p in range(planes)])[:, np.newaxis]
    write(tmp_path / "in" / name_of(TIMES[0], 41), values, header(41, shape), kind=kind)
    with xarray.open_zarr(ingest(tmp_path / "in", chunk_lm=chunk).path) as cube:
        found = cube["SKY"][0, 0].to_numpy().transpose(0, 2, 1)
    np.testing.assert_array_equal(found, values[:, 0])


def test_a_plain_image_is_read_without_astropy(tmp_path: Path, monkeypatch) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    write_scaled(directory / name_of(TIMES[1], 41), truth(1, 0).astype(">f4"), header(41), 1, 0)
    monkeypatch.setattr("bluesky_zarr.ingest.cubes._task.read_image", None)
    made = ingest(directory)
    np.testing.assert_array_equal(image(made.path, 0, 2), truth(0, 2))
    np.testing.assert_array_equal(image(made.path, 1, 0), truth(1, 0))


@pytest.mark.parametrize(
    "cards", [{}, {"BLANK": 7}, {"BSCALE": 1.0, "BZERO": 0.0}, {"LONG": "x" * 99}]
)
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_every_bit_of_an_image_stays_as_it_is(tmp_path: Path, cards: dict, ndim: int) -> None:
    bits = truth(0, 0).view("u4")
    # Quiet and signalling NaNs with something to say, zeros of both signs, the least and infinite.
    bits[0, :8] = [0x7FC00001, 0x7F800001, 0xFFA12345, 0, 1 << 31, 1, 0x7F800000, 0xFF800000]
    path = tmp_path / "in" / name_of(TIMES[0], 41)
    write(path, truth(0, 0), header(41), ndim=ndim)
    head = fits.getheader(path)
    head["HIERARCH A long name"] = 1
    head.update(cards)
    pixels = bits.astype(">u4").tobytes()
    path.write_bytes(head.tostring().encode() + pixels + bytes(-len(pixels) % 2880))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        found = cube["SKY"][0, 0, 0].to_numpy().T
        np.testing.assert_array_equal(np.ascontiguousarray(found).view("u4"), bits)
        assert int(cube["source_crc32c"][0, 0]) == crc32c(path.read_bytes())


@pytest.mark.parametrize("kind", ["plain", "gzip"])
def test_an_image_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch, kind
) -> None:
    path = write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41), kind=kind)
    owner, name = (Tiles, "put") if kind == "plain" else (_task, "read_image")
    read = getattr(owner, name)

    def change(*args: Any, **options: Any) -> Any:
        found = read(*args, **options)
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
        return found

    monkeypatch.setattr(owner, name, change)
    with pytest.raises(FitsError, match="it was changed since its header was read"):
        ingest(tmp_path / "in")


def test_an_image_without_polarizations_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in" / name_of(TIMES[0], 41)
    path.parent.mkdir()
    head = fits.PrimaryHDU(truth(0, 0)[np.newaxis, np.newaxis], header(41)).header
    head["NAXIS4"] = 0
    path.write_bytes(head.tostring().encode())
    with pytest.raises(FitsError, match="its axis 4 has no pixels; move it out"):
        ingest(tmp_path / "in")


def test_an_image_with_a_checksum_of_its_own_is_compared_with_it(tmp_path: Path) -> None:
    path = tmp_path / "in" / name_of(TIMES[0], 41)
    path.parent.mkdir()
    fits.PrimaryHDU(truth(0, 0)[np.newaxis, np.newaxis], header(41)).writeto(path, checksum=True)
    np.testing.assert_array_equal(image(ingest(tmp_path / "in").path), truth(0, 0))
    content = bytearray(path.read_bytes())
    content[-2880] ^= 1
    path.write_bytes(content)
    with pytest.raises(FitsError, match="it was changed since it was written: Checksum veri"):
        ingest(tmp_path / "in", rebuild=True)


@pytest.mark.parametrize("kind", ["plain", "gzip", "fpack"])
@pytest.mark.parametrize("ndim", [2, 3, 4])
def test_plain_gzip_and_fpack_of_any_rank_give_the_same_values(tmp_path, kind, ndim) -> None:
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41), ndim=ndim, kind=kind)
    made = ingest(tmp_path / "in")
    np.testing.assert_array_equal(image(made.path), truth(0, 0))


def test_a_tile_compressed_image_may_be_called_as_any_other(tmp_path: Path) -> None:
    path = tmp_path / "in" / name_of(TIMES[0], 41)
    shape = (200, 200)
    packed = write(path, np.ones(shape, "f4"), header(41, shape), kind="fpack")
    packed.rename(path)
    assert path.stat().st_size < 200 * 200 * 4
    np.testing.assert_array_equal(image(ingest(tmp_path / "in").path), np.ones(shape))


@pytest.mark.parametrize("dtype", ["u1", ">i2", ">i4", ">f4", ">f8"])
def test_scaled_images_are_physical_as_astropy_has_them(tmp_path: Path, dtype: str) -> None:
    stored = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    path = write_scaled(tmp_path / "in" / name_of(TIMES[0], 41), stored, header(41), 0.1, -3.7)
    made = ingest(tmp_path / "in")
    np.testing.assert_array_equal(image(made.path), physical(path))
    assert abs(image(made.path)[0, 5] - (0.1 * stored[0, 5] - 3.7)) < 1e-5


def test_blank_pixels_are_nan(tmp_path: Path) -> None:
    stored = np.arange(np.prod(SHAPE), dtype=">i2").reshape(SHAPE)
    head = header(41, BLANK=7)
    path = write_scaled(tmp_path / "in" / name_of(TIMES[0], 41), stored, head, 0.5, 1.0)
    made = ingest(tmp_path / "in")
    np.testing.assert_array_equal(image(made.path), physical(path))
    np.testing.assert_array_equal(np.isnan(image(made.path)), stored == 7)


def test_doubles_are_rounded_to_float32_once(tmp_path: Path) -> None:
    values = np.random.default_rng(3).standard_normal(SHAPE)
    write(tmp_path / "in" / name_of(TIMES[0], 41), values, header(41))
    made = ingest(tmp_path / "in")
    np.testing.assert_array_equal(image(made.path), values.astype("float32"))


def test_several_polarizations_of_one_file_are_in_their_order(tmp_path: Path) -> None:
    values = np.stack([truth(0, 0), truth(0, 1)])[:, np.newaxis]
    write(tmp_path / "in" / name_of(TIMES[0], 41), values, header(41, CDELT4=3.0))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        assert cube["polarization"].to_numpy().tolist() == ["I", "V"]
        np.testing.assert_array_equal(cube["SKY"][0, 0, 1].to_numpy().T, truth(0, 1))


def test_axes_in_another_order_are_put_in_ours(tmp_path: Path) -> None:
    head = header(41)
    for card in ("CTYPE", "CRPIX", "CDELT", "CRVAL", "CUNIT"):
        head[f"{card}3"], head[f"{card}4"] = head[f"{card}4"], head[f"{card}3"]
        head[f"{card}1"], head[f"{card}2"] = head[f"{card}2"], head[f"{card}1"]
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0).T.copy(), head)
    made = ingest(tmp_path / "in")
    np.testing.assert_array_equal(image(made.path), truth(0, 0))
    with xarray.open_zarr(made.path) as cube:
        check_sky(cube, header(41))


def check_sky(cube: xarray.Dataset, head: fits.Header) -> None:
    """Right ascension and declination against astropy, pixel by pixel."""
    dec, ra = SHAPE
    x, y = np.meshgrid(np.arange(ra), np.arange(dec), indexing="ij")
    right = WCS(head).celestial.wcs_pix2world(x, y, 0)
    np.testing.assert_allclose(cube["right_ascension"], right[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(cube["declination"], right[1], rtol=0, atol=1e-12)


def test_coordinates_are_those_of_the_headers(tmp_path: Path) -> None:
    made = ingest(night(tmp_path / "in"))
    with xarray.open_zarr(made.path) as cube:
        right = Time([f"2024-05-24 05:00:{s}" for s in (19, 29, 39)], scale="utc").mjd
        np.testing.assert_allclose(cube["time"], right, rtol=0, atol=1e-10)
        np.testing.assert_array_equal(cube["frequency"], [41e6, 46e6, 50e6])
        assert cube["polarization"].to_numpy().tolist() == ["I"]
        dec, ra = SHAPE
        l = np.radians(-0.125) * (np.arange(ra) - ra / 2)  # noqa: E741
        np.testing.assert_allclose(cube["l"], l, rtol=1e-14)
        np.testing.assert_allclose(cube["m"], np.radians(0.125) * (np.arange(dec) - dec / 2))
        assert cube["SKY"].dims == ("time", "frequency", "polarization", "l", "m")
        assert cube["SKY"].dtype == "float32"
        units = {name: cube[name].attrs.get("units") for name in ("SKY", "time", "frequency", "l")}
        assert units == {"SKY": "Jy/beam", "time": "d", "frequency": "Hz", "l": "rad"}
        assert "right_ascension" in cube.coords
        check_sky(cube, header(41))
        kept = fits.Header.fromstring(cube["SKY"].attrs["fits_header"], sep="\n")
        assert WCS(kept).celestial.wcs.compare(WCS(header(41)).celestial.wcs)


@pytest.mark.parametrize(
    ("date", "scale"),
    [
        ("2016-12-31T12:00:00", "UTC"),
        ("2016-12-31T23:59:60.5", "UTC"),
        ("2017-01-01T00:00:00.25", "UTC"),
        ("2024-05-24T12:00:37", "TAI"),
        ("2024-05-24T12:01:09.184", "TT"),
    ],
)
def test_a_time_is_read_back_by_astropy_as_it_was(tmp_path: Path, date: str, scale: str) -> None:
    head = header(41, DATE_OBS=date, TIMESYS=scale)
    write(tmp_path / "in" / "sky.fits", truth(0, 0), head)
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        about = cube["time"].attrs
        found = Time(cube["time"].to_numpy()[0], format=about["format"], scale=about["scale"])
    difference = (found - Time(date, scale=scale.lower())).sec
    assert abs(difference) < 1e-6  # an MJD in float64 is good for that


def test_a_leap_second_in_a_name(tmp_path: Path) -> None:
    names = [name_of(f"201612{time}", 41) for time in ("31_120000", "31_235959", "31_235960")]
    for n, name in enumerate((*names, name_of("20170101_000000", 41))):
        write(tmp_path / "in" / name, truth(n, 0), header(41))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        found = Time(cube["time"].to_numpy(), format="mjd", scale="utc")
    assert found.isot.tolist() == [
        "2016-12-31T12:00:00.000", "2016-12-31T23:59:59.000", "2016-12-31T23:59:60.000",
        "2017-01-01T00:00:00.000",
    ]  # fmt: skip


@pytest.mark.parametrize(("old", "new"), [("IAT", "TAI"), ("TDT", "TT"), ("UTC(NIST)", "UTC")])
def test_old_names_of_scales_of_time(old: str, new: str) -> None:
    when = "2024-05-24T12:00:00"
    assert time_of(header(41, DATE_OBS=when, TIMESYS=old), "sky.fits") == time_of(
        header(41, DATE_OBS=when, TIMESYS=new), "sky.fits"
    )


@pytest.mark.parametrize(
    ("frame", "equinox"), [("ICRS", None), ("FK4", 1950.0), ("FK5", 1950.0), ("FK5", None)]
)
def test_coordinates_of_another_frame_become_fk5(tmp_path: Path, frame: str, equinox) -> None:
    from astropy.coordinates import FK4, FK5, ICRS, SkyCoord

    head = header(41, RADESYS=frame, EQUINOX=equinox)
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), head)
    frames = {"ICRS": ICRS(), "FK4": FK4(equinox="B1950"), "FK5": FK5(equinox="J2000")}
    theirs = FK5(equinox="J1950") if (frame, equinox) == ("FK5", 1950.0) else frames[frame]
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        ra, dec = WCS(head).celestial.wcs_pix2world(3, 5, 0)
        right: Any = SkyCoord(ra, dec, unit="deg", frame=theirs).transform_to(FK5(equinox="J2000"))
        found = [float(cube[name][3, 5]) for name in ("right_ascension", "declination")]
        np.testing.assert_allclose(found, [right.ra.deg, right.dec.deg], rtol=0, atol=1e-10)
        told = {"ICRS": "icrs", "FK4": "fk4 B1950.0", "FK5": "fk5 J1950.0" if equinox else None}
        for name in ("right_ascension", "declination"):
            assert (cube[name].attrs["frame"], cube[name].attrs["equinox"]) == ("fk5", "J2000.0")
            assert cube[name].attrs.get("converted_from") == told[frame]


@pytest.mark.parametrize("projection", ["SIN", "TAN", "ZEA", "ARC"])
def test_coordinates_in_each_projection_and_to_the_west_too(tmp_path: Path, projection) -> None:
    cards: Any = {"CTYPE1": f"RA---{projection}", "CTYPE2": f"DEC--{projection}", "CDELT1": 0.125}
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41, **cards))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        check_sky(cube, header(41, **cards))
        assert cube["l"][0] < cube["l"][-1]


def test_a_matrix_of_cd_cards_goes_before_cdelt(tmp_path: Path) -> None:
    cards: Any = {"CD1_1": -0.25, "CD2_2": 0.25, "CDELT1": 1.0, "CDELT2": 1.0}
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41, **cards))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        check_sky(cube, header(41, **cards))
        np.testing.assert_allclose(np.diff(cube["l"]), np.radians(-0.25), rtol=1e-12)
        np.testing.assert_allclose(np.diff(cube["m"]), np.radians(0.25), rtol=1e-12)


@pytest.mark.parametrize(
    "cards",
    [
        {"CD1_1": 0.0, "CD1_2": -0.125, "CD2_1": 0.125, "CD2_2": 0.0},
        {"CD1_1": -0.1, "CD1_2": 0.06, "CD2_1": 0.07, "CD2_2": 0.12},
        {"PC1_1": 0.6, "PC1_2": -0.8, "PC2_1": 0.8, "PC2_2": 0.6},
        {"CROTA2": 30.0},
    ],
    ids=["90 degrees", "skewed", "PC", "CROTA2"],
)
def test_l_and_m_of_a_turned_grid_go_along_its_own_axes(tmp_path: Path, cards: Any) -> None:
    head = header(41, **cards)
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), head)
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        check_sky(cube, head)
        to_east, to_north = 0.0, 0.0
        for name in ("l", "m"):
            assert "turned in the sky" in cube[name].attrs["long_name"]
            angle = np.radians(cube[name].attrs["position_angle"])
            to_east = to_east + np.sin(angle) * np.degrees(cube[name])
            to_north = to_north + np.cos(angle) * np.degrees(cube[name])
        pixels = np.argwhere(np.ones((20, 24))) + 1  # as FITS counts
        plane = WCS(head).celestial.wcs.p2s(pixels, 1)["imgcrd"].reshape(20, 24, 2)
        np.testing.assert_allclose(to_east, plane[..., 0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(to_north, plane[..., 1], rtol=0, atol=1e-12)


def test_l_and_m_of_a_grid_that_is_not_turned_go_to_the_east_and_the_north(tmp_path: Path) -> None:
    cards: Any = {"PC1_1": 2.0, "PC1_2": -0.0, "PC2_1": 1e-9, "PC2_2": 1.0}
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), header(41, **cards))
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        np.testing.assert_allclose(np.diff(cube["l"]), np.radians(-0.25), rtol=1e-12)
        np.testing.assert_allclose(np.diff(cube["m"]), np.radians(0.125), rtol=1e-12)
        assert [cube[name].attrs["long_name"].split()[-1] for name in ("l", "m")] == [
            "east",
            "north",
        ]
        assert "position_angle" not in cube["l"].attrs


def test_l_and_m_of_a_grid_that_stands_on_its_head_go_to_the_east_and_the_north(
    tmp_path: Path,
) -> None:
    head = header(41, CROTA2=180.0)
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), head)
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        check_sky(cube, head)
        np.testing.assert_allclose(np.diff(cube["l"]), np.radians(0.125), rtol=1e-12)
        np.testing.assert_allclose(np.diff(cube["m"]), np.radians(-0.125), rtol=1e-12)


def test_what_lies_outside_of_the_sky_has_no_coordinates(tmp_path: Path) -> None:
    head = header(41, CDELT1=-10.0, CDELT2=10.0)
    write(tmp_path / "in" / name_of(TIMES[0], 41), truth(0, 0), head)
    with xarray.open_zarr(ingest(tmp_path / "in").path) as cube:
        assert np.isnan(cube["right_ascension"][0, 0])
        assert not np.isnan(cube["right_ascension"][10, 12])


def test_a_missing_subband_is_nan_and_reported(tmp_path: Path, caplog) -> None:
    made = ingest(night(tmp_path / "in", leave_out=[(1, 2)]))
    assert np.isnan(image(made.path, 1, 2)).all()
    np.testing.assert_array_equal(image(made.path, 1, 1), truth(1, 1))
    assert [frequency for _, frequency in made.missing] == [50e6]
    assert "1 of 9 images are missing and will be NaN: MJD 60454.20867 50 MHz" in caplog.text
    assert made.attributes["ingest"]["counts"] == {
        "time": 3, "frequency": 3, "image": 8, "missing": 1,
    }  # fmt: skip


def test_a_restfreq_that_contradicts_the_axis_is_taken_and_told(tmp_path: Path, caplog) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    write(directory / name_of(TIMES[1], 41), truth(1, 0), header(41, RESTFREQ=1420e6))
    made = ingest(directory)
    assert made.shape[:2] == (2, 4)
    assert made.attributes["ingest"]["frequency_range"] == [41e6, 1420e6]
    assert (
        f"1 of 4 files, the first is {name_of(TIMES[1], 41)}, say another frequency by RESTFREQ "
        "(1420 MHz) than on their FREQ axis (41 MHz): that of RESTFREQ is taken"
    ) in caplog.text


def test_of_a_duplicate_the_first_is_kept(tmp_path: Path, caplog) -> None:
    directory = night(tmp_path / "in", TIMES[:1], MHZ[:1])
    again = directory / f"{TIMES[0]}_41MHz_averaged_9_iterations-I-image.fits"
    write(again, truth(2, 2), header(41))
    made = ingest(directory)
    np.testing.assert_array_equal(image(made.path), truth(0, 0))
    kept = name_of(TIMES[0], 41)
    assert made.duplicates == ((again.name, kept),)
    assert f"{again.name} is left out: {kept} has the same time and frequency" in caplog.text


def test_every_file_is_named_with_size_checksum_and_beam(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", leave_out=[(0, 0)])
    write(directory / name_of(TIMES[0], 41), truth(0, 0), header(41, BMAJ=0.75))
    with xarray.open_zarr(ingest(directory).path) as cube:
        for t, time in enumerate(TIMES):
            for f, mhz in enumerate(MHZ):
                content = (directory / name_of(time, mhz)).read_bytes()
                assert str(cube["source_file"].to_numpy()[t, f]) == name_of(time, mhz)
                assert cube["source_bytes"][t, f] == len(content)
                assert cube["source_crc32c"][t, f] == crc32c(content)
        assert cube["beam_major"][0, 0] == 0.75
        assert cube["beam_major"][0, 1] == 0.5
        assert cube["beam_position_angle"][1, 1] == 30.0


def test_a_chunk_is_one_image_and_has_a_checksum(tmp_path: Path) -> None:
    made = ingest(night(tmp_path / "in"), chunk_lm=16)
    import zarr

    array = zarr.open_array(str(made.path), path="SKY", mode="r")
    assert array.chunks == (1, 1, 1, 16, 16)
    assert array.shards == (1, 3, 1, 32, 32)
    (sharding,) = read_document(made.path / "SKY")["codecs"]
    inner = sharding["configuration"]["codecs"]
    assert [codec["name"] for codec in inner] == ["bytes", "blosc", "crc32c"]
    blosc = inner[1]["configuration"]
    assert (blosc["cname"], blosc["shuffle"]) == ("zstd", "bitshuffle")


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    directory = night(tmp_path / "in")
    one, other = ingest(directory, name="one"), ingest(directory, name="other")
    assert content(one.path) == content(other.path)


def test_corrected_copies_are_kept_where_they_are_wanted(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", TIMES[:1])
    before = {path: path.read_bytes() for path in directory.iterdir()}
    fixed = tmp_path / "fixed"
    made = ingest(directory, fixed_dir=fixed)
    assert len(list(fixed.glob("*_fixed.fits"))) == 3
    assert {path: path.read_bytes() for path in directory.iterdir()} == before
    again = ingest(directory, fixed_dir=fixed, skip_header_fixing=True, name="again")
    assert content(made.path) == content(again.path)
