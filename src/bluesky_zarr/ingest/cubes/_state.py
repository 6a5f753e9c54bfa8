"""How far a conversion has come: a file beside the output, replaced as a whole."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from bluesky_zarr.ingest.cubes._layout import Block
from bluesky_zarr.store._files import replace_bytes

_FORMAT = "bluesky-zarr cube in progress, version 1"
# Writing it takes at most this part of the time: it grows with the number of time steps.
_PART = 0.05


class StateError(ValueError):
    """The state file is that of another data set, or damaged."""


def state_path(target: Path) -> Path:
    """Where the state file of an output is."""
    return target.with_name(f"{target.name}.state.json")


@dataclass
class State:
    """The time steps that are done, and of what data set.

    `data_set` is the fingerprint of the files and options, `grid` the checksum of the grid; `done`
    holds for each time step that is on disk the crc32c of its files, by subband (None: no file).
    """

    path: Path
    data_set: str
    grid: str
    frequencies: int
    replace: bool
    done: dict[int, list[int | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._parts: dict[int, dict[int, int | None]] = {}
        self._next_write = 0.0
        self._disk = ThreadPoolExecutor(1, "ingest-state")
        self._writing: Future[None] | None = None

    def add(self, block: Block, checksums: dict[tuple[int, int], int]) -> None:
        """Note that a block is on disk; a time step is done with its last block. The file follows
        on the side.

        Raises
        ------
        OSError
            The file could not be written when it was last tried.
        """
        for step, frequency in block.places():
            part = self._parts.setdefault(step, {})
            part[frequency] = checksums.get((step, frequency))
            if len(part) == self.frequencies:
                self.done[step] = [part[f] for f in range(self.frequencies)]
                del self._parts[step]
        if self._writing is not None and self._writing.done():
            self._finish()
        if self._writing is None and time.monotonic() >= self._next_write:
            self._writing = self._disk.submit(self._replace, self._content())

    def write(self) -> None:
        """Replace the file, and wait until it is on disk."""
        try:
            self._finish()
        finally:
            self._replace(self._content())

    def _finish(self) -> None:
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _content(self) -> bytes:
        document = {
            "format": _FORMAT,
            "data_set": self.data_set,
            "grid": self.grid,
            "replace": self.replace,
            "time_steps_done": {str(step): found for step, found in self.done.items()},
        }
        return json.dumps(document).encode()

    def _replace(self, content: bytes) -> None:
        begin = time.monotonic()
        replace_bytes(self.path, content, sync=True)
        end = time.monotonic()
        self._next_write = end + (end - begin) / _PART

    def take_up(self) -> bool:
        """Go on from the file; False if there is none.

        Raises
        ------
        StateError
            It is damaged, or of another data set.
        """
        try:
            document = json.loads(self.path.read_bytes())
            if document["format"] != _FORMAT:
                raise ValueError(f"its format is {document['format']!r}")
            found = {name: document[name] for name in ("data_set", "grid")}
            done = {int(s): list(v) for s, v in document["time_steps_done"].items()}
        except FileNotFoundError:
            return False
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise StateError(
                f"the state file {str(self.path)!r} is damaged ({error}); begin again with "
                "--rebuild"
            ) from None
        different = [
            words
            for name, words in (("grid", "the grid differs"), ("data_set", "files or options do"))
            if found[name] != getattr(self, name)
        ]
        if different:
            raise StateError(
                f"the state file {str(self.path)!r} is of another data set ({different[0]}); give "
                "the input directory and the options that the conversion was begun with, another "
                "--name, or begin again with --rebuild"
            )
        self.done = done
        return True

    def remove(self) -> None:
        """Take the file away: there is nothing to go on with."""
        self.path.unlink(missing_ok=True)


def replaces(target: Path) -> bool:
    """Whether the interrupted conversion to a target was to take the place of an older cube."""
    try:
        return bool(json.loads(state_path(target).read_bytes())["replace"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
