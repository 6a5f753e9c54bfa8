"""Reading FITS files: values as astropy gives them, in the machine's own byte order, and errors
that name the file and say what to do.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import lzma
import os
import stat
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from astropy.io.fits import BinTableHDU, HDUList

GZIP_MAGIC = b"\x1f\x8b"
LZW_MAGIC = b"\x1f\x9d"

_FETCH_AGAIN = "fetch it again from its archive, or leave it out"


class FitsError(ValueError):
    """A file that cannot be used: which, why (`reason`), and what to do about it (`advice`).

    Examples
    --------
    >>> print(FitsError("night1/a.fits", "it is empty", "fetch it again"))
    night1/a.fits: it is empty; fetch it again
    """

    def __init__(self, path: str | Path, reason: str, advice: str) -> None:
        # A name that is no UTF-8 could be neither shown nor stored.
        path = os.fsencode(path).decode("utf-8", "backslashreplace")
        super().__init__(path, reason, advice)  # these come back from another process, too
        self.path = Path(path)
        self.reason = reason
        self.advice = advice

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}; {self.advice}"


def check_is_file(path: Path) -> os.stat_result:
    """What the system says of a file that can be opened; a pipe, for one, would be waited for.

    Raises
    ------
    FitsError
        There is no file, or no regular one, or its path cannot be kept as text.
    """
    try:
        str(path).encode()
        found = os.stat(path)
    except UnicodeEncodeError:
        raise FitsError(path, "its path is no UTF-8 text", "rename it") from None
    except FileNotFoundError:
        if os.path.islink(path):
            raise FitsError(
                path, f"it is a link to nothing ({os.readlink(path)})", "mend or delete the link"
            ) from None
        raise FitsError(path, "there is no such file", "check the path") from None
    except OSError as error:
        raise FitsError(
            path, f"it cannot be read ({error.strerror})", "check the path and its permissions"
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise FitsError(path, "it is a directory", "name the files in it")
    if not stat.S_ISREG(found.st_mode):
        raise FitsError(path, "it is no regular file", "move it away, or leave it out")
    return found


@contextlib.contextmanager
def open_fits(path: Path, *, checksum: bool = True) -> Iterator[HDUList]:
    """Open a FITS file (plain, gzip or fpack), with everything checked that can be.

    All HDUs are there, and CHECKSUM and DATASUM hold where the file has them. What goes wrong while
    the data are read inside of the block becomes a `FitsError`, too. Nothing is mapped into memory:
    astropy cannot map scaled data, and a mapped file that is cut off kills the process. Without
    `checksum`, for a file that is read a second time, CHECKSUM and DATASUM are not compared.

    Raises
    ------
    FitsError
        No such file, no permission, not FITS, cut off, a checksum that differs.
    """
    from astropy.io import fits

    path = Path(path)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            hdus = fits.open(_content(path), memmap=False, lazy_load_hdus=False, checksum=checksum)
            texts = [str(warning.message) for warning in caught]
    except FitsError:
        raise
    except Exception as error:  # astropy raises OSError, ValueError, TypeError, IndexError, ...
        raise _not_readable(path, error) from error
    try:
        _check_warnings(path, texts)
        yield hdus
    except FitsError:
        raise
    except (OSError, ValueError, TypeError, EOFError, IndexError, zlib.error) as error:
        raise _not_readable(path, error) from error
    finally:
        hdus.close()


def _content(path: Path) -> Path | io.BytesIO:
    """What astropy is to open. A gzip file is unpacked here: astropy takes one that is cut off for
    a file with fewer HDUs, and says nothing.
    """
    check_is_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(2)
            if not start:
                raise FitsError(path, "it is empty (0 bytes)", _FETCH_AGAIN)
            if start == LZW_MAGIC:
                raise FitsError(
                    path, "it is compressed by `compress` (.Z)", "unpack it: uncompress FILE"
                )
            if start != GZIP_MAGIC:
                return path
            file.seek(0)
            with gzip.GzipFile(fileobj=file) as unpacked:
                return io.BytesIO(unpacked.read())
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise FitsError(path, f"its gzip compression is damaged ({error})", _FETCH_AGAIN) from error
    except PermissionError:
        raise FitsError(
            path, "this user may not read it", "change its permissions, or leave it out"
        ) from None


def _check_warnings(path: Path, texts: list[str]) -> None:
    """astropy only warns where a file is cut off or its checksum differs."""
    for text in texts:
        line = " ".join(text.split())
        if "verification failed" in line:
            raise FitsError(path, f"it was changed since it was written: {line}", _FETCH_AGAIN)
        if "truncated" in line or "Error validating header" in line:
            raise FitsError(path, f"it is cut off or damaged: {line}", _FETCH_AGAIN)


def _not_readable(path: Path, error: Exception) -> FitsError:
    text = " ".join(str(error).split())
    if "No SIMPLE card" in text or "does not appear to be a valid FITS file" in text:
        return FitsError(
            path,
            "it is not a FITS file (it does not begin with SIMPLE)",
            "leave it out, or convert it to FITS",
        )
    return FitsError(
        path,
        f"its data cannot be read, it is cut off or damaged ({type(error).__name__}: {text})",
        _FETCH_AGAIN,
    )


def native(values: Any) -> np.ndarray:
    """The same values in the machine's byte order, contiguous; FITS is big-endian.

    Examples
    --------
    >>> native(np.array([1.5], ">f4")).dtype.str
    '<f4'
    """
    array = np.asarray(values)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


def column(table: BinTableHDU, name: str) -> np.ndarray:
    """A column of a table, in native byte order, with TSCAL and TZERO applied, once.

    Elements of an integer column that are its TNULL become NaN, in float64. A column of one row of
    arrays has the shape (1, n), also where its arrays are of variable length; where several rows
    have arrays of different lengths, it is an array of objects.
    """
    rows_of_table: Any = table.data
    values = rows_of_table[name]
    if values.dtype == object:  # arrays of variable length
        rows = [native(row) for row in values]
        if len({row.shape for row in rows}) == 1:
            return np.stack(rows)
        ragged = np.empty(len(rows), dtype=object)
        ragged[:] = rows
        return ragged
    columns: Any = table.columns
    null = columns[name].null
    values = native(values)
    if null is None:
        return values
    raw = native(rows_of_table.view(np.ndarray)[name]).reshape(values.shape)
    missing = raw == null
    if not missing.any():
        return values
    return np.where(missing, np.nan, values.astype("float64"))


def image(hdu: Any) -> np.ndarray:
    """The pixels of an image HDU, in native byte order, physical: BSCALE, BZERO and BLANK are
    applied, once, by astropy, which then drops the cards from the header.
    """
    return native(hdu.data)
