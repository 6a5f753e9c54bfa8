"""What the pages say works: Python blocks run, links lead somewhere, commands exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from bluesky.run_engine import RunEngine

from bluesky_zarr.catalog import TiledServer
from bluesky_zarr.cli import app

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NOT_RUN = re.compile(r"<!-- not run: (.*?) -->\n$")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(bluesky-zarr .*)$", re.MULTILINE)

# The README's scan has 3000 points, for the picture in the reader's mind; here 12 are enough.
SHORTER = {
    "Linspace(y, 0, 1, 20) * ~Linspace(x, 0, 1, 30)": "Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 1, 3)"
}


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def python_blocks(page: Path) -> Iterator[tuple[int, str]]:
    """Line and text of each block that is to run; one that is not has to say why."""
    text = page.read_text(encoding="utf-8")
    for found in FENCE.finditer(text):
        if found[1] != "python":
            continue
        marked = NOT_RUN.search(text[: found.start()])
        if marked is None:
            yield text.count("\n", 0, found.start()) + 1, found[2]
        else:
            assert marked[1].strip(), f"{name_of(page)}: a block is not run for no reason"


def close(value: Any) -> None:
    """End what a page left running."""
    if isinstance(value, RunEngine):
        if value.state not in ("idle", "panicked"):
            value.halt()
        value.loop.call_soon_threadsafe(value.loop.stop)
        value._th.join()
    elif isinstance(value, TiledServer):
        value.close()


RUNNABLE = [page for page in PAGES if any(python_blocks(page))]


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_python_blocks_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, Any] = {"__name__": "page"}
    try:
        for line, block in python_blocks(page):
            for long, short in SHORTER.items():
                block = block.replace(long, short)
            # Blank lines in front, so that a traceback names the page's own line.
            source = "\n" * line + block.replace("file:///data", f"file://{tmp_path}/data")
            exec(compile(source, page, "exec"), namespace)
    finally:
        for value in list(namespace.values()):
            close(value)


def test_every_page_that_shows_how_is_run() -> None:
    names = {name_of(page) for page in RUNNABLE}
    assert {"README.md", "docs/how-to/camera.md", "docs/tutorials/reading.md"} <= names
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


def test_every_page_is_linked_from_another() -> None:
    linked = {
        (page.parent / target.partition("#")[0]).resolve()
        for page in PAGES
        for target in LINK.findall(prose(page))
    }
    assert set(PAGES) - {ROOT / "README.md"} <= linked


def commands_of(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    fenced = [c for f in FENCE.finditer(text) if f[1] != "python" for c in COMMAND.findall(f[2])]
    return fenced + re.findall(r"`(bluesky-zarr [^`\n]+)`", FENCE.sub("", text))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_and_their_options_exist(page: Path) -> None:
    group = typer.main.get_group(app)
    for line in commands_of(page):
        _, name, *words = line.partition("#")[0].split()
        assert name in group.commands, f"{name_of(page)}: there is no {line!r}"
        known = {option for param in group.commands[name].params for option in param.opts}
        given = {word.partition("=")[0] for word in words if word.startswith("-")}
        assert given <= {*known, "--help"}, f"{name_of(page)}: {line!r} has no such option"
