"""The few file operations that everything in a store is built from.

Nothing in a store is ever changed half-way: a small file is replaced as a whole (temporary file and
rename), a shard file is born whole (temporary file and hard link), and bytes are appended with
`pwrite`.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

_FALLOC_FL_KEEP_SIZE = 1
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_TMPFS_MAGIC = 0x01021994
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV, errno.ESPIPE}


class SyncError(OSError):
    """The disk did not confirm that it has what was written.

    To ask again proves nothing: the system forgets what it could not write, and confirms the rest.
    """


def sync_fd(fd: int, path: Path, *, times: bool = True) -> None:
    """Wait until what was written to an open file is on disk, without its `times` if they do not
    matter; raises SyncError.
    """
    try:
        if times:
            os.fsync(fd)
        else:
            getattr(os, "fdatasync", os.fsync)(fd)
    except OSError as error:
        raise SyncError(error.errno, error.strerror, str(path)) from error


def temporary_path(path: Path) -> Path:
    """A name beside `path` that nobody else has; nothing in a store that ends so is part of it."""
    # The full name of the target could be up to 255 bytes long already, so only a part of it is
    # repeated.
    return path.with_name(f".{path.name[:32]}.{uuid.uuid4().hex}.tmp")


def _write_temporary(path: Path, data: Buffer, *, sync: bool) -> Path:
    temporary = temporary_path(path)
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        try:
            pwrite_all(fd, data, 0)
            if sync:
                sync_fd(fd, path)
        finally:
            os.close(fd)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary


def replace_bytes(path: Path, data: Buffer, *, sync: bool = False) -> None:
    """Replace the file at `path` by one that holds `data`, in one step that readers see whole.

    With `sync`, the bytes are on disk before the name points at them, and the directory is on disk
    when this returns. Raises OSError, and leaves the old file and no temporary file behind.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "zarr.json"
    >>> replace_bytes(path, b"{}")
    >>> path.read_bytes()
    b'{}'
    """
    temporary = _write_temporary(path, data, sync=sync)
    try:
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        fsync_dir(path.parent)


def replace_all(files: Mapping[Path, Buffer]) -> None:
    """Replace several files, each in one step, one right after the other.

    Raises OSError; all are as before where one of them cannot be written.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            temporaries[path] = _write_temporary(path, data, sync=False)
        for path in files:
            os.replace(temporaries[path], path)
            del temporaries[path]
    finally:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def link_new(path: Path, data: Buffer) -> bool:
    """Create `path` with `data` in one step; False if it exists already (it is then left as it is).

    Used where two writers may both want to be the first: whoever links second finds the other's
    file, never half of it.
    """
    temporary = _write_temporary(path, data, sync=False)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    finally:
        temporary.unlink()
    return True


def link_again(path: Path, other: Path) -> None:
    """Give the file at `path` a second name, in one step, once its content is on disk.

    Meanwhile another file may get the name `path`; the one that was there is meant.
    """
    if other.exists() and path.samefile(other):
        return
    temporary = temporary_path(other)
    os.link(path, temporary)
    fsync_path(temporary)
    os.replace(temporary, other)


