"""Tiled client profiles, through which databroker 2 finds a server by name.

databroker 2 is a front for Tiled: ``databroker.from_profile(name)`` connects to the server that a
profile names, and ``databroker.catalog`` lists the profiles that there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from ._require import require

__all__ = ["profile"]


@contextmanager
def profile(name: str, uri: str, api_key: str, directory: str | os.PathLike[str]) -> Iterator[Path]:
    """Make a server known by name, in this process, while the ``with`` block lasts.

    Other processes find it too when they start with the environment variable ``TILED_PROFILES``
    set to the directory.

    Parameters
    ----------
    name
        The profile's name; also the name of its file, ``<name>.yml``.
    uri
        The server's address.
    api_key
        The key that the server wants. It is written to the file, which only its owner can read.
    directory
        Where the profile is written; made if it is not there.

    Raises
    ------
    FileExistsError
        When the directory has a profile of that name already.
    ValueError
        When the name cannot be one.

    Examples
    --------
    >>> with server.profile("demo"):  # doctest: +SKIP
    ...     databroker.from_profile("demo")[-1]
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise ValueError(f"{name!r} cannot be a profile's name: use letters, digits, '-' and '_'")
    profiles = require("tiled.profiles", "databroker")
    yaml = require("yaml", "databroker")
    directory = Path(directory).resolve()
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"{name}.yml"
    text = yaml.safe_dump({name: {"uri": f"{uri}?api_key={quote(api_key)}"}})
    # Made by us or not at all: also a profile of the user's own is never replaced.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    added = directory not in profiles.paths
    if added:
        profiles.paths.append(directory)  # the last place has the first say
    profiles.load_profiles.cache_clear()
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        if added:
            profiles.paths.remove(directory)
        profiles.load_profiles.cache_clear()
