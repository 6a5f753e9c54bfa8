"""The files that an ingest starts from: found, and named so that they can be found again."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bluesky_zarr.ingest._fits import FitsError, check_is_file

SUFFIXES = (".fits", ".fit", ".fts", ".fits.gz", ".fit.gz", ".fts.gz", ".fits.fz", ".fz")
"""What the names of FITS files end with, in lower case."""


@dataclass(frozen=True)
class SourceFile:
    """A file as it was when it was read: absolute path, bytes, sha256 of its bytes, and when it was
    last changed (ns since 1970), by which a later change is found out.
    """

    path: Path
    size: int
    sha256: str
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> SourceFile:
        """Look at a file, and read it for its checksum.

        Raises
        ------
        FitsError
            It cannot be read.
        """
        path = Path(os.path.abspath(path))
        check_is_file(path)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                found = os.fstat(file.fileno())
        except OSError as error:
            raise FitsError(
                path, f"it cannot be read ({error.strerror})", "check it, or leave it out"
            ) from error
        return cls(path, found.st_size, digest, found.st_mtime_ns)

    def check_unchanged(self) -> None:
        """Raise `FitsError` if somebody has changed the file since."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            raise FitsError(
                self.path, f"it is gone since it was looked at ({error.strerror})", "start again"
            ) from error
        if (found.st_size, found.st_mtime_ns) != (self.size, self.mtime_ns):
            raise FitsError(
                self.path,
                f"it was changed while it was ingested: {self.size} bytes before, "
                f"{found.st_size} now",
                "start again when nobody writes it any more",
            )


def find_files(inputs: Sequence[str | Path]) -> list[Path]:
    """The FITS files that some paths, directories and patterns name, each once, in their order.

    A directory stands for all FITS files beneath it (see `files_beneath`), in order of their paths;
    a pattern (``night*/*.fits``, ``**`` for any depth) for what fits it.

    Raises
    ------
    ValueError
        One of them names no file.
    FitsError
        A directory cannot be read.

    Examples
    --------
    >>> find_files(["/nowhere/*.fits"])
    Traceback (most recent call last):
    ValueError: no file matches '/nowhere/*.fits'; check the pattern
    """
    found: dict[Path, None] = {}
    for given in inputs:
        path = Path(given).expanduser()
        if path.is_dir():
            beneath = sorted(p for p in files_beneath(path) if is_fits(p.name))
            if not beneath:
                raise ValueError(
                    f"there is no FITS file in the directory {str(path)!r} "
                    f"({', '.join(SUFFIXES)}); check the path, or name the files"
                )
        elif path.exists():
            beneath = [path]
        elif glob.has_magic(str(given)):
            matching = glob.glob(str(path), recursive=True)
            beneath = sorted(p for p in map(Path, matching) if p.is_file())
            if not beneath:
                raise ValueError(f"no file matches {str(given)!r}; check the pattern")
        else:
            raise ValueError(f"there is no file or directory {str(given)!r}; check the path")
        found.update(dict.fromkeys(Path(os.path.abspath(p)) for p in beneath))
    if not found:
        raise ValueError("no file was named; give FITS files, directories or patterns")
    return list(found)


def files_beneath(directory: Path, *, passing_over: Path | None = None) -> Iterator[Path]:
    """All files beneath a directory, of any kind and in no order.

    Links to directories are followed, so that a night on another disk counts; what several ways
    lead to is entered once, by the first of them, and nothing above the directory is. Hidden files
    and directories, stores (``*.zarr``, ``*.zarr.tmp``) and the directory `passing_over` are left
    out.

    Raises
    ------
    FitsError
        A directory cannot be read: nobody knows what would be missing.
    """

    def refuse(error: OSError) -> None:
        raise FitsError(
            error.filename,
            f"this directory cannot be read ({error.strerror})",
            "change its permissions, or move it away",
        ) from error

    top = directory.resolve()
    entered = {_identity(path) for path in (top, *top.parents)}
    for parent, names, files in os.walk(directory, onerror=refuse, followlinks=True):
        beneath = []
        for name in sorted(names):
            path = Path(parent, name)
            if (
                name.startswith(".")
                or name.endswith((".zarr", ".zarr.tmp"))
                or path == passing_over
            ):
                continue
            try:
                identity = _identity(path)
            except OSError as error:
                refuse(error)
                raise
            if identity not in entered:
                entered.add(identity)
                beneath.append(name)
        names[:] = beneath
        yield from (Path(parent, name) for name in files if not name.startswith("."))


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def is_fits(name: str) -> bool:
    """Whether a file of this name is looked at.

    Examples
    --------
    >>> is_fits("a-I-image.fits.gz"), is_fits("a-I-image.png"), is_fits(".a.fits")
    (True, False, False)
    """
    return not name.startswith(".") and name.lower().endswith(SUFFIXES)


def stem(path: Path) -> str:
    """The name of a FITS file without what says that it is one.

    Examples
    --------
    >>> stem(Path("/data/ADP.2016-09-20.fits.gz"))
    'ADP.2016-09-20'
    """
    name = path.name
    for suffix in sorted(SUFFIXES, key=len, reverse=True):
        if name.lower().endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)]
    return name
