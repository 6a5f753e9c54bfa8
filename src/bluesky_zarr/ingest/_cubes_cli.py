"""``bluesky-zarr ingest cubes`` and ``fix-headers``."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

if TYPE_CHECKING:
    from .cubes import CubesConfig, Ingested, Progress

_EPILOG = (
    "Example: bluesky-zarr ingest cubes /data/2024-05-24 /data/cubes --workers 8. "
    "Each option can be set in the environment too, as BLUESKY_ZARR_CUBES_CHUNK_LM=2048. "
    "Exit status: 0 published, 1 not (what was done stays for --resume), 2 not begun."
)


def add_cubes(app: typer.Typer, tell_catalog: Callable[[Path, str], None]) -> None:
    """Add the commands for cubes to the group; `tell_catalog` puts a data set into a catalog."""

    @app.command(epilog=_EPILOG)
    def cubes(
        input_dir: Annotated[
            Path | None,
            typer.Argument(
                metavar="INPUT_DIR",
                help="Directory of the images (.fits, also .gz and .fz), and those beneath it. "
                "They are only read.",
            ),
        ] = None,
        output_dir: Annotated[
            Path | None, typer.Argument(metavar="OUTPUT_DIR", help="Directory for the cube.")
        ] = None,
        name: Annotated[
            str | None,
            typer.Option(help="Name of the cube: NAME.zarr; by default the input directory's."),
        ] = None,
        fixed_dir: Annotated[
            Path | None,
            typer.Option(
                metavar="DIR",
                help="Keep corrected copies of the images here; by default headers are corrected "
                "in memory.",
            ),
        ] = None,
        chunk_lm: Annotated[
            int | None,
            typer.Option(
                metavar="N", help="Pixels of a chunk along l and m; default 1024, 0: whole planes."
            ),
        ] = None,
        rebuild: Annotated[
            bool,
            typer.Option(
                "--rebuild",
                help="Build anew what exists. The old cube stays until the new one is published.",
            ),
        ] = False,
        resume: Annotated[
            bool,
            typer.Option("--resume", help="Go on with a conversion that was interrupted."),
        ] = False,
        skip_header_fixing: Annotated[
            bool,
            typer.Option(
                "--skip-header-fixing",
                help="Take headers as they are; with --fixed-dir, those of the copies there.",
            ),
        ] = False,
        on_duplicate: Annotated[
            str | None,
            typer.Option(
                metavar="first|fail",
                help="Two files of one time and frequency: keep the first and warn (the default), "
                "or stop.",
            ),
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(
                metavar="N",
                help="Processes of a Dask cluster on this machine; by default one process does "
                "it, with all cores for encoding.",
            ),
        ] = None,
        scheduler: Annotated[
            str | None,
            typer.Option(
                metavar="ADDRESS",
                help="Dask scheduler to work on: tcp://host:8786. Its workers must see both "
                "directories under the same paths.",
            ),
        ] = None,
        prefect: Annotated[
            bool, typer.Option("--prefect", help="Run the steps as a Prefect flow.")
        ] = False,
        log_level: Annotated[
            str | None,
            typer.Option(
                metavar="LEVEL", help="DEBUG, INFO, WARNING (the default) or ERROR: what is told."
            ),
        ] = None,
        tiled: Annotated[
            str | None,
            typer.Option(
                "--tiled",
                metavar="URI",
                help="Put the cube into the catalog of this Tiled server; its key is in "
                "TILED_API_KEY.",
            ),
        ] = None,
    ) -> None:
        """Make one cube of radio images: one FITS file for each time step and subband.

        Time, frequency, grid and beam of every file are looked at first; headers are put right in
        memory. The cube is built beside its place, validated, and appears there at once and whole.
        A conversion that was interrupted goes on with --resume.
        """
        given = {
            "input_dir": input_dir,
            "output_dir": output_dir,
            "name": name,
            "fixed_dir": fixed_dir,
            "chunk_lm": chunk_lm,
            "rebuild": rebuild or None,
            "resume": resume or None,
            "skip_header_fixing": skip_header_fixing or None,
            "on_duplicate": on_duplicate,
            "workers": workers,
            "scheduler": scheduler,
            "prefect": prefect or None,
            "log_level": log_level,
            "tiled": tiled,
        }
        with _exit_status():
            from .cubes import CubesConfig

            config = CubesConfig(**{k: v for k, v in given.items() if v is not None})  # pyright: ignore[reportArgumentType] checked by it
            with _logging(config.log_level):
                made = _ingest(config)
        missing = f", {len(made.missing)} missing (NaN)" if made.missing else ""
        times, subbands, _, n_l, n_m = made.shape
        typer.echo(
            f"{made.path}: {made.files} images, {times} time steps x {subbands} subbands of "
            f"{n_l} x {n_m} pixels{missing}"
        )
        if config.tiled:
            tell_catalog(made.path, config.tiled)

    @app.command(name="fix-headers")
    def fix_headers_command(
        input_dir: Annotated[
            Path, typer.Argument(metavar="INPUT_DIR", help="Directory of the images.")
        ],
        fixed_dir: Annotated[
            Path, typer.Argument(metavar="FIXED_DIR", help="Directory for the copies.")
        ],
    ) -> None:
        """Write corrected copies of radio images, and say what was changed in each.

        BSCALE and BZERO are applied, absent axes and cards added, blanks stripped. The originals
        are never changed.
        """
        with _exit_status("the copies that were written stay"):
            from .cubes import fix_headers

            for fixed in fix_headers(input_dir, fixed_dir):
                typer.echo(f"{fixed.path}: {'; '.join(fixed.changes) or 'nothing to change'}")


def _ingest(config: CubesConfig) -> Ingested:
    from .cubes import OutputExistsError, ingest_cube

    run: Callable[..., Ingested] = ingest_cube
    if config.prefect:
        from .cubes._flow import run_flow as run
    try:
        with _bar() as progress:
            return run(config, progress)
    except OutputExistsError as error:
        if config.resume or not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
        typer.echo(f"{error}", err=True)
        answer = typer.prompt("resume, rebuild or stop?", default="stop", err=True).strip().lower()
        if answer not in ("resume", "rebuild"):
            raise typer.Exit(2) from None
        with _bar() as progress:
            return run(config.model_copy(update={answer: True}), progress)


def _exit_status(
    left: str = "what was converted stays, go on with --resume",
) -> contextlib.AbstractContextManager[None]:
    from ._cli import exit_status

    return exit_status(left)


class _Told(logging.StreamHandler[TextIO]):
    """Writes to the standard error stream of the moment: a progress bar puts one above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


@contextlib.contextmanager
def _logging(level: str) -> Iterator[None]:
    """Tell on the standard error stream what the conversion logs."""
    logger = logging.getLogger("bluesky_zarr.ingest")
    handler = _Told()
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(level)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextlib.contextmanager
def _bar() -> Iterator[Progress | None]:
    """A progress bar with files, bytes and the time left, where there is a terminal for it."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    columns: Any = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[files]}"),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console, transient=True) as bars:
        yield _Bar(bars)


class _Bar:
    def __init__(self, bars: Any) -> None:
        self._bars = bars
        self._task = bars.add_task("headers", total=None, files="")
        self._files = self._of = 0

    def looked_at(self, done: int, total: int) -> None:
        self._bars.update(self._task, files=f"{done}/{total} files")

    def begin(self, files: int, nbytes: int) -> None:
        self._of = files
        self._bars.reset(self._task, total=nbytes, description="images", files=f"0/{files} files")

    def converted(self, files: int, nbytes: int) -> None:
        self._files += files
        shown = f"{self._files}/{self._of} files"
        self._bars.update(self._task, advance=nbytes, files=shown)