def rename_new(source: Path, target: Path) -> None:
    """Give a directory another name that nothing has yet, in one step.

    Raises FileExistsError, and changes nothing, where the name is taken.
    """
    rename = _renameat2()
    if rename is not None and rename(source, target, _RENAME_NOREPLACE):
        return
    # Only one can make a directory, and only an empty one is replaced by another.
    os.mkdir(target)
    try:
        os.rename(source, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.rmdir(target)
        raise


def exchange(one: Path, other: Path) -> None:
    """Let two directories swap their names: in one step where the system can.

    Elsewhere there is a moment in which `other` does not exist, and is beside itself under a
    temporary name.
    """
    if exchange_at_once(one, other):
        return
    aside = temporary_path(other)
    os.rename(other, aside)
    os.rename(one, other)
    os.rename(aside, one)


def exchange_at_once(one: Path, other: Path) -> bool:
    """Let two directories swap their names in one step; False, and nothing is changed, where the
    system cannot.
    """
    rename = _renameat2()
    return rename is not None and rename(one, other, _RENAME_EXCHANGE)


def fsync_path(path: Path) -> None:
    """Wait until the content of the file at `path` is on disk; raises SyncError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_fd(fd, path)
    finally:
        os.close(fd)


def fsync_dir(path: Path) -> None:
    """Wait until the names in the directory `path` are on disk; raises SyncError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_DIRECTORY", 0))
    try:
        sync_fd(fd, path)
    finally:
        os.close(fd)


#: How many files are synced at a time: those that wait together are written together.
_SYNCS = 16


def fsync_all(paths: Iterable[Path]) -> None:
    """Wait until the content of all files, or the names in all directories, are on disk.

    Many at a time: one after the other, each of some hundred small files would wait for a commit of
    the file system's journal of its own.

    Raises
    ------
    OSError
        One of them could not be synced.
    """
    with ThreadPoolExecutor(_SYNCS, "fsync") as pool:
        list(pool.map(fsync_path, paths))  # taking the results raises what went wrong


def pwrite_all(fd: int, data: Buffer, offset: int) -> None:
    """Write all of `data` at `offset`; on a full disk the kernel writes a part and says nothing, so
    this goes on.

    Raises OSError with the errno of the write that failed (ENOSPC on a full disk) and the name of
    the file.
    """
    view = memoryview(data).cast("B")
    done = 0
    while done < len(view):
        try:
            count = os.pwrite(fd, view[done:], offset + done)
        except OSError as error:
            if error.filename is None:
                error.filename = _name(fd)
            raise
        if count == 0:
            raise OSError(errno.EIO, "the file took no more bytes and gave no reason", _name(fd))
        done += count


def pread_into(fd: int, view: memoryview, offset: int) -> None:
    """Fill a buffer of bytes from `offset` on; OSError where the file ends before."""
    done = 0
    while done < len(view):
        count = os.preadv(fd, [view[done:]], offset + done)
        if count == 0:
            raise OSError(errno.EIO, f"the file ends at byte {offset + done}", _name(fd))
        done += count


def preallocate(fd: int, offset: int, length: int) -> bool:
    """Reserve disk space for `length` bytes at `offset` without changing the file's size.

    False where the system or the file system cannot do it; nothing is reserved then, and nothing is
    wrong. Raises OSError if it could but there is no room (ENOSPC, EDQUOT).
    """
    fallocate = _fallocate()
    if fallocate is None or length <= 0:
        return False
    while True:
        if fallocate(fd, _FALLOC_FL_KEEP_SIZE, offset, length) == 0:
            return True
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            return False
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number), _name(fd))


def in_memory(fd: int) -> bool:
    """Whether an open file is on a tmpfs, which has no disk."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        fstatfs = ctypes.CDLL(None).fstatfs
    except (OSError, AttributeError):
        return False
    # The type of the file system comes first, as a C long; the whole structure has 120 bytes.
    found = (ctypes.c_long * 64)()
    return fstatfs(fd, found) == 0 and found[0] == _TMPFS_MAGIC


@functools.cache
def _renameat2() -> Callable[[Path, Path, int], bool] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    function.argtypes = [
        ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint,
    ]  # fmt: skip

    def rename(source: Path, target: Path, flags: int) -> bool:
        """False where the system or the file system cannot do it."""
        if function(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flags) == 0:
            return True
        number = ctypes.get_errno()
        if number in _UNSUPPORTED:
            return False
        raise OSError(number, os.strerror(number), str(source), None, str(target))

    return rename


@functools.cache
def _fallocate():
    # os.posix_fallocate would make the file longer, and a reader would take the zeros for an index.
    if not sys.platform.startswith("linux"):
        return None
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    function.restype = ctypes.c_int
    return function


def _name(fd: int) -> str | None:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}")
    return None
