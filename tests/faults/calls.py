"""The calls by which a store changes, seen one by one, so that each of them can go wrong."""

from __future__ import annotations

import builtins
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bluesky_zarr.store import _files

WRITES = ("pwrite", "pwritev", "write")
BY_FD = (*WRITES, "fsync", "fdatasync", "ftruncate", "fallocate")
BY_PATH = ("open", "link", "replace", "rename", "mkdir", "unlink")
KINDS = (*BY_FD, *BY_PATH)

Before = Callable[[str, str, int], "int | None"]
"""Called with a call's kind, the path that it is about and its number (from 0) before it is made.

It may raise, or end the process. What it returns is how many bytes of a write go out: None for all.
"""


@contextlib.contextmanager
def watched(base: Path, before: Before) -> Iterator[list[tuple[str, str]]]:
    """Call `before` ahead of each call that changes a file at or beneath `base`; the calls made."""
    prefix = os.path.realpath(base)
    made: list[tuple[str, str]] = []
    lock = threading.Lock()
    real: dict[str, Any] = {kind: getattr(os, kind) for kind in KINDS if hasattr(os, kind)}
    real_fallocate = _files._fallocate
    real_rename = _files._renameat2
    real_open = builtins.open

    def noted(kind: str, path: str) -> int | None:
        if not path.startswith(prefix):
            return None
        with lock:
            number = len(made)
            made.append((kind, path))
        return before(kind, path, number)

    def path_of(fd: int) -> str:
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            return ""

    def writing(kind: str) -> Callable[..., int]:
        def call(fd: int, data: Any, *rest: Any) -> int:
            limit = noted(kind, path_of(fd))
            if limit is None:
                return real[kind](fd, data, *rest)
            whole = (
                b"".join(bytes(memoryview(part)) for part in data)
                if rest and (kind == "pwritev")
                else bytes(memoryview(data))
            )
            if not rest:
                return real["write"](fd, whole[:limit])
            return real["pwrite"](fd, whole[:limit], *rest)

        return call

    def by_fd(kind: str) -> Callable[..., Any]:
        def call(fd: int, *rest: Any) -> Any:
            noted(kind, path_of(fd))
            return real[kind](fd, *rest)

        return call

    def by_path(kind: str) -> Callable[..., Any]:
        def call(path: Any, *rest: Any, **named: Any) -> Any:
            about = rest[0] if kind in ("link", "replace", "rename") else path
            if kind != "open" or (rest and rest[0] & (os.O_CREAT | os.O_WRONLY | os.O_RDWR)):
                noted(kind, os.path.abspath(os.fspath(about)))
            return real[kind](path, *rest, **named)

        return call

    def fallocate() -> Any:
        function = real_fallocate()
        if function is None:
            return None

        def call(fd: int, *rest: Any) -> int:
            try:
                noted("fallocate", path_of(fd))
            except OSError as error:
                import ctypes

                ctypes.set_errno(error.errno or 0)
                return -1
            return function(fd, *rest)

        return call

    def renameat2() -> Any:
        function = real_rename()
        if function is None:
            return None

        def call(source: Path, target: Path, flags: int) -> bool:
            noted("rename", os.path.abspath(target))
            return function(source, target, flags)

        return call

    for kind in real:
        make = writing if kind in WRITES else by_fd if kind in BY_FD else by_path
        setattr(os, kind, make(kind))
    _files._fallocate = fallocate
    _files._renameat2 = renameat2
    try:
        yield made
    finally:
        for kind, function in real.items():
            setattr(os, kind, function)
        _files._fallocate = real_fallocate
        _files._renameat2 = real_rename
        builtins.open = real_open


def die_at(number: int, *, torn: bool = False) -> Before:
    """Die, as by SIGKILL, before the call of this number; `torn`: when a part of it is out."""

    def before(kind: str, path: str, count: int) -> int | None:
        if count < number:
            return None
        if torn and kind in WRITES and count == number:
            # The process dies at its next call, which may be the rest of this one. An entry of an
            # index goes out whole, as the kernel looks at signals between pages only.
            return 7 if kind == "write" else 600
        os.kill(os.getpid(), signal.SIGKILL)
        return None

    return before


def failing(error: int, *kinds: str, after: int = 0, where: str = "", times: int = -1) -> Before:
    """Fail calls of these kinds with an errno, all or `times` of them, once `after` went well."""
    seen = 0
    failed = 0

    def before(kind: str, path: str, _: int) -> int | None:
        nonlocal seen, failed
        if kind not in kinds or where not in path or failed == times:
            return None
        seen += 1
        if seen > after:
            failed += 1
            raise OSError(error, os.strerror(error))
        return None

    return before


def short(most: int) -> Before:
    """Let each write take this many bytes at most, as on a disk that is nearly full."""
    return lambda kind, path, number: most if kind in WRITES else None


def nothing(kind: str, path: str, number: int) -> None:
    """Let all go well."""
