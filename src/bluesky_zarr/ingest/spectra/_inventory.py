"""What the first look found, kept on disk until it is written: the headers of a million files do
not fit into memory.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from bluesky_zarr.ingest._files import SourceFile, stem
from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest._units import converted, frequency_range
from bluesky_zarr.ingest.spectra._schema import METHOD
from bluesky_zarr.ingest.spectra._survey import Surveyed

Row = dict[str, Any]
"""Of one spectrum: the values of arrays over spectra, by their keys in the store."""


@dataclass
class Inventory:
    """The files of a data set, and what all of them have in common.

    Built file by file, in the order of the rows. What a row has beside its pixels goes to a file
    without a name in `directory`, of which nothing is left when the process ends.
    """

    directory: Path
    files: list[SourceFile] = field(default_factory=list)
    n_pix: int = 0
    wavelength_unit: str = ""
    flux_unit: str = ""
    media: set[str] = field(default_factory=set)
    one_grid: bool = True
    present: set[str] = field(default_factory=set)
    params: set[str] = field(default_factory=set)
    headers: dict[str, None] = field(default_factory=dict)
    instruments: set[str] = field(default_factory=set)
    wavelength_range: tuple[float, float] = (np.inf, -np.inf)
    time_range: tuple[float, float] = (np.inf, -np.inf)
    _grid: bytes = b""
    _stems: dict[str, int] = field(default_factory=dict)
    _rows: IO[bytes] = field(init=False)

    def __post_init__(self) -> None:
        self._rows = tempfile.TemporaryFile(dir=self.directory)  # noqa: SIM115 (closed by close)

    def close(self) -> None:
        """Let go of what is kept on disk."""
        self._rows.close()

    def add(self, found: Surveyed) -> None:
        """Take one more file.

        Raises
        ------
        FitsError
            It cannot be in one data set with the first: other units, air and vacuum wavelengths.
        """
        if not self.files:
            self.wavelength_unit = found.wavelength_unit
            self.flux_unit = found.flux_unit
            self._grid = found.grid
        limits = self._limits(found)
        self.media.add(found.medium)
        # In another unit the same wavelengths are not bit for bit the same any more.
        if found.grid != self._grid or found.wavelength_unit != self.wavelength_unit:
            self.one_grid = False
        self.n_pix = max(self.n_pix, found.n_pix)
        self.present |= set(found.present)
        self.params |= set(found.params)
        self.headers |= dict.fromkeys(found.headers)
        self.wavelength_range = _wider(self.wavelength_range, *limits)
        row = found.row
        if row["instrument"]:
            self.instruments.add(row["instrument"])
        if not np.isnan(row["mjdate"]):
            exposure = 0.0 if np.isnan(row["exptime"]) else max(0.0, row["exptime"])
            self.time_range = _wider(
                self.time_range, row["mjdate"], row["mjdate"] + exposure / 86400
            )
        self.files.append(found.file)
        values: Row = {
            METHOD: found.method,
            "metadata/spec_id": self._spec_id(found.file.path),
            "metadata/source_path": str(found.file.path),
            "metadata/source_bytes": found.file.size,
            "metadata/source_sha256": found.file.sha256,
        }
        for group, part in (
            ("metadata", row),
            ("metadata", found.headers),
            ("params", found.params),
        ):
            values |= {f"{group}/{name}": value for name, value in part.items()}
        pickle.dump(values, self._rows)

    def _limits(self, found: Surveyed) -> tuple[float, float]:
        """The ends of a spectrum in the unit of all, once it can be one of them."""
        first = self.files[0].path if self.files else found.file.path
        limits = converted(np.array(found.limits), found.wavelength_unit, self.wavelength_unit)
        if limits is None:
            what = f"its wavelengths are in {found.wavelength_unit}"
            other = f"those of {first} in {self.wavelength_unit}"
        elif found.flux_unit != self.flux_unit:
            what = f"its flux is in {found.flux_unit}"
            other = f"that of {first} in {self.flux_unit}"
        elif len({found.medium, *self.media} - {""}) > 1:
            what = f"its wavelengths are those in {found.medium}"
            other = f"those of {first} are not"
        else:
            return float(limits[0]), float(limits[1])
        raise FitsError(found.file.path, f"{what}, {other}", "ingest it into a data set of its own")

    def _spec_id(self, path: Path) -> str:
        """The name of the file, with a number where another spectrum has it."""
        name = stem(path)
        unique = name
        while unique in self._stems:
            self._stems[name] += 1
            unique = f"{name}_{self._stems[name]}"
        self._stems[unique] = 1
        return unique

    def rows(self) -> Iterator[Row]:
        """What is known of each spectrum, in their order."""
        self._rows.seek(0)
        for _ in self.files:
            yield pickle.load(self._rows)

    @property
    def medium(self) -> str:
        """ "air" or "vacuum" where all files say so; else ""."""
        return next(iter(self.media)) if len(self.media) == 1 else ""

    @property
    def frequency_range(self) -> tuple[float, float] | None:
        """In Hz; None where the wavelengths' unit is none of a length."""
        return frequency_range(*self.wavelength_range, self.wavelength_unit)


def _wider(limits: tuple[float, float], low: float, high: float) -> tuple[float, float]:
    return min(limits[0], low), max(limits[1], high)
