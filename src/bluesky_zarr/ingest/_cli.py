"""``bluesky-zarr ingest``: archived files into data sets, and data sets into a catalog."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ._cubes_cli import add_cubes

Announce = Callable[[Path, str], str]
"""Puts a data set into the catalog at an address, and returns the uid of its run."""

FAILED, MISUSED, INTERRUPTED = 1, 2, 130
"""Exit statuses: the work was begun and failed; it was not begun; Ctrl-C, as shells have it."""

TiledOption = Annotated[
    str | None,
    typer.Option(
        "--tiled",
        metavar="URI",
        help="Put the data set into the catalog of this Tiled server; its key is in "
        "TILED_API_KEY, and it must be able to read the data set where it is.",
    ),
]

_SPECTRA_EPILOG = (
    "Example: bluesky-zarr ingest spectra night1/ 'night2/*.fits' uves.zarr --flux-unit adu. "
    "Each option can be set in the environment too, as BLUESKY_ZARR_INGEST_WORKERS=4. "
    "Exit status: 0 published, 1 not (nothing is left), 2 not begun."
)


def make_app(announce: Announce) -> typer.Typer:
    """The group of commands; the catalog's part is given by who knows the catalog."""
    app = typer.Typer(
        help="Archived FITS files into published data sets.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )

    @app.command(epilog=_SPECTRA_EPILOG)
    def spectra(
        inputs: Annotated[
            list[str],
            typer.Argument(
                metavar="INPUT",
                help="FITS files (also .gz and .fz), directories of them, quoted patterns. Each "
                "file holds one spectrum: a table with one row of arrays (ESO), a table with one "
                "row per pixel (SDSS), or a 1-D image with wavelengths in its header (IRAF).",
            ),
        ],
        output: Annotated[
            str, typer.Argument(metavar="OUTPUT", help="The data set: NAME.zarr, a new one.")
        ],
        on_error: Annotated[
            str | None,
            typer.Option(
                metavar="skip|fail",
                help="A file that cannot be used: leave it out and say why (skip, the default), or "
                "stop (fail).",
            ),
        ] = None,
        workers: Annotated[
            int | None,
            typer.Option(metavar="N", help="Processes that read files and write; default 1."),
        ] = None,
        scratch: Annotated[
            Path | None,
            typer.Option(
                metavar="DIR", help="Build the data set here, on a fast local disk, then copy it."
            ),
        ] = None,
        wavelength_unit: Annotated[
            str | None,
            typer.Option(
                metavar="UNIT", help="Of wavelengths in files that do not say: Angstrom, nm."
            ),
        ] = None,
        flux_unit: Annotated[
            str | None,
            typer.Option(
                metavar="UNIT", help="Of fluxes in files that do not say: adu, dimensionless."
            ),
        ] = None,
        source_type: Annotated[
            str | None,
            typer.Option(
                metavar="TYPE",
                help="observed (the default), synthetic, emulator, forward_model or stacked.",
            ),
        ] = None,
        flux_type: Annotated[
            str | None,
            typer.Option(
                metavar="TYPE", help="flux or intensity; by default as the column is called."
            ),
        ] = None,
        simulator: Annotated[
            str | None,
            typer.Option(
                metavar="NAME", help="What made synthetic spectra, where the file does not say."
            ),
        ] = None,
        exclude_header: Annotated[
            list[str] | None,
            typer.Option(
                metavar="PATTERN",
                help="Header keywords to leave out beside those that always are, such as "
                "'ESO DET *'; can be given several times.",
            ),
        ] = None,
        tiled: TiledOption = None,
    ) -> None:
        """Make one data set (schema 2.0) of many spectra.

        It is built beside OUTPUT, validated, and appears there at once and whole, or not at all.
        Files are only read.
        """
        given = {
            "on_error": on_error,
            "workers": workers,
            "scratch": scratch,
            "wavelength_unit": wavelength_unit,
            "flux_unit": flux_unit,
            "source_type": source_type,
            "flux_type": flux_type,
            "simulator": simulator,
            "exclude_header": exclude_header or None,
            "tiled": tiled,
        }
        with exit_status():
            from .spectra import SpectraConfig, ingest_spectra

            config = SpectraConfig(**{k: v for k, v in given.items() if v is not None})  # pyright: ignore[reportArgumentType] checked by it
            with _bar() as progress:
                made = ingest_spectra(inputs, output, config, progress=progress)
        for file in made.skipped:
            typer.echo(f"skipped {file}", err=True)
        left_out = f", {len(made.skipped)} files left out" if made.skipped else ""
        typer.echo(f"{made.path}: {made.n_spec} spectra of {made.n_pix} pixels{left_out}")
        if config.tiled:
            tell_catalog(announce, made.path, config.tiled)

    add_cubes(app, lambda path, uri: tell_catalog(announce, path, uri))

    @app.command(name="announce")
    def announce_command(
        path: Annotated[Path, typer.Argument(metavar="PATH", help="A published data set.")],
        uri: Annotated[
            str,
            typer.Argument(metavar="URI", help="Of a Tiled server, whose key is in TILED_API_KEY."),
        ],
    ) -> None:
        """Put a data set into a Tiled catalog, as a run with the plan name "ingest"."""
        tell_catalog(announce, path, uri)

    return app


def tell_catalog(announce: Announce, path: Path, uri: str) -> None:
    """Put a data set into a catalog; where that fails, the data set stays, and exit status is 1."""
    try:
        uid = announce(path, uri)
    except Exception as error:  # of the network, of the server, of the plug-in
        typer.echo(
            f"Error: {path} is not in the catalog at {uri} ({type(error).__name__}: {error}). "
            f"The data set is as it was; when the catalog answers, use: "
            f"bluesky-zarr ingest announce {path} {uri}",
            err=True,
        )
        raise typer.Exit(FAILED) from error
    typer.echo(f"{path}: run {uid} in the catalog at {uri}")


@contextlib.contextmanager
def exit_status(left: str = "nothing is left of the data set") -> Iterator[None]:
    """What goes wrong in the block is one message, and the exit status that it deserves; what is
    `left` is told where the system failed.
    """
    from pydantic import ValidationError

    from ..store import InvalidStoreError
    from ._errors import IngestError
    from ._fits import FitsError

    try:
        yield
    except KeyboardInterrupt:
        typer.echo(f"Stopped: {left}", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except ImportError as error:
        if (error.name or "").startswith("bluesky_zarr"):
            raise  # not for the user to install
        text = str(error)
        if "pip install" not in text:
            text += ". Ingest needs more than the core: pip install 'bluesky-zarr[ingest]'"
        typer.echo(f"Error: {text}", err=True)
        raise typer.Exit(MISUSED) from error
    except ValidationError as error:
        for found in error.errors():
            typer.echo(f"Error: {_in_words(dict(found))}", err=True)
        raise typer.Exit(MISUSED) from error
    except (FitsError, IngestError, InvalidStoreError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(FAILED) from error
    except (ValueError, FileExistsError, BlockingIOError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(MISUSED) from error
    except OSError as error:
        place = f" ({error.filename})" if error.filename else ""
        typer.echo(f"Error: {error.strerror or error}{place}; {left}", err=True)
        raise typer.Exit(FAILED) from error


def _in_words(found: dict[str, Any]) -> str:
    """What pydantic found wrong, as whoever typed it knows it."""
    name = "-".join(str(part) for part in found["loc"][:1])
    what = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] == "missing":
        return f"{name.upper()} is not given; see --help"
    given = found["input"]
    text = repr(str(given) if isinstance(given, Path) else given)
    return f"--{name.replace('_', '-')} {text}: {what}" if name else what


@contextlib.contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar with the time left, where there is a terminal to draw it on."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _what, _done, _of: None
        return
    columns: Any = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def show(what: str, done: int, of: int) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=of)
            progress.update(tasks[what], completed=done, total=of)

        yield show
