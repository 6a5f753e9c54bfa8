"""Radio images as an array of antennas writes them, whose values are known."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

TIMES = ("20240524_050019", "20240524_050029", "20240524_050039")
MHZ = (41, 46, 50)
SHAPE = (24, 20)  # declination, right ascension


def truth(time: int, frequency: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """The image of a time step and a subband: float32 (dec, ra)."""
    rng = np.random.default_rng(1000 * time + frequency)
    return (rng.standard_normal(shape) + 10 * time + frequency).astype("float32")


def header(mhz: float, shape: tuple[int, ...] = SHAPE, **cards: Any) -> fits.Header:
    """A whole and correct header, of 4 axes; a card that is None is left out."""
    dec, ra = shape
    values = {
        "CTYPE1": "RA---SIN", "CRPIX1": ra / 2 + 1, "CDELT1": -0.125, "CRVAL1": 180.5,
        "CUNIT1": "deg",
        "CTYPE2": "DEC--SIN", "CRPIX2": dec / 2 + 1, "CDELT2": 0.125, "CRVAL2": 37.25,
        "CUNIT2": "deg",
        "CTYPE3": "FREQ", "CRPIX3": 1.0, "CDELT3": 24e3, "CRVAL3": mhz * 1e6, "CUNIT3": "Hz",
        "CTYPE4": "STOKES", "CRPIX4": 1.0, "CDELT4": 1.0, "CRVAL4": 1.0, "CUNIT4": "",
        "RESTFREQ": mhz * 1e6, "RESTFRQ": mhz * 1e6, "SPECSYS": "LSRK", "TIMESYS": "UTC",
        "RADESYS": "FK5", "EQUINOX": 2000.0, "LONPOLE": 180.0, "LATPOLE": 90.0,
        "BUNIT": "Jy/beam", "BMAJ": 0.5, "BMIN": 0.25, "BPA": 30.0,
        "DATE-OBS": "2024-05-24T05:00:19", "TELESCOP": "OVRO-LWA", "INSTRUME": "LWA-352",
        "OBJECT": "zenith",
    }  # fmt: skip
    made = fits.Header()
    given = {card.replace("_OBS", "-OBS"): value for card, value in cards.items()}
    for card, value in {**values, **given}.items():
        if value is not None:
            made[card] = value
    return made


def name_of(time: str, mhz: float, rest: str = "", stokes: str = "I") -> str:
    return f"{time}_{mhz:g}MHz_averaged_2_iterations-{stokes}-image{rest}.fits"


def write(
    path: Path, values: np.ndarray, head: fits.Header, *, ndim: int = 4, kind: str = "plain"
) -> Path:
    """One image in one of the flavours of FITS."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = head.copy()
    for axis in range(ndim + 1, 5):
        for card in ("CTYPE", "CRPIX", "CDELT", "CRVAL", "CUNIT"):
            head.remove(f"{card}{axis}", ignore_missing=True)
    values = values.reshape((1,) * (ndim - values.ndim) + values.shape)
    if kind == "fpack":
        hdu = fits.CompImageHDU(values, head, compression_type="GZIP_2", quantize_level=0.0)
        path = path.with_name(f"{path.name}.fz")
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    elif kind == "gzip":
        written = io.BytesIO()
        fits.PrimaryHDU(values, head).writeto(written)
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress(written.getvalue(), 1))
    else:
        fits.PrimaryHDU(values, head).writeto(path)
    return path


def write_scaled(
    path: Path, stored: np.ndarray, head: fits.Header, bscale: float, bzero: float
) -> Path:
    """An image of integers (or floats) that BSCALE and BZERO make physical ones."""
    hdu = fits.PrimaryHDU(stored.reshape((1,) * (4 - stored.ndim) + stored.shape), head)
    written = io.BytesIO()
    hdu.writeto(written)
    # Not through astropy, which would scale once more.
    content = written.getvalue()
    with fits.open(io.BytesIO(content), do_not_scale_image_data=True) as hdus:
        at = hdus[0].fileinfo()["datLoc"]
        made = hdus[0].header
    made["BSCALE"], made["BZERO"] = bscale, bzero
    text = made.tostring()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() + content[at:])
    return path


def night(
    directory: Path,
    times: Iterable[str] = TIMES,
    frequencies: Iterable[float] = MHZ,
    shape: tuple[int, ...] = SHAPE,
    leave_out: Iterable[tuple[int, int]] = (),
) -> Path:
    """A directory with an image for each time and frequency, but for those that are left out."""
    missing = set(leave_out)
    for t, time in enumerate(times):
        for f, mhz in enumerate(frequencies):
            if (t, f) not in missing:
                write(directory / name_of(time, mhz), truth(t, f, shape), header(mhz, shape))
    return directory


def content(store: Path) -> dict[str, bytes]:
    """All files of a store but its root, whose attributes say when it was made."""
    return {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(store.rglob("*"))
        if path.is_file() and path != store / "zarr.json"
    }
