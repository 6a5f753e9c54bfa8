"""Every error that a user can cause says what was wrong, with the value, and what to do.

The sites are read from the source: each `raise` of an error that is made there. What is no
message of ours, or has nothing to advise, is listed below with the reason.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "bluesky_zarr"

VERBS = (
    "add|append|ask|begin|build|call|change|check|choose|clip|close|connect|copy|correct|create|cut|"
    "declare|delete|deliver|derive|draw|end|expose|finish|fix|fly|free|give|go|have|ingest|inject|install|join|"
    "keep|lay|leave|look|lower|make|mark|measure|mend|mount|move|name|omit|open|pass|prepare|publish|"
    "put|raise|read|recover|reinstall|remove|rename|repeat|replace|restore|resume|retry|run|say|scan|"
    "separate|set|split|start|store|take|trigger|try|turn|unpack|use|wait|write|zip"
)

#: Advice is an imperative that begins a clause, or says what would have been right.
ADVICE = re.compile(
    rf"(?:^|[;:.,?)](?: or| and| then| so)? |\bor |\bto [^;:.]*, )(?:{VERBS})\b"
    r"|\b(?:expected|needs?|at most|at least|allowed|are possible|pip install|There are|none of)\b"
    r"|never changed|not supported yet|(?:go|count)s? from|ends with `|it is '|for example|yield "
    r"|(?:Axes|Readings|Known keys|There are): ",
    re.IGNORECASE,
)


#: Errors that carry no message of ours to a user.
NO_MESSAGES = {
    "typer.Exit": "an exit status; the command has said why",
    "AttributeError": "Python's own words for a name that a module does not have",
    "NotImplementedError": "a method that a subclass has",
    "Misfit": "a part of a sentence, to which the recorder adds the reading and the advice",
}

NOTHING_GIVEN = "what is wrong is that nothing was given"
HELPER = "a helper puts value and advice together"
SYSTEM = "the operating system's number and words, with the path; the session adds what to do"
REPORTED = (
    "a line in the report of validate, recover or inspect, which names the array and the file"
)
PLAN_B = "the reason why a stock plan is stored in order of events; never raised to a user"
DOCUMENTS = "documents of another writer; no user of this package typed them"
OF_A_FILE = "the path of the file is put in front, with what is missing in it"
ADVISED = "advice is the class's own: put it right in a copy, or move the file; tests/ingest/cubes"
OTHERS = "another library's words follow, and they say it"

WITHOUT_A_VALUE = {
    "cli.py:recover": NOTHING_GIVEN,
    "devices/_scalars.py:region": NOTHING_GIVEN,
    "devices/_sim_sample.py:__init__": NOTHING_GIVEN,
    "devices/_source.py:_not_connected": NOTHING_GIVEN,
    "geometry/_scan.py:__post_init__": NOTHING_GIVEN,
    "ingest/cubes/_cluster.py:cluster": NOTHING_GIVEN,
    "ingest/cubes/_cluster.py:_lost_in_words": "workers that died and said nothing",
    "ingest/cubes/_config.py:_check_choices": "two options, which are named",
    "ingest/cubes/_flow.py:make_flow": NOTHING_GIVEN,
    "ingest/cubes/_config.py:_check_path": "the command puts the argument and its value in front",
    "ingest/cubes/_header_fixes.py:fixed_header": OF_A_FILE,
    "ingest/cubes/_image.py:_image_hdu": OF_A_FILE,
    "ingest/cubes/_image.py:read_image": OF_A_FILE,
    "ingest/cubes/_time.py:time_of": OF_A_FILE,
    "ingest/_files.py:find_files": NOTHING_GIVEN,
    "ingest/_workers.py:map": "a process that died and said nothing",
    "peaks/_fit.py:fit_peaks": NOTHING_GIVEN,
    "peaks/_fit.py:_checked": "an array of errors, of which many can be wrong",
    "peaks/_fit_nd.py:fit_peaks_nd": NOTHING_GIVEN,
    "plans/_approval.py:wait": "a session without a terminal; there is no value",
    "plans/_flown.py:__init__": NOTHING_GIVEN,
    "plans/_nested.py:nested_scan": "a function, whose text says nothing",
    "plans/_place.py:place": NOTHING_GIVEN,
    "plans/_place.py:declare_geometry": NOTHING_GIVEN,
    "plans/_strategy.py:__post_init__": "a peak, whose text is a table",
    "plans/_zoom_scan.py:_axes": NOTHING_GIVEN,
    "session/_placer.py:__call__": "two RunEngines, which have no names",
    "store/_grouping.py:_find": "closed by the sink, which names itself when it is asked first",
    "store/_publish.py:entry_count": REPORTED,
    "store/_table_arrays.py:add_setpoint": HELPER,
}

WITHOUT_ADVICE = {
    "_stock_plans.py:_arguments": PLAN_B,
    "_stock_plans.py:_snaked": PLAN_B,
    "catalog/_consolidator.py:_check": DOCUMENTS,
    "catalog/_consolidator.py:consume_stream_datum": DOCUMENTS,
    "catalog/_consolidator.py:update_from_stream_resource": DOCUMENTS,
    "catalog/_server.py:_wait_for_port": "the end of the server's own log follows",
    "devices/_ophyd/_frames.py:data_keys": "ophyd-async calls in another order than it promises",
    "geometry/_levels.py:levels_of_spec": OTHERS,
    "ingest/cubes/_axes.py:_in_hertz": ADVISED,
    "ingest/cubes/_axes.py:_number": ADVISED,
    "ingest/cubes/_axes.py:find_axes": ADVISED,
    "ingest/cubes/_axes.py:polarizations": ADVISED,
    "ingest/cubes/_errors.py:naming": ADVISED,
    "ingest/cubes/_grid.py:check": ADVISED,
    "ingest/cubes/_grid.py:of": ADVISED,
    "ingest/cubes/_time.py:mjd": ADVISED,
    "ingest/cubes/_time.py:time_of": ADVISED,
    "ingest/cubes/_discover.py:like": "convert them on their own, it says",
    "ingest/cubes/_state.py:take_up": "caught and said as a StateError, with advice",
    "ingest/spectra/_ingest.py:_look": HELPER,
    "ingest/spectra/_ingest.py:ingest_spectra": "the report of validate, whole",
    "plans/_conditions.py:_fail": HELPER,
    "plans/_strategies.py:strategy_of": HELPER,
    "store/_arrays.py:shard": "numbers of the caller's own loop over the shards",
    "store/_batch.py:publish": "the report of validate, whole",
    "store/_codecs.py:_decoding_step": REPORTED,
    "store/_codecs.py:_without_checksum": REPORTED,
    "store/_codecs.py:step": REPORTED,
    "store/_failure.py:check": "the first failure, repeated; its cause was said, with what to do",
    "store/_files.py:pread_into": SYSTEM,
    "store/_files.py:preallocate": SYSTEM,
    "store/_files.py:pwrite_all": SYSTEM,
    "store/_files.py:rename": SYSTEM,
    "store/_files.py:sync_fd": SYSTEM,
    "store/_frame_array.py:__init__": REPORTED,
    "store/_frames.py:load": REPORTED,
    "store/_paths.py:_check_part": HELPER,
    "store/_publish.py:entry_count": REPORTED,
    "store/_root.py:_refused": SYSTEM,
    "store/_table_arrays.py:add_setpoint": HELPER,
    "store/_transpose.py:get": SYSTEM,
}


@dataclass(frozen=True)
class Site:
    """One `raise`: where it is, and what it says."""

    module: str
    function: str
    line: int
    error: str
    text: str
    has_value: bool

    @property
    def name(self) -> str:
        return f"{self.module}:{self.function}"


def text_of(node: ast.AST) -> str:
    """The words of an expression, without its values."""
    found = (n.value for n in ast.walk(node) if isinstance(n, ast.Constant))
    return "".join(text for text in found if isinstance(text, str))


def texts_of(tree: ast.Module) -> dict[str, str]:
    """Texts with a name of their own, which messages are put together from."""
    found = {
        node.targets[0].id: text_of(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
    }
    return {name: text for name, text in found.items() if text}


def sites() -> Iterator[Site]:
    for path in sorted(SOURCE.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        module = path.relative_to(SOURCE).as_posix()
        yield from _sites(tree, module, "", texts_of(tree))


def _sites(node: ast.AST, module: str, function: str, named: dict[str, str]) -> Iterator[Site]:
    for child in ast.iter_child_nodes(node):
        inside = function
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            inside = child.name
        made = made_by(child)
        if made is not None:
            given = [*made.args, *(keyword.value for keyword in made.keywords)]
            names = [n for part in given for n in ast.walk(part) if isinstance(n, ast.Name)]
            words = [*map(text_of, given), *(named.get(name.id, "") for name in names)]
            value = any(name.id not in named for name in names) or any(
                isinstance(part, ast.FormattedValue) for part in ast.walk(made)
            )
            error = ast.unparse(made.func)
            yield Site(module, inside, child.lineno, error, ". ".join(words), value)
        yield from _sites(child, module, inside, named)


def made_by(node: ast.AST) -> ast.Call | None:
    """The error that a statement makes: one that it raises, or gives to somebody who will."""
    made = getattr(node, "exc" if isinstance(node, ast.Raise) else "value", None)
    if not isinstance(node, ast.Raise | ast.Return) or not isinstance(made, ast.Call):
        return None
    name = ast.unparse(made.func)
    # A function of ours that makes an error is looked at where it makes it.
    raised = isinstance(node, ast.Raise) and not name.startswith(("self.", "_"))
    return made if raised or name.rsplit(".", 1)[-1].endswith(("Error", "Exception")) else None


SITES = [site for site in sites() if site.error not in NO_MESSAGES]


def test_there_are_errors_to_look_at() -> None:
    assert len(SITES) > 250


def test_every_error_says_what_was_wrong_with_its_value() -> None:
    silent = {site.name: site for site in SITES if not site.has_value}
    assert set(silent) - set(WITHOUT_A_VALUE) == set(), "\n".join(
        f"{silent[name]}" for name in set(silent) - set(WITHOUT_A_VALUE)
    )
    assert set(WITHOUT_A_VALUE) <= set(silent), "listed, and says its value all the same"


def test_every_error_says_what_to_do() -> None:
    helpless = {site.name: site for site in SITES if not ADVICE.search(site.text)}
    assert set(helpless) - set(WITHOUT_ADVICE) == set(), "\n".join(
        f"{helpless[name]}" for name in set(helpless) - set(WITHOUT_ADVICE)
    )
    assert set(WITHOUT_ADVICE) <= set(helpless), "listed, and gives advice all the same"
