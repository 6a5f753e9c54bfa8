"""Processes that are killed, and what they had said by then."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# A server that has everything imported, and no thread: each child is a fork of it, within
# milliseconds.
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.faults.victims"])


@dataclass
class Said:
    """What a process said before its end, and how long it took from its first word."""

    killed: bool
    lines: list[list[Any]] = field(default_factory=list)

    def of(self, kind: str) -> list[list[Any]]:
        return [line[2:] for line in self.lines if line[1] == kind]

    def seconds(self) -> float:
        return self.lines[-1][0] - self.lines[0][0] if self.lines else 0.0

    def announced(self) -> dict[int, dict[int, int]]:
        """Of each source, the least number that the frame of each announced position has."""
        found: dict[int, dict[int, int]] = {}
        for source, frames in self.of("frames"):
            least = found.setdefault(source, {})
            for flat, number in frames.items():
                least[int(flat)] = max(number, least.get(int(flat), 0))
        return found


def run(
    target: Callable[..., None], *arguments: Any, number: int = -1, torn: bool = False,
    kill_after: float | None = None,
) -> Said:  # fmt: skip
    """Run `target(*arguments, tell, number, torn)` in a process of its own, to its end or until it
    is killed, `kill_after` seconds after its first word.
    """
    receive, send = _context.Pipe(duplex=False)
    process = _context.Process(target=target, args=(*arguments, send, number, torn), daemon=True)
    process.start()
    send.close()
    said = Said(killed=False)
    give_up = time.monotonic() + 60
    kill = None
    try:
        while True:
            wait = give_up if kill is None else kill
            if not receive.poll(max(0.0, wait - time.monotonic())):
                assert kill is not None, "the process hangs"
                assert process.pid is not None
                os.kill(process.pid, signal.SIGKILL)
                kill = give_up
                kill_after = None
                continue
            said.lines.append(json.loads(receive.recv_bytes()))
            if kill is None and kill_after is not None:
                kill = said.lines[0][0] + kill_after
    except (EOFError, OSError):
        pass  # a message that death cut short was not said
    process.join(20)
    said.killed = process.exitcode == -signal.SIGKILL
    errors = said.of("error")
    assert not errors, errors[0][0]
    assert said.killed or process.exitcode == 0, process.exitcode
    return said
