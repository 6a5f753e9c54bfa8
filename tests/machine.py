"""What tests ask of the machine: somebody who may not do everything, a disk that is soon full."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest


def by_an_ordinary_user(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a program of Python as somebody to whom permissions apply.

    Root goes without the right to pass over them, and keeps all that it owns.
    """
    rights = "-dac_override,-dac_read_search"
    without = ["setpriv", f"--inh-caps={rights}", f"--bounding-set={rights}"]
    return subprocess.run(
        [*(without if os.geteuid() == 0 else []), sys.executable, "-c", program,
         *map(str, arguments)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


class SmallDisk:
    """A file system in memory, made and changed by a shell that may mount.

    That is a plain one for root, and else one that is root in a user namespace of its own. What is
    mounted there is seen by others through its /proc/PID/root.
    """

    def __init__(self, place: Path, options: str) -> None:
        place.mkdir()
        self._place = place
        for self._inside in (False, True):
            unshare = ["unshare", "--user", "--map-root-user", "--mount"] if self._inside else []
            with contextlib.suppress(OSError):  # there is no such program, or it ended at once
                self._shell = subprocess.Popen(
                    [*unshare, "sh"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )  # fmt: skip
                if self._done(f"mount -t tmpfs -o {options} tmpfs '{place}'"):
                    root = f"/proc/{self._shell.pid}/root" if self._inside else ""
                    self.path = Path(f"{root}{place}")
                    return
                self._shell.communicate()
        pytest.skip("this machine lets nobody mount a file system, nor in a user namespace")

    def remount(self, options: str) -> None:
        """Change its size, or whether it can be written."""
        # Without the options it has: the owner that they name is none in the namespace.
        assert self._done(f"mount --options-mode=ignore -o remount,{options} '{self._place}'")

    def close(self) -> None:
        # That of a namespace goes with its last process, and files may still be open.
        assert self._inside or self._done(f"umount -l '{self._place}'")
        self._shell.communicate()

    def _done(self, command: str) -> bool:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        self._shell.stdin.write(f"{command} >&2; echo $?\n")
        self._shell.stdin.flush()
        return self._shell.stdout.readline() == "0\n"
