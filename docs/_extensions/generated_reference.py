"""Directives that write reference pages from the code itself: commands, and the configuration."""

import inspect
from collections.abc import Iterator
from typing import Any, get_args

import typer.main
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from bluesky_zarr import StorageConfig
from bluesky_zarr.cli import app


class CommandLine(SphinxDirective):
    """``{command-line}``: each command with its arguments and options, as ``--help`` has them."""

    def run(self) -> list[nodes.Node]:
        """Make the section."""
        group = typer.main.get_group(app)
        for source in {__file__, *(_source_of(each.callback) for _, each in _commands(group))}:
            self.env.note_dependency(source)
        text = "\n\n".join(_command(name, each) for name, each in _commands(group))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


class Settings(SphinxDirective):
    """``{settings}``: the fields of `StorageConfig`, their environment variables and defaults."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        for source in (__file__, _source_of(StorageConfig)):
            self.env.note_dependency(source)
        rows = ["| Field | Environment | Default | Meaning |", "| --- | --- | --- | --- |"]
        prefix = StorageConfig.model_config.get("env_prefix", "")
        for name, field in StorageConfig.model_fields.items():
            default = "none" if field.is_required() else f"`{field.default}`"
            choices = ", ".join(f"`{value}`" for value in get_args(field.annotation))
            meaning = ". ".join(text for text in (field.description, choices) if text)
            rows.append(f"| `{name}` | `{prefix}{name.upper()}` | {default} | {meaning} |")
        return self.parse_text_to_nodes("\n".join(rows))


def _source_of(made: Any) -> str:
    """The file whose change makes a page anew."""
    return inspect.getsourcefile(inspect.unwrap(made)) or __file__


def _commands(group: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """All commands, those of groups by their full name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{above}{name} ")
        else:
            yield f"{above}{name}", command


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = [p.metavar or p.name.upper() for p in arguments]
    usage = " ".join(["bluesky-zarr", name, *(["[OPTIONS]"] if options else []), *words])
    lines = [f"## {name}", "", f"```console\n{usage}\n```", "", command.help or ""]
    entries = [(f"`{p.metavar or p.name.upper()}`", p) for p in arguments]
    entries += [(", ".join(f"`{o}`" for o in [*p.opts, *p.secondary_opts]), p) for p in options]
    if entries:
        lines += ["", "| | | Default |", "| --- | --- | --- |"]
        for label, param in entries:
            lines.append(f"| {label} | {param.help or ''} | {_default(param)} |")
    return "\n".join(lines)


def _default(param: Any) -> str:
    if param.required:
        return "none: it has to be given"
    if param.default in (None, False, ()):
        return ""
    return f"`{param.default}`"


def _signature(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> tuple[str, str] | None:
    """Of the configuration, its fields: the many options of pydantic's settings are not ours."""
    if obj is not StorageConfig:
        return None
    fields = StorageConfig.model_fields.items()
    return f"({', '.join(n if f.is_required() else f'{n}={f.default!r}' for n, f in fields)})", ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("command-line", CommandLine)
    app.add_directive("settings", Settings)
    app.connect("autodoc-process-signature", _signature)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
