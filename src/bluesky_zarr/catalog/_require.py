"""Optional packages, with a word on how to get them."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["require"]


def require(module: str, extra: str) -> ModuleType:
    """Import a package that only some users install.

    Raises
    ------
    ImportError
        Naming the extra of bluesky-zarr that brings the package.

    >>> require("no_such_package", "tiled")
    Traceback (most recent call last):
        ...
    ImportError: no_such_package is not installed: pip install 'bluesky-zarr[tiled]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        top = module.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != top:
            raise  # installed, but something that it needs itself is not: its own error says more
        raise ImportError(
            f"{top} is not installed: pip install 'bluesky-zarr[{extra}]'", name=top
        ) from error
