"""Turns: who of several threads and processes may change something that all of them can change.

A lock is a `flock`, which ends with the process that holds it, so a dead one leaves nothing to
clean. What is locked is never unlinked: a second process could then lock the new file of that name.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import weakref
from collections.abc import Iterator
from pathlib import Path

# Open files that hold a lock, by block. A forked child has them too, and would keep the lock when
# its parent dies; to close its own lets go of nothing as long as the parent lives.
_held: dict[object, int] = {}


def _let_go_in_child() -> None:
    for fd in _held.values():
        with contextlib.suppress(OSError):
            os.close(fd)
    _held.clear()


os.register_at_fork(after_in_child=_let_go_in_child)

# Network file systems that cannot lock, or (NFS) not a directory; a parent that is read-only.
_CANNOT = {errno.EBADF, errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EACCES, errno.EROFS}


@contextlib.contextmanager
def directory_turn(directory: Path) -> Iterator[None]:
    """Wait until nobody else is in a block like this for the same directory.

    For changes of a few milliseconds; not to be nested. Where the file system cannot lock
    directories, nobody waits: several processes that change one group at once can then leave its
    arrays at several lengths until one of them grows again.
    """
    with _open(directory, os.O_RDONLY) as fd:
        _lock(fd, fcntl.LOCK_EX)
        yield


def recovery_lock_path(store: Path) -> Path:
    """Where the lock file of a store's recovery is: beside it."""
    return store.with_name(f"{store.name}.recover.lock")


@contextlib.contextmanager
def only_recovery(store: Path) -> Iterator[bool]:
    """Whether no other process or thread recovers this store; nobody else can until the block ends.

    Where the file system cannot lock, the answer is True.
    """
    with contextlib.ExitStack() as stack:
        try:
            fd = stack.enter_context(_open(recovery_lock_path(store), os.O_RDWR | os.O_CREAT))
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            yield True
        else:
            yield _lock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextlib.contextmanager
def _open(path: Path, flags: int) -> Iterator[int]:
    fd = os.open(path, flags | os.O_CLOEXEC, 0o666)
    block = object()
    _held[block] = fd
    try:
        yield fd
    finally:
        if block in _held:  # not in a child that was forked meanwhile
            # First of all: Ctrl-C behind any other call would leave it locked for ever. From here
            # on another thread may have a file of this number.
            try:
                os.close(fd)
            finally:
                del _held[block]


class OnlyWriter:
    """The right of one process or thread to write something, from now until `release`; `held` says
    whether it was to be had.

    The lock file goes with what is written, and may be deleted with it while the lock is held.
    Where the file system cannot lock, it is always to be had.
    """

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        _writers.add(self)
        self.held = _lock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB) and self.is_at(path)
        if not self.held:
            self.release()

    def is_at(self, path: Path) -> bool:
        """Whether the lock file at `path` is still the one that was opened, not somebody else's."""
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(self._fd))

    def release(self) -> None:
        """Let others have it; does nothing the second time."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


# A forked child has the same lock, and would keep it when its parent has died.
_writers: weakref.WeakSet[OnlyWriter] = weakref.WeakSet()
os.register_at_fork(after_in_child=lambda: [writer.release() for writer in list(_writers)])


def _lock(fd: int, how: int) -> bool:
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    return True
