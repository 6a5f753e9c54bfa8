"""Spectra from FITS files into one published data set."""

from __future__ import annotations

import contextlib
import hashlib
import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bluesky_zarr.ingest._errors import IngestError
from bluesky_zarr.ingest._files import find_files
from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest._summary import Summary, source_summary
from bluesky_zarr.ingest._workers import Workers
from bluesky_zarr.ingest.spectra import _schema as schema
from bluesky_zarr.ingest.spectra._arrays import KEYS, create_arrays
from bluesky_zarr.ingest.spectra._checks import check_spectra
from bluesky_zarr.ingest.spectra._columns import write_columns
from bluesky_zarr.ingest.spectra._config import SpectraConfig
from bluesky_zarr.ingest.spectra._inventory import Inventory
from bluesky_zarr.ingest.spectra._pixels import (
    PixelJob,
    write_common_wavelength,
    write_pixels,
)
from bluesky_zarr.ingest.spectra._survey import Skipped, survey
from bluesky_zarr.store import BatchStore, InvalidStoreError, Report
from bluesky_zarr.store._batch import LOCK
from bluesky_zarr.store._paths import local_path
from bluesky_zarr.store._provenance import git_commit, utc_now

Progress = Callable[[str, int, int], None]
"""Called with what is done ("looking", "writing", "checking"), how many spectra of it, and of how
many.
"""

# Of so many, the store itself says why they are not in it.
_MOST_SKIPPED = 1000


@dataclass(frozen=True)
class IngestedSpectra:
    """What became of the files: the published data set, its numbers of spectra and pixels, and the
    files that are not in it.
    """

    path: Path
    n_spec: int
    n_pix: int
    skipped: tuple[Skipped, ...]


def ingest_spectra(
    inputs: Sequence[str | Path],
    output: str | Path,
    config: SpectraConfig | None = None,
    *,
    progress: Progress | None = None,
) -> IngestedSpectra:
    """Make one published data set of spectra (schema 2.0) from FITS files, one spectrum each.

    Everything is built in ``<output>.tmp``, validated, made durable and then renamed; where
    something goes wrong the ``.tmp`` is deleted, and one that a dead process left is replaced.

    Parameters
    ----------
    inputs
        Files, directories, patterns; see `find_files`. The spectra are in their order.
    output
        The data set, ``.../NAME.zarr``; it must not exist.
    config
        Settings; by default those of the environment.
    progress
        Told how far it is.

    Raises
    ------
    ValueError
        Inputs that name no file, or an output that is no ``.zarr``.
    FileExistsError
        The output exists.
    BlockingIOError
        Somebody else is writing it; the message says who.
    FitsError
        A file cannot be used, and `config.on_error` is "fail"; it is in other units than the first
        one; or it was changed meanwhile.
    IngestError
        No file can be used, or a worker died.
    InvalidStoreError
        The data set did not pass its validation; `report` says where.
    OSError
        The disk refused.
    """
    config = config or SpectraConfig()
    progress = progress or (lambda _what, _done, _of: None)
    target = local_path(output)
    if target.suffix != ".zarr" or not target.stem:
        raise ValueError(
            f"the output {str(output)!r} does not end with .zarr; give the data set's path last, "
            "for example spectra.zarr"
        )
    files = find_files(inputs)
    with _built_from_nothing(target) as store, contextlib.ExitStack() as stack:
        building = store
        if config.scratch is not None:
            building = stack.enter_context(_built_from_nothing(_in_scratch(config.scratch, target)))
        inventory = Inventory(building.path.parent)
        stack.callback(inventory.close)
        # The first to go, so that nothing is deleted while somebody still writes.
        workers = stack.enter_context(Workers(config.workers))
        skipped = _look(files, config, inventory, workers, progress)
        building.set_attributes("", _attributes(inventory, skipped))
        create_arrays(building, inventory)
        write_columns(building.path, inventory)
        _write(building.path, inventory, config, workers, progress)
        progress("checking", 0, len(inventory.files))
        report = Report(building.path, "validate")
        check_spectra(building.path, report)
        if not report:
            raise InvalidStoreError(report)
        if building is not store:
            _copy(building.path, store.path)
        store.publish(deep=building is not store)
        progress("checking", len(inventory.files), len(inventory.files))
        return IngestedSpectra(target, len(inventory.files), inventory.n_pix, tuple(skipped))


