"""Which images there are, and which time step, subband and grid each of them has."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bluesky_zarr.ingest._files import SUFFIXES, files_beneath, is_fits
from bluesky_zarr.ingest._fits import FitsError, check_is_file
from bluesky_zarr.ingest.cubes._axes import card_value, find_axes, polarizations, spectral_value
from bluesky_zarr.ingest.cubes._errors import ImageError, naming
from bluesky_zarr.ingest.cubes._grid import SpatialGrid
from bluesky_zarr.ingest.cubes._header_fixes import check_beam, fixed_header, frequency_of
from bluesky_zarr.ingest.cubes._image import read_header
from bluesky_zarr.ingest.cubes._names import fixed_name, stokes_in
from bluesky_zarr.ingest.cubes._plain import Plain
from bluesky_zarr.ingest.cubes._time import time_of

if TYPE_CHECKING:
    from astropy.io.fits import Header

_logger = logging.getLogger(__name__)

# Times and frequencies that differ by less are the same: headers and names round differently.
_TIME_STEP = 1e-3 / 86400
_FREQUENCY_STEP = 1.0


@dataclass(frozen=True, slots=True)
class Source:
    """One file: its path below the input directory, its size, when it was last changed (ns since
    1970), its time [MJD, UTC], frequency [Hz] and beam (major, minor, position angle) [deg]; and
    where its pixels are, if they can be read without astropy.
    """

    name: str
    nbytes: int
    mtime_ns: int
    time: float
    frequency: float
    beam: tuple[float, float, float]
    # Follows from the others: no part of what a fingerprint says.
    plain: Plain | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ImageSet:
    """Images of one spatial grid, each with its place on the axes of time and frequency.

    Parameters
    ----------
    directory
        The input directory.
    fixed_dir
        Where corrected copies are, if they are kept.
    fix
        Whether headers are corrected.
    times, frequencies
        The axes, [MJD, UTC] and [Hz], ascending, float64.
    polarizations
        Of every image: ("I",).
    grid
        Of every image.
    header
        Of the first image, corrected.
    sources
        The file of a time step and a subband, by their numbers.
    duplicates
        Files that were left out, each with the one that was kept.
    """

    directory: Path
    fixed_dir: Path | None
    fix: bool
    times: np.ndarray
    frequencies: np.ndarray
    polarizations: tuple[str, ...]
    grid: SpatialGrid
    header: Header
    sources: dict[tuple[int, int], Source]
    duplicates: tuple[tuple[str, str], ...]

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Of the cube: time, frequency, polarization, l, m."""
        return (len(self.times), len(self.frequencies), len(self.polarizations), *self.grid.shape)

    @property
    def nbytes(self) -> int:
        """Of all files."""
        return sum(source.nbytes for source in self.sources.values())

    @property
    def missing(self) -> list[tuple[int, int]]:
        """Time steps and subbands that no file has, by their numbers."""
        places = np.ndindex(len(self.times), len(self.frequencies))
        return [place for place in places if place not in self.sources]

    @cached_property
    def fingerprint(self) -> str:
        """A text that no other set of files has, and none with other options."""
        digest = hashlib.sha256(f"{self.fix} {self.fixed_dir is not None}\n".encode())
        for place in sorted(self.sources):
            source = self.sources[place]
            digest.update(f"{place} {source}\n".encode())
        return digest.hexdigest()


def find_images(directory: Path, *, passing_over: Path | None = None) -> list[Path]:
    """All FITS files beneath a directory, in order of their paths.

    See `files_beneath` for what is looked through and what is left out.

    Raises
    ------
    ValueError
        There is no such directory, or no FITS file in it.
    FitsError
        A directory cannot be read.
    """
    if not directory.is_dir():
        kind = "a file" if directory.exists() else "missing"
        raise ValueError(f"the input directory {str(directory)!r} is {kind}; check the path")
    found, others = [], 0
    for path in files_beneath(directory, passing_over=passing_over):
        if is_fits(path.name):
            found.append(path)
        else:
            others += 1
    if not found and not others:
        raise ValueError(f"the input directory {str(directory)!r} is empty; check the path")
    if not found:
        raise ValueError(
            f"the input directory {str(directory)!r} has {others} files, and the name of none ends "
            f"with {', '.join(SUFFIXES)}; check the path"
        )
    return sorted(found)


