"""What the pages say works: Python blocks run, links lead somewhere, commands exist.

In a tutorial, commands of a console run as well. A block of plain text right behind a block that
ran is its output, and is compared with it as a doctest's is: `...` stands for anything.
"""

from __future__ import annotations

import contextlib
import doctest
import io
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from bluesky.run_engine import RunEngine
from typer.testing import CliRunner

from bluesky_zarr.catalog import TiledServer
from bluesky_zarr.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted(p for p in (ROOT / "docs").rglob("*.md") if "_build" not in p.parts),
]
FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: (.*?) -->\n$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(bluesky-zarr .*)$", re.MULTILINE)

# The README's scan has 1000 points, for the picture in the reader's mind; here 30 are enough.
SHORTER = {
    "Linspace(y, 0, 1, 10) * ~Linspace(x, 0, 1, 20)": "Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 1, 3)"
}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


class Block(NamedTuple):
    """A block that is to run: its line in the page, its language, and what it should print."""

    line: int
    language: str
    source: str
    output: str | None


def runnable_blocks(page: Path) -> Iterator[Block]:
    """The blocks that are to run; a block of Python that is not has to say why."""
    text = page.read_text(encoding="utf-8")
    languages = ("python", "console") if page.parent.name == "tutorials" else ("python",)
    fences = list(FENCE.finditer(text))
    for fence, after in itertools.zip_longest(fences, fences[1:]):
        if fence[1] not in languages:
            continue
        marked = NOT_RUN.search(text[: fence.start()])
        if marked is None:
            line = text.count("\n", 0, fence.start()) + 1
            shown = after and after[1] == "text" and not text[fence.end() : after.start()].strip()
            yield Block(line, fence[1], fence[2], after[2] if shown else None)
        else:
            assert marked[1].strip(), f"{name_of(page)}: a block is not run for no reason"


def run_command(line: str) -> str:
    """What a command of ours prints."""
    words = shlex.split(line, comments=True)
    assert words[0] == "bluesky-zarr", f"{line!r} is not a command of ours: mark it as not run"
    done = CliRunner().invoke(app, words[1:])
    assert done.exit_code == 0, f"{line!r} ended with {done.exit_code}: {done.output}"
    return done.output


def run_block(page: Path, block: Block, folder: Path, namespace: dict[str, Any]) -> str:
    """Run a block where `/data` and `/tmp` are folders of the test's own; what it printed."""
    source = re.sub(r"(?<![\w.])/(?=(data|tmp)/)", f"{folder}/", block.source)
    if block.language == "console":
        return "".join(run_command(line.removeprefix("$ ")) for line in source.splitlines())
    for long, short in SHORTER.items():
        source = source.replace(long, short)
    # Blank lines in front, so that a traceback names the page's own line.
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile("\n" * block.line + source, page, "exec"), namespace)
    return printed.getvalue()


def close(value: Any) -> None:
    """End what a page left running."""
    if isinstance(value, RunEngine):
        if value.state not in ("idle", "panicked"):
            value.halt()
        value.loop.call_soon_threadsafe(value.loop.stop)
        value._th.join()
    elif isinstance(value, TiledServer):
        value.close()


RUNNABLE = [page for page in PAGES if any(runnable_blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_blocks_run_from_top_to_bottom_and_print_what_is_shown(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    try:
        for block in runnable_blocks(page):
            printed = run_block(page, block, tmp_path, namespace)
            if block.output is not None:
                shown = block.output.replace("/tmp/", f"{tmp_path}/tmp/")
                same = doctest.OutputChecker().check_output(shown, printed, flags)
                where = f"{name_of(page)}:{block.line}"
                assert same, f"{where} prints\n{printed}\nand the page shows\n{shown}"
    finally:
        for value in list(namespace.values()):
            close(value)


def test_every_page_that_shows_how_is_run() -> None:
    names = {name_of(page) for page in RUNNABLE}
    assert {"README.md", "docs/how-to/camera.md", "docs/tutorials/first-store.md"} <= names
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(long in readme for long in SHORTER)


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """What a page's headings are called in links, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{name_of(page)}: there is no {target}"
        if anchor:
            assert anchor in anchors(there), f"{name_of(page)}: no heading for {target}"


def test_every_picture_is_made_by_a_script_and_shown_on_a_page() -> None:
    scripts = [path.read_text(encoding="utf-8") for path in ROOT.glob("docs/pictures/*.py")]
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    for picture in ROOT.glob("docs/images/*"):
        assert any(f'"{picture.name}"' in script for script in scripts), picture.name
        assert any(f"images/{picture.name})" in page for page in pages), picture.name


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(prose(page))
    }
    assert set(PAGES) - {ROOT / "README.md"} <= linked


def test_the_files_that_contributing_names_for_something_new_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.split("## Where something new goes")[1].split("\n## ")[0]
    named = [
        name for name in re.findall(r"`([\w/]+(?:\.py)?)`", table) if "/" in name or "." in name
    ]
    assert len(named) > 20
    for name in named:
        somewhere = [ROOT / name, ROOT / "src/bluesky_zarr" / name]
        below = any(name in path.as_posix() for path in (ROOT / "src").rglob(f"*{Path(name).name}"))
        assert any(path.exists() for path in somewhere) or below, f"there is no {name}"


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    fenced = [c for f in FENCE.finditer(text) if f[1] != "python" for c in COMMAND.findall(f[2])]
    return fenced + re.findall(r"`(bluesky-zarr [^`\n]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    for line in commands_of(page):
        command: Any = typer.main.get_group(app)
        words = line.partition("#")[0].split()[1:]
        while hasattr(command, "commands"):  # of a group, until it is one command
            name = words.pop(0) if words else ""
            assert name in command.commands, f"{name_of(page)}: there is no {line!r}"
            command = command.commands[name]
        known = {option for param in command.params for option in param.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= {*known, "--help"}, f"{name_of(page)}: {line!r} has no such option"
