"""One image: read from any flavour of FITS, with physical values; and its corrected copy."""

from __future__ import annotations

import gzip
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from crc32c import crc32c

from bluesky_zarr.ingest._fits import FitsError, check_is_file, open_fits
from bluesky_zarr.ingest.cubes._axes import Axes, card_value, find_axes
from bluesky_zarr.ingest.cubes._errors import ImageError, naming
from bluesky_zarr.ingest.cubes._header_fixes import fixed_header
from bluesky_zarr.store._files import replace_bytes

if TYPE_CHECKING:
    from astropy.io.fits import Header

_COPY_AGAIN = "copy it again from where it came from, or move it out of the input directory"
# Read at a time for a file's checksum.
_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class Image:
    """An image in memory.

    Parameters
    ----------
    header
        Corrected, unless that was not wanted.
    data
        Physical values, float32, in the order of the header's axes reversed, as astropy has them.
    axes
        Which axis is which.
    crc32c
        Of the file, as it is on disk.
    changes
        What was corrected, a text for each.
    """

    header: Header
    data: np.ndarray
    axes: Axes
    crc32c: int
    changes: tuple[str, ...] = ()

    @property
    def planes(self) -> np.ndarray:
        """The values as (polarization, l, m), a view."""
        order = [n for n in (self.axes.stokes, self.axes.freq, self.axes.ra, self.axes.dec) if n]
        # FITS counts axes from the fastest one.
        planes = self.data.transpose([self.axes.count - n for n in order])
        if self.axes.freq:
            planes = planes[:, 0] if self.axes.stokes else planes[0]
        return planes if self.axes.stokes else planes[np.newaxis]


def read_header(path: Path) -> tuple[Header, int]:
    """The header of the image in a file, as it stands there, and where in the file its pixels
    begin: 0 where the file is compressed. The rest of the file is not read.

    The file's size is compared with the header, where it is not compressed.

    Raises
    ------
    FitsError
        It is no FITS file, has no image or is truncated.
    """
    from astropy.io import fits

    size = check_is_file(path).st_size
    try:
        with warnings.catch_warnings(), naming(path):
            # Of what is cut off: that is an error below. Of cards that do not keep to the
            # standard: they are read as well as can be.
            warnings.simplefilter("ignore")
            if path.suffix.lower() == ".gz":
                # astropy would unpack all of it.
                with gzip.open(path) as unpacked:
                    header = fits.Header.fromfile(unpacked)
                if card_value(header, "NAXIS", 0) >= 2:
                    return header, 0
            with fits.open(path, memmap=False, lazy_load_hdus=True) as hdus:
                hdu = _image_hdu(hdus)
                header = hdu.header.copy()
                # Of a tile-compressed image, whatever its name, astropy knows the size of its
                # pixels only.
                if path.suffix.lower() == ".gz" or isinstance(hdu, fits.CompImageHDU):
                    return header, 0
                at = hdu.fileinfo()
                _check_size(hdu, size)
                return header, 0 if at["file"].compression else at["datLoc"]
    except FitsError:
        raise
    except PermissionError as error:
        raise FitsError(
            path, "this user may not read it", "change its permissions, or move it away"
        ) from error
    except Exception as error:  # what astropy raises depends on where it stumbles
        text = " ".join(str(error).split())
        raise FitsError(path, f"it is not FITS, or damaged ({text})", _COPY_AGAIN) from error


def read_image(path: Path, *, fix: bool = True, source: Path | None = None) -> Image:
    """Read the image in a file: plain, gzip or fpack (tile-compressed); with BSCALE, BZERO and
    BLANK applied, by astropy.

    Parameters
    ----------
    path
        Of the file.
    fix
        Correct the header.
    source
        The file whose checksum counts, if not this one.

    Raises
    ------
    FitsError
        It cannot be read or used.
    """
    found = _checksum(source or path)
    with open_fits(path) as hdus, naming(path):
        hdu = _image_hdu(hdus)
        # astropy drops the cards of what it applies, from this header, too.
        stored = hdu.header.copy()
        data = hdu.data
        if data is None:
            raise ImageError("its image has no data", _COPY_AGAIN)
        header, changes = fixed_header(stored, path.name) if fix else (stored, [])
        axes = find_axes(header)
        added = axes.count - data.ndim
        data = data.reshape((1,) * added + data.shape)
        # A big-endian array stays one until its chunks are encoded: once more through it is saved.
        if data.dtype != np.dtype(">f4"):
            data = data.astype("=f4")
        return Image(header, data, axes, found, tuple(changes))


def _checksum(path: Path) -> int:
    value = 0
    block = memoryview(bytearray(_BLOCK_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(block):
                value = crc32c(block[:count], value)
    except OSError as error:
        raise FitsError(
            path, f"it cannot be read ({error.strerror})", "check the path and its permissions"
        ) from error
    return value


def write_fixed(image: Image, target: Path) -> None:
    """Write the corrected copy of an image: whole or not at all, instead of an older one.

    Raises OSError where it cannot be written.
    """
    from astropy.io import fits

    copy = io.BytesIO()
    fits.PrimaryHDU(image.data, image.header).writeto(copy, output_verify="silentfix")
    replace_bytes(target, copy.getbuffer())


def _image_hdu(hdus: Any) -> Any:
    for hdu in hdus:
        if hdu.is_image and hdu.header.get("NAXIS", 0) >= 2:
            return hdu
    raise ImageError(
        "it has no image, only tables or headers", "move it out of the input directory"
    )


def _check_size(hdu: Any, size: int) -> None:
    needed = hdu.fileinfo()["datLoc"] + hdu.size
    if size < needed:
        raise ImageError(f"it is truncated: {size} bytes of at least {needed}", _COPY_AGAIN)
