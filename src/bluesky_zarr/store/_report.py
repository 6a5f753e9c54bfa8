"""What a look at a store found: problems, each with its place and what to do, in a report that
prints as a table.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from bluesky_zarr._text import counted, table


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: where (array and position, or file), what, with the value, and what
    to do about it.
    """

    where: str
    what: str
    advice: str


@dataclass
class Report:
    """The outcome of `validate` or `recover`; false when something is wrong.

    `status` is the store's when the report was made, `notes` say what was looked at and what was
    done.

    Examples
    --------
    >>> report = Report(
    ...     Path("/data/scan001.zarr"), "validate", status="complete", notes=["3 arrays opened"]
    ... )
    >>> bool(report)
    True
    >>> report.problems.append(
    ...     Problem("primary/cam", "index (3, 17) is damaged", "restore it from a copy")
    ... )
    >>> print(report)
    validate /data/scan001.zarr (complete): 1 problem
      3 arrays opened
    <BLANKLINE>
    where        what                      what to do
    -----------  ------------------------  ----------------------
    primary/cam  index (3, 17) is damaged  restore it from a copy
    """

    path: Path
    action: str
    status: str = ""
    notes: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)

    def add(self, where: str, what: str, advice: str) -> None:
        """Note one more problem."""
        self.problems.append(Problem(where, what, advice))

    def __bool__(self) -> bool:
        return not self.problems

    def __str__(self) -> str:
        count = len(self.problems)
        outcome = "ok" if not count else counted(count, "problem")
        status = f" ({self.status})" if self.status else ""
        lines = [
            f"{self.action} {self.path}{status}: {outcome}",
            *(f"  {note}" for note in self.notes),
        ]
        if self.problems:
            rows = [(problem.where, problem.what, problem.advice) for problem in self.problems]
            lines += ["", table(("where", "what", "what to do"), rows)]
        return "\n".join(lines)
