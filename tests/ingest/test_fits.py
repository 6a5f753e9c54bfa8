"""Files are read as astropy reads them; what cannot be read is refused by name."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.utils.data import get_pkg_data_path

from bluesky_zarr.ingest import FitsError, find_files
from bluesky_zarr.ingest._files import SourceFile, stem
from bluesky_zarr.ingest._fits import column, image, open_fits
from bluesky_zarr.ingest._headers import HeaderProjection
from tests.ingest import files

ASTROPY = Path(get_pkg_data_path("", package="astropy.io.fits.tests")) / "data"
WCS = Path(get_pkg_data_path("", package="astropy.wcs.tests")) / "data"

DAMAGED = {
    "checksum_false.fits": "changed since it was written: Checksum verification failed",
    "memtest.fits": "cut off or damaged",
    "group_invalid.fits": "cut off or damaged",
    "lzw.fits.Z": "uncompress",
    "chandra_time.fits": "Checksum verification failed",
    "header_newlines.fits": "Checksum verification failed",
    "validate.fits": "Checksum verification failed",
    "header_with_time_wcslib71.fits": "cut off or damaged: File may have been truncated",
}
PACKAGED = sorted(
    path
    for folder in (ASTROPY, WCS)
    for path in folder.rglob("*")
    if path.name.lower().endswith((".fits", ".fits.gz", ".z"))
)


def native_bytes(values: np.ndarray) -> bytes:
    return np.ascontiguousarray(values, values.dtype.newbyteorder("=")).tobytes()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", PACKAGED, ids=lambda path: path.name)
def test_astropys_own_files_are_read_or_refused_with_a_reason(path: Path) -> None:
    if path.name in DAMAGED:  # as astropy ships them
        with pytest.raises(FitsError, match=DAMAGED[path.name]) as caught, open_fits(path) as hdus:
            _ = [hdu.data["DATA"] for hdu in hdus]
        assert str(path) in str(caught.value)
        return
    with open_fits(path) as ours, fits.open(path, memmap=False) as theirs:
        assert len(ours) == len(theirs)
        projected = HeaderProjection().of([hdu.header for hdu in ours])
        assert all(name == name.lower() and "__" not in name for name in projected)
        for own, other in zip(ours, theirs, strict=True):
            if own.is_image and own.data is not None and own.data.dtype.names is None:
                pixels = image(own)
                assert pixels.dtype.isnative
                assert native_bytes(pixels) == native_bytes(other.data)
            for name in getattr(own, "columns", fits.ColDefs([])).names:
                values, right = column(own, name), other.data[name]
                if values.dtype.kind in "iuf" and right.dtype != object:
                    assert values.dtype.isnative
                    known = ~np.isnan(values) if values.dtype.kind == "f" else slice(None)
                    np.testing.assert_array_equal(values[known], np.asarray(right)[known])


def test_a_scaled_image_is_scaled_once(tmp_path: Path) -> None:
    raw = np.array([[-3, 0, 7, -32768]], "i2")
    hdu = fits.PrimaryHDU(raw)
    hdu.header.update(BSCALE=0.5, BZERO=100.0, BLANK=-32768)
    hdu.writeto(tmp_path / "a.fits")
    # astropy wrote the pixels as they were given; the header says how to read them
    with fits.open(tmp_path / "a.fits", mode="update", do_not_scale_image_data=True) as hdus:
        hdus[0].header.update(BSCALE=0.5, BZERO=100.0, BLANK=-32768)
    with open_fits(tmp_path / "a.fits") as hdus:
        first, second = image(hdus[0]), image(hdus[0])
    np.testing.assert_array_equal(first, [[98.5, 100.0, 103.5, np.nan]])
    np.testing.assert_array_equal(first, second)


def test_scaled_columns_and_missing_integers(tmp_path: Path) -> None:
    columns = [
        fits.Column("FLUX", "3E", bscale=0.25, bzero=10, array=np.array([[10.25, 11.0, 12.5]])),
        fits.Column("N", "3J", null=-1, array=np.array([[4, -1, 6]], "i4")),
    ]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "a.fits")
    with open_fits(tmp_path / "a.fits") as hdus:
        np.testing.assert_array_equal(column(hdus[1], "FLUX"), [[10.25, 11.0, 12.5]])
        np.testing.assert_array_equal(column(hdus[1], "N"), [[4, np.nan, 6]])


def test_arrays_of_variable_length(tmp_path: Path) -> None:
    array = np.array([np.arange(5.0)], dtype=object)
    fits.BinTableHDU.from_columns([fits.Column("FLUX", "PD()", array=array)]).writeto(
        tmp_path / "a.fits"
    )
    with open_fits(tmp_path / "a.fits") as hdus:
        np.testing.assert_array_equal(column(hdus[1], "FLUX"), [[0, 1, 2, 3, 4]])


def test_gzip_and_fpack_are_unpacked(tmp_path: Path) -> None:
    data = np.arange(400, dtype="i4").reshape(20, 20)
    packed = fits.CompImageHDU(data, compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(tmp_path / "a.fits.fz")
    fits.PrimaryHDU(data).writeto(tmp_path / "a.fits")
    (tmp_path / "b.fits.gz").write_bytes(gzip.compress((tmp_path / "a.fits").read_bytes()))
    with open_fits(tmp_path / "a.fits.fz") as hdus:
        np.testing.assert_array_equal(image(hdus[1]), data)
    with open_fits(tmp_path / "b.fits.gz") as hdus:
        np.testing.assert_array_equal(image(hdus[0]), data)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda whole: b"", "it is empty \\(0 bytes\\)"),
        (lambda whole: b"hello world " * 300, "not a FITS file .* SIMPLE.*leave it out"),
        (lambda whole: whole[:-2880], "cut off or damaged"),
        (lambda whole: whole[: len(whole) // 2 + 17], "cut off or damaged"),
        (lambda whole: gzip.compress(whole)[:-200], "gzip compression is damaged.*fetch it again"),
        (
            lambda whole: whole[:-2500] + bytes([whole[-2500] ^ 1]) + whole[-2499:],
            "changed since it was written: Checksum verification failed",
        ),
    ],
    ids=["empty", "text", "a block short", "half", "half a gzip", "a flipped bit"],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, content: Callable[[bytes], bytes], words: str
) -> None:
    whole = files.eso(tmp_path / "whole.fits").read_bytes()
    path = tmp_path / "damaged.fits"
    path.write_bytes(content(whole))
    with pytest.raises(FitsError, match=words) as caught, open_fits(path) as hdus:
        column(hdus[1], "FLUX")
    assert str(caught.value).startswith(str(path))


def test_what_is_no_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(FitsError, match="there is no such file; check the path"):
        open_fits(tmp_path / "none.fits").__enter__()
    with pytest.raises(FitsError, match="it is a directory"):
        open_fits(tmp_path).__enter__()


def test_an_error_survives_the_way_from_another_process(tmp_path: Path) -> None:
    import pickle

    error = FitsError(tmp_path / "a.fits", "it is empty", "fetch it again")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.path) == (str(error), error.path)


def test_files_of_directories_and_patterns_come_once_and_in_order(tmp_path: Path) -> None:
    names = ["b/2.fits", "b/1.fits.gz", "b/deep/3.FIT", "b/.hidden.fits", "b/notes.txt", "a.fits"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_files([tmp_path / "a.fits", tmp_path / "b", f"{tmp_path}/b/*.fits"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "a.fits", "b/1.fits.gz", "b/2.fits", "b/deep/3.FIT",
    ]  # fmt: skip


def test_links_are_followed_and_no_directory_is_entered_twice(tmp_path: Path) -> None:
    for name in ("in/a/1.fits", "in/z/2.fits", "disk2/3.fits", "4.fits", "in/x.zarr/5.fits"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "in/.snapshot").symlink_to("z")
    (tmp_path / "in/again").symlink_to("a")
    (tmp_path / "in/day2").symlink_to(tmp_path / "disk2")
    (tmp_path / "in/a/self").symlink_to(".")
    (tmp_path / "in/up").symlink_to("..")
    found = find_files([tmp_path / "in"])
    assert [str(p.relative_to(tmp_path)) for p in found] == [
        "in/a/1.fits", "in/day2/3.fits", "in/z/2.fits",
    ]  # fmt: skip
    (tmp_path / "linked").symlink_to("in")
    assert len(find_files([tmp_path / "linked"])) == 3


def test_a_directory_that_cannot_be_read_is_not_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever is root may read every directory.
    (tmp_path / "a.fits").touch()
    (tmp_path / "locked").mkdir()
    scandir = os.scandir

    def deny(path: str) -> object:
        if os.fspath(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", deny)
    words = r"/locked: this directory cannot be read \(Permission denied\); change its permissions"
    with pytest.raises(FitsError, match=words):
        find_files([tmp_path])


def test_what_only_looks_like_a_file_is_found_and_refused_by_name(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "gone.fits").symlink_to("nowhere.fits")
    (tmp_path / "loop.fits").symlink_to("loop.fits")
    words = {"gone": "a link to nothing", "loop": "Too many levels", "pipe": "no regular file"}
    found = find_files([tmp_path])
    assert [path.stem for path in found] == list(words)
    for path in found:
        with pytest.raises(FitsError, match=f"{path}: .*{words[path.stem]}"):
            SourceFile.of(path)
        with pytest.raises(FitsError, match=f"{path}: .*{words[path.stem]}"):
            open_fits(path).__enter__()


def test_a_name_that_no_text_can_hold_is_refused(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/x\xff.fits"
    files.eso(tmp_path / "x.fits")
    os.rename(tmp_path / "x.fits", raw)
    (path,) = find_files([tmp_path])
    with pytest.raises(FitsError, match=r"x\\xff.fits: its path is no UTF-8 text; rename it"):
        SourceFile.of(path)


def test_inputs_that_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"no FITS file in the directory .*empty.* \(.fits"):
        find_files([tmp_path / "empty"])
    with pytest.raises(ValueError, match=r"no file matches '.*x\*.fits'; check the pattern"):
        find_files([f"{tmp_path}/x*.fits"])
    with pytest.raises(ValueError, match=r"no file or directory '.*none.fits'; check the path"):
        find_files([tmp_path / "none.fits"])
    with pytest.raises(ValueError, match="no file was named"):
        find_files([])


def test_a_file_that_changes_is_found_out(tmp_path: Path) -> None:
    path = files.eso(tmp_path / "a.fits")
    known = SourceFile.of(path)
    known.check_unchanged()
    path.write_bytes(path.read_bytes() + bytes(2880))
    with pytest.raises(
        FitsError, match=r"changed while it was ingested: \d+ bytes before, \d+ now"
    ):
        known.check_unchanged()
    path.unlink()
    with pytest.raises(FitsError, match="it is gone since"):
        known.check_unchanged()


def test_the_stem_of_a_name() -> None:
    assert [stem(Path(n)) for n in ("a.b.fits", "a.FITS.GZ", "a.fits.fz", "a.txt")] == [
        "a.b", "a", "a", "a.txt",
    ]  # fmt: skip
