"""The command line: ``bluesky-zarr`` with its commands, and the group ``ingest``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .ingest._cli import make_app as make_ingest

if TYPE_CHECKING:
    from .store import Report

__all__ = ["app"]

app = typer.Typer(
    help="N-D Zarr stores from bluesky runs: try, look, check, repair, lay out anew.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _announce(path: Path, uri: str) -> str:
    from .catalog import announce

    return announce(path, uri)


app.add_typer(make_ingest(_announce), name="ingest")

StorePath = Annotated[
    str, typer.Argument(metavar="PATH", help="A store: /data/scan.zarr, or a file:// URI.")
]


@app.command()
def demo(
    directory: Annotated[
        Path, typer.Option("--directory", help="Where the stores and the picture go.")
    ] = Path("demo-data"),
) -> None:
    """Run a nested scan on a simulated beamline, and read it back through Tiled and xarray."""
    from ._demo import run_demo

    try:
        _or_exit(lambda: run_demo(directory.absolute(), typer.echo))
    except ImportError as error:
        typer.echo(
            f"The demo needs more than the core: {error}. "
            "Install it with: pip install 'bluesky-zarr[demo]'",
            err=True,
        )
        raise typer.Exit(2) from error


@app.command()
def inspect(path: StorePath) -> None:
    """Show what a store holds: arrays, dims, chunks, status, frames, size."""
    from .store import inspect as inspect_store
    from .store._paths import local_path

    _or_exit(lambda: typer.echo(str(inspect_store(local_path(path)))))


@app.command()
def validate(
    path: StorePath,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every chunk, and check its checksum.")
    ] = False,
) -> None:
    """Check a store. Exit status 1 when something is wrong.

    A store of spectra is checked against its schema, too, whoever wrote it.
    """
    from .store import validate as validate_store
    from .store._paths import local_path

    def check() -> None:
        store = local_path(path)
        report = validate_store(store, deep=deep)
        if _is_spectral(store):
            from .ingest.spectra import check_spectra

            check_spectra(store, report)
        typer.echo(str(report))
        if not report:
            raise typer.Exit(1)

    _or_exit(check)


@app.command()
def status(
    directory: Annotated[
        str, typer.Argument(metavar="DIR", help="Where stores are, at any depth.")
    ],
) -> None:
    """List stores: published, being written (by whom, since when), crashed, damaged. Exit status 1
    when one of them needs somebody."""
    from .store import status as status_of_stores

    def look() -> None:
        listing = status_of_stores(directory)
        typer.echo(str(listing))
        if listing.of("crashed") or listing.of("damaged"):
            raise typer.Exit(1)

    _or_exit(look)


@app.command()
def recover(
    path: Annotated[
        str | None,
        typer.Argument(metavar="[PATH]", help="A store: /data/scan.zarr, or a file:// URI."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
    all_in: Annotated[
        str | None,
        typer.Option("--all", metavar="DIR", help="Every crashed store beneath a directory."),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            help="Name what a Tiled catalog announced and the store lacks; the key to it is "
            "TILED_API_KEY.",
        ),
    ] = None,
) -> None:
    """Publish what a crash left. Nothing is deleted. Exit status 1 when something is wrong."""
    from .store import recover as recover_store
    from .store import recover_all
    from .store._paths import local_path

    if (path is None) == (all_in is None):
        raise typer.BadParameter("give either PATH or --all DIR")

    def repair() -> None:
        if path is not None:
            reports = [recover_store(local_path(path), dry_run=dry_run)]
        else:
            reports = recover_all(str(all_in), dry_run=dry_run)
            if not reports:
                typer.echo(f"no crashed store in {all_in}")
        if catalog is not None:
            _compare(catalog, reports)
        for report in reports:
            typer.echo(str(report))
        if not all(reports):
            raise typer.Exit(1)

    _or_exit(repair)


@app.command()
def relayout(
    source: StorePath,
    target: Annotated[
        str, typer.Argument(metavar="TARGET", help="The new store; it must not exist.")
    ],
    access: Annotated[
        str,
        typer.Option(
            "--access",
            help="What will be read most: 'frames' (whole frames), 'series' (one pixel at all "
            "positions of the scan), or 'balanced' (both, each at some cost).",
        ),
    ],
    array: Annotated[
        list[str] | None,
        typer.Option(
            "--array",
            help="An array to cut anew, such as primary/cam; may be given several times. "
            "Without it: all that hold frames. The others are copied as they are.",
        ),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="Of these arrays, such as blosc-zstd-5. Default: as before."),
    ] = None,
) -> None:
    """Make a copy of a store that is cut for another way of reading. The store itself stays.

    A store is written frame by frame. Where one pixel is wanted at all positions of the scan, every
    frame would have to be read for it; in a copy made with "--access series" it is a read of a few
    megabytes. The copy holds all that the store does, and is checked before it gets its name.
    """
    from .store import relayout as relayout_store
    from .store._paths import local_path

    _or_exit(
        lambda: typer.echo(
            str(
                relayout_store(
                    local_path(source),
                    local_path(target),
                    access=access,
                    arrays=array or (),
                    codec=codec,
                )
            )
        )
    )


@app.command()
def plot(
    path: StorePath,
    signal: Annotated[
        str, typer.Option("--signal", help="Draw this reading only, or this camera.")
    ] = "",
    frame: Annotated[
        str,
        typer.Option(
            "--frame",
            metavar="INDEX",
            help="Draw a frame: its number in the scan (17), or an index for each dim (3,17).",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The picture (.png, .pdf, .svg); by default in this folder."),
    ] = None,
) -> None:
    """Draw a run: its readings over the scan, a frame, or the passes of a search."""

    def draw() -> None:
        from .pictures import plot_run
        from .store._paths import local_path

        where = local_path(path)
        index = _frame_index(frame)
        picture = Path.cwd() / f"{where.stem}.png" if output is None else output
        plot_run(where, signal, frame=index).savefig(picture, dpi=110)
        typer.echo(str(picture))

    try:
        _or_exit(draw)
    except ImportError as error:
        typer.echo(
            f"A picture needs more than the core: {error}. "
            "Install it with: pip install 'bluesky-zarr[plot]'",
            err=True,
        )
        raise typer.Exit(2) from error


def _frame_index(text: str) -> int | tuple[int, ...] | None:
    if not text:
        return None
    try:
        parts = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(
            f"--frame {text} is not an index: give a number like 17, or one for each dim like 3,17."
        ) from None
    return parts[0] if len(parts) == 1 else parts


def _is_spectral(store: Path) -> bool:
    """Whether the schema of spectra applies."""
    from .ingest.spectra import is_spectral

    return is_spectral(store)


def _compare(uri: str, reports: Sequence[Report]) -> None:
    from .catalog import compare, connect

    client = connect(uri)
    for report in reports:
        compare(report, client)


def _or_exit(action: Callable[[], object]) -> None:
    """Do it; an error that a user can cause is one line and exit status 2."""
    try:
        action()
    except (OSError, ValueError, RuntimeError) as error:
        if isinstance(error, typer.Exit):
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(2) from error
