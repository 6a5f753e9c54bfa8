"""The second look at the files: their pixels go into the arrays, file by file of the store."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bluesky_zarr.ingest._files import SourceFile
from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest._units import converted
from bluesky_zarr.ingest.spectra._arrays import KEYS
from bluesky_zarr.ingest.spectra._config import SpectraConfig
from bluesky_zarr.ingest.spectra._spectrum import Spectrum
from bluesky_zarr.ingest.spectra._survey import read_again
from bluesky_zarr.store import ArrayWriter
from bluesky_zarr.store._pool import in_order
from bluesky_zarr.store._whole_shard import WholeShard

BLOCK_BYTES = 2**30
"""What the blocks of one worker take at most; of wider spectra a part of the pixels is read at a
time.
"""


@dataclass(frozen=True)
class PixelJob:
    """Rows of the data set that no other job shares a file of the store with.

    Parameters
    ----------
    store
        The directory that is being written.
    first_row
        The row of the first of `files`, one for each row.
    names
        Fields of a `Spectrum` that are written.
    wavelength_unit
        That of the data set.
    """

    store: Path
    first_row: int
    files: Sequence[SourceFile]
    names: tuple[str, ...]
    wavelength_unit: str
    config: SpectraConfig


def write_pixels(job: PixelJob) -> int:
    """Write the rows of a job; returns how many.

    Raises
    ------
    FitsError
        A file was changed since it was looked at.
    OSError
        The disk does not take it.
    """
    writers = {name: ArrayWriter(job.store, KEYS[name]) for name in job.names}
    any_writer = next(iter(writers.values()))
    n_pix = any_writer.shape[1]
    rows, columns = any_writer.chunks
    with contextlib.ExitStack() as stack:
        shards: dict[str, WholeShard] = {}
        if any_writer.shards is not None:
            place = (job.first_row // any_writer.shards[0], 0)
            # They take their places when all is written, or none of them does.
            shards = {
                name: stack.enter_context(writer.shard(place)) for name, writer in writers.items()
            }
        for start in range(0, len(job.files), rows):
            files = job.files[start : start + rows]
            for part in _parts(n_pix, columns, len(files), writers):
                blocks = _read(job, files, n_pix, part, writers)
                for name, block in blocks.items():
                    corner = (job.first_row + start, part.start)
                    _put(writers[name], shards.get(name), corner, block)
    return len(job.files)


def write_common_wavelength(
    store: Path, file: SourceFile, wavelength_unit: str, config: SpectraConfig
) -> None:
    """Write the wavelengths that all spectra have, from the first file."""
    spectrum = in_unit(read_again(file, config), wavelength_unit, file.path)
    ArrayWriter(store, KEYS["wavelength"]).write((0,), spectrum.wavelength)


def _parts(n_pix: int, columns: int, rows: int, writers: dict[str, ArrayWriter]) -> Iterator[slice]:
    """The pixels in parts of whole chunks that fit into memory together; mostly one."""
    width = sum(np.dtype(writer.dtype).itemsize for writer in writers.values()) * rows
    step = max(1, BLOCK_BYTES // (width * columns)) * columns
    for start in range(0, n_pix, step):
        yield slice(start, min(start + step, n_pix))


def _read(
    job: PixelJob,
    files: Sequence[SourceFile],
    n_pix: int,
    part: slice,
    writers: dict[str, ArrayWriter],
) -> dict[str, np.ndarray]:
    shape = (len(files), part.stop - part.start)
    blocks = {name: np.full(shape, np.nan, writer.dtype) for name, writer in writers.items()}
    for row, file in enumerate(files):
        spectrum = in_unit(read_again(file, job.config), job.wavelength_unit, file.path)
        for name, block in blocks.items():
            values = getattr(spectrum, name)
            if values is not None:
                piece = values[part]
                block[row, : piece.size] = piece
    return blocks


def in_unit(spectrum: Spectrum, unit: str, path: Path) -> Spectrum:
    """The spectrum with its wavelengths in another unit, as astropy converts them."""
    values = converted(spectrum.wavelength, spectrum.wavelength_unit, unit)
    if values is None:
        raise FitsError(
            path,
            f"its wavelengths are in {spectrum.wavelength_unit}, which is not converted to {unit}",
            "ingest it into a data set of its own",
        )
    return replace(spectrum, wavelength=values, wavelength_unit=unit)


def _put(
    writer: ArrayWriter, shard: WholeShard | None, corner: tuple[int, int], block: np.ndarray
) -> None:
    if shard is None:
        writer.write(corner, block)
        return
    columns = writer.chunks[1]
    starts = range(0, block.shape[1], columns)
    pieces = (functools.partial(writer.encoded, block[:, n : n + columns]) for n in starts)
    rows = slice(corner[0], corner[0] + len(block))
    for start, encoded in zip(starts, in_order(pieces), strict=True):
        first = corner[1] + start
        shard.append(writer.number((rows, slice(first, first + columns))), encoded)