def discover(
    directory: str | Path,
    *,
    on_duplicate: str = "first",
    fix: bool = True,
    fixed_dir: str | Path | None = None,
    on_file: Callable[[int, int], None] | None = None,
) -> ImageSet:
    """Look at the headers of all images beneath a directory, and give each image its place.

    Parameters
    ----------
    directory
        Its FITS files and those in directories beneath it are taken.
    on_duplicate
        Of two files of one time and frequency: keep the "first", by path, and warn, or "fail".
    fix
        Correct headers; see `fix_headers`. Without, they are taken as they are.
    fixed_dir
        Where corrected copies are, or will be; it may be beneath the input directory.
    on_file
        Called with how many headers have been read, and of how many.

    Raises
    ------
    FitsError
        A file cannot be used; it is named, with what to do.
    ValueError
        No file was found.
    """
    directory = Path(os.path.abspath(Path(directory).expanduser()))
    copies = None if fixed_dir is None else Path(os.path.abspath(Path(fixed_dir).expanduser()))
    paths = find_images(directory, passing_over=copies if copies != directory else None)
    looked_at: list[_Look] = []
    first: _Look | None = None
    contradicting: list[_Look] = []
    for number, path in enumerate(paths, 1):
        look = _look(path, directory, copies, fix=fix)
        if first is None:
            first = look
            with naming(path):
                look.grid.check()
        looked_at.append(look if look is first else look.like(first))
        if abs(look.on_axis - look.source.frequency) > _FREQUENCY_STEP:
            contradicting.append(look)
        if on_file is not None:
            on_file(number, len(paths))
    assert first is not None
    if contradicting:
        one = contradicting[0]
        _logger.warning(
            "%d of %d files, the first is %s, say another frequency by RESTFREQ (%g MHz) than on "
            "their FREQ axis (%g MHz): that of RESTFREQ is taken",
            len(contradicting),
            len(paths),
            one.source.name,
            one.source.frequency / 1e6,
            one.on_axis / 1e6,
        )
    times, time_numbers = _numbered([look.source.time for look in looked_at], _TIME_STEP)
    frequencies, numbers = _numbered([look.source.frequency for look in looked_at], _FREQUENCY_STEP)
    sources: dict[tuple[int, int], Source] = {}
    duplicates = []
    for place, look in zip(zip(time_numbers, numbers, strict=True), looked_at, strict=True):
        kept = sources.setdefault(place, look.source)
        if kept is not look.source:
            if on_duplicate == "fail":
                raise FitsError(
                    directory / look.source.name,
                    f"it has the time (MJD {look.source.time:.6f}) and frequency "
                    f"({look.source.frequency / 1e6:g} MHz) of {kept.name}",
                    "move one of them out of the input directory, or keep the first with "
                    "--on-duplicate first",
                )
            _logger.warning(
                "%s is left out: %s has the same time and frequency", look.source.name, kept.name
            )
            duplicates.append((look.source.name, kept.name))
    assert first.header is not None
    return ImageSet(
        directory,
        copies,
        fix,
        times,
        frequencies,
        first.polarizations,
        first.grid,
        first.header,
        sources,
        tuple(duplicates),
    )


@dataclass(frozen=True, slots=True)
class _Look:
    """What the header of one file says; `on_axis` is the frequency on its FREQ axis, or where it
    has none, that of `source`.
    """

    path: Path
    source: Source
    grid: SpatialGrid
    polarizations: tuple[str, ...]
    units: str
    on_axis: float
    header: Any

    def like(self, first: _Look) -> _Look:
        """The same with everything shared that has to be the same; FitsError where it is not."""
        different = self.grid.differences(first.grid)
        if different:
            cards = ", ".join(f"{card} {a} and {b}" for card, (a, b) in different.items())
            raise FitsError(
                self.path,
                f"its grid is {self.grid}, that of {first.source.name} is {first.grid}: {cards}",
                "a cube has one grid; convert the files of each grid on their own, from a "
                "directory of their own, or regrid them first",
            )
        for what, mine, theirs in (
            ("polarization", ", ".join(self.polarizations), ", ".join(first.polarizations)),
            ("unit", self.units, first.units),
        ):
            if mine != theirs:
                raise FitsError(
                    self.path,
                    f"its {what} is {mine}, that of {first.source.name} is {theirs}",
                    "convert them on their own, from a directory of their own",
                )
        # One header and grid is kept, whatever the number of files.
        source = self.source
        if source.plain == first.source.plain:
            source = replace(source, plain=first.source.plain)
        return replace(
            self,
            source=source,
            grid=first.grid,
            polarizations=first.polarizations,
            units=first.units,
            header=None,
        )


def _look(path: Path, directory: Path, fixed_dir: Path | None, *, fix: bool) -> _Look:
    read = path
    if not fix and fixed_dir is not None:
        read = fixed_path(path, directory, fixed_dir)
        if not read.exists():
            raise FitsError(
                path,
                f"it has no corrected copy {str(read)!r}",
                "run `bluesky-zarr ingest fix-headers`, or leave out --skip-header-fixing",
            )
    # Before the header is read: a change while it is being read is found out then.
    found = check_is_file(path)
    stored, offset = read_header(read)
    header = stored
    with naming(read):
        time = time_of(header, path.name)
        frequency = frequency_of(header, path.name)
        beam = check_beam(header)
        if fix:
            header, _ = fixed_header(header, path.name)
        axes = find_axes(header)
        if frequency is None or axes.count != 4:
            raise ImageError(
                f"its header has to be corrected: it has {axes.count} axes of 4"
                + ("" if frequency else ", and nothing says its frequency"),
                "leave out --skip-header-fixing",
            )
        grid = SpatialGrid.of(header, axes)
        shown = polarizations(header, axes, stokes_in(path.name))
        units = str(card_value(header, "BUNIT", "")).strip()
        on_axis = spectral_value(header) or frequency
    name = path.relative_to(directory).as_posix()
    plain = None
    if fixed_dir is None:  # else there is a copy to be read, or to be made
        plain = Plain.of(stored, axes, offset, found.st_size)
    source = Source(name, found.st_size, found.st_mtime_ns, time, frequency, beam, plain)
    return _Look(path, source, grid, shown, units, on_axis, header)


def fixed_path(path: Path, directory: Path, fixed_dir: Path) -> Path:
    """Where the corrected copy of a file beneath `directory` is."""
    return fixed_dir / path.relative_to(directory).with_name(fixed_name(path.name))


def _numbered(values: list[float], step: float) -> tuple[np.ndarray, list[int]]:
    """The different values, ascending, and which of them each one is; what is less than `step`
    apart is the same.
    """
    order = np.argsort(values, kind="stable")
    numbers = [0] * len(values)
    axis: list[float] = []
    for i in order:
        if not axis or values[i] - axis[-1] > step:
            axis.append(values[i])
        numbers[i] = len(axis) - 1
    return np.array(axis, "float64"), numbers
