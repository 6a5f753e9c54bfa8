"""The first thing that went wrong behind a sink: kept, and raised by every later call."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path


class Failure:
    """Keeps the first error of a sink of array `key` in `store`, and raises it in words.

    `readable` tells how many positions a reader finds a frame at. As a context manager it keeps an
    OSError of its block, and raises it as that.
    """

    def __init__(self, store: Path, key: str, readable: Callable[[], int]) -> None:
        self.error: BaseException | None = None
        self._store_path = store
        self._key = key
        self._readable = readable

    def keep(self, error: BaseException) -> None:
        """Keep an error, if it is the first one."""
        if self.error is None:
            self.error = error

    def check(self) -> None:
        """Raise what went wrong, if something did.

        Raises
        ------
        OSError
            The disk refused; with its errno, and the name of the file.
        RuntimeError
            Any other error.
        """
        error = self.error
        if error is None:
            return
        what = f"array {self._key!r} in {str(self._store_path)!r}: a frame could not be written"
        kept = f"the {self._readable()} positions that are readable stay so"
        if isinstance(error, OSError) and error.errno is not None:
            text = f"{what} ({error.strerror}); {kept}. Mend the cause, then start a new store"
            path = error.filename or str(self._store_path / self._key)
            raise OSError(error.errno, text, path) from error
        raise RuntimeError(f"{what} ({error!r}); {kept}") from error

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            self.keep(error)
            self.check()