@contextlib.contextmanager
def _built_from_nothing(target: Path) -> Iterator[BatchStore]:
    """A store that is discarded where the block does not publish it.

    What a dead process left of it is no use: the files are still there, and who knows whether they
    are the same.
    """
    if target.with_name(f"{target.name}.tmp").is_dir():
        BatchStore(target, resume=True, codec=schema.CODEC).discard()
    # Only from here on is what is there ours to delete: somebody else may have been faster.
    store = BatchStore(target, codec=schema.CODEC)
    try:
        yield store
    finally:
        if store.path.exists():
            store.discard()
        store.close()


def _in_scratch(scratch: Path, target: Path) -> Path:
    # Two data sets of one name may be built there at a time.
    digest = hashlib.sha256(str(target).encode()).hexdigest()[:12]
    return local_path(scratch) / f"{target.stem[:100]}-{digest}.zarr"


def _copy(source: Path, destination: Path) -> None:
    shutil.copytree(
        source,
        destination,
        ignore=shutil.ignore_patterns(LOCK),
        dirs_exist_ok=True,
    )


def _look(
    files: Sequence[Path],
    config: SpectraConfig,
    inventory: Inventory,
    workers: Workers,
    progress: Progress,
) -> list[Skipped]:
    skipped: list[Skipped] = []
    for done, found in enumerate(workers.map(survey, ((path, config) for path in files)), 1):
        if not isinstance(found, Skipped):
            inventory.add(found)
        elif config.on_error == "fail":
            raise FitsError(found.path, found.reason, found.advice)
        else:
            skipped.append(found)
        progress("looking", done, len(files))
    if not inventory.files:
        raise IngestError(
            "\n".join([f"none of {len(files)} files can be used:", *map(str, skipped[:10])])
        )
    return skipped


def _write(
    store: Path, inventory: Inventory, config: SpectraConfig, workers: Workers, progress: Progress
) -> None:
    n_spec = len(inventory.files)
    names = [name for name in KEYS if name in inventory.present]
    if not inventory.one_grid:
        names.insert(0, "wavelength")
    rows = schema.cut(n_spec, inventory.n_pix).file_rows
    jobs = (
        PixelJob(
            store=store,
            first_row=start,
            files=inventory.files[start : start + rows],
            names=tuple(names),
            wavelength_unit=inventory.wavelength_unit,
            config=config,
        )
        for start in range(0, n_spec, rows)
    )
    done = 0
    progress("writing", 0, n_spec)
    for count in workers.map(write_pixels, ((job,) for job in jobs)):
        done += count
        progress("writing", done, n_spec)
    if inventory.one_grid:
        write_common_wavelength(store, inventory.files[0], inventory.wavelength_unit, config)


def _attributes(inventory: Inventory, skipped: Sequence[Skipped]) -> dict[str, Any]:
    times = inventory.time_range
    summary = Summary(
        kind="spectra",
        instruments=tuple(sorted(inventory.instruments)),
        time_range=times if math.isfinite(times[0]) else None,
        frequency_range=inventory.frequency_range,
        counts={"spectrum": len(inventory.files), "pixel": inventory.n_pix},
        source=source_summary(inventory.files),
        arrays={
            KEYS[name]: 0 if name == "wavelength" and inventory.one_grid else 1
            for name in KEYS
            if name in {"wavelength", *inventory.present}
        },
    )
    return {
        **summary.attributes(),
        "schema_version": schema.VERSION,
        "ingest_pipeline": schema.PIPELINE,
        "created_at": utc_now(),
        "git_commit": git_commit(str(Path.cwd()))[:12] or "unknown",
        "skipped_files": len(skipped),
        "skipped": [
            {"path": str(file.path), "reason": file.reason} for file in skipped[:_MOST_SKIPPED]
        ],
    }
