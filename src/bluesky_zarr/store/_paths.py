"""Where a store is and what may be in it: URIs, keys, and the little record that crosses a process
border.

A store is named by a `file://` URI. Readers such as Tiled take the path of a URI as it stands,
without undoing any %-encoding, so the URIs made here carry none, and a path that could not be
written without it is refused.
"""

from __future__ import annotations

import copy
import os
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from bluesky_zarr.geometry import ScanGeometry

MAX_PART_BYTES = 255
"""The longest file name that the usual file systems take, in bytes of UTF-8."""

_NOT_IN_A_URI = "%?#"


def store_path(uri: str | Path) -> Path:
    """The directory that a `file://` URI or an absolute path names.

    Raises
    ------
    ValueError
        Anything else: a relative path, another scheme, another host, `..`, and characters that no
        reader would find again in a URI.

    Examples
    --------
    >>> store_path("file:///data/scan001.zarr").as_posix()
    '/data/scan001.zarr'
    >>> store_path("file://localhost/data/scan001.zarr").as_posix()
    '/data/scan001.zarr'
    """
    if not isinstance(uri, (str, Path)):
        raise ValueError(
            f"{uri!r} is not an absolute path or file:// URI; write file:///data/scan001.zarr"
        )
    text = str(uri)
    if isinstance(uri, str) and ("://" in text or text.startswith("file:")):
        text = _path_of_uri(text)
    if not text.startswith("/"):
        raise ValueError(
            f"{text!r} is not an absolute path or file:// URI; write {_suggestion(text)}"
        )
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError(f"{text!r} contains '..'; write out the directory that is meant")
    if not parts:
        raise ValueError(
            f"{text!r} names no directory; add a name, as in file:///data/scan001.zarr"
        )
    for part in parts:
        _check_part(part, f"the path {text!r}", "choose another path")
    return Path("/", *parts)


def _path_of_uri(uri: str) -> str:
    try:
        split = urlsplit(uri)
    except ValueError as error:
        raise ValueError(
            f"{uri!r} is not a URI ({error}); write file:///data/scan001.zarr"
        ) from None
    if split.scheme != "file":
        raise ValueError(
            f"{uri!r}: {split.scheme or uri.partition('://')[0]}:// stores are not supported yet "
            "in this version; "
            "use file://"
        )
    if split.netloc not in ("", "localhost"):
        raise ValueError(
            f"{uri!r} is on the host {split.netloc!r}; a store is written through the local file "
            "system: "
            f"write {_suggestion(split.netloc + split.path)} if that was a directory, or mount the "
            "file system here"
        )
    if split.query or split.fragment or uri.endswith(("?", "#")):
        raise ValueError(
            f"{uri!r} contains '?' or '#', which end the path of a URI; choose another path"
        )
    return unquote(split.path, errors="surrogateescape")


def _suggestion(text: str) -> str:
    name = "/".join(
        part for part in text.removeprefix("file:").split("/") if part not in ("", ".", "..")
    )
    return f"file:///{name or 'data/scan001.zarr'}"


def store_uri(path: str | Path) -> str:
    """The `file:///` URI of a store, with nothing %-encoded.

    Examples
    --------
    >>> store_uri(Path("/data/2026 november/scan001.zarr"))
    'file:///data/2026 november/scan001.zarr'
    """
    return f"file://{store_path(path).as_posix()}"


def array_uri(store_uri: str | Path, key: str) -> str:
    """The URI of an array node as documents carry it: with a host, because event-model readers
    expect one.

    Examples
    --------
    >>> array_uri("file:///data/scan001.zarr", "primary/cam")
    'file://localhost/data/scan001.zarr/primary/cam'
    """
    return f"file://localhost{store_path(store_uri).as_posix()}/{check_key(key)}"


def local_path(path: str | Path) -> Path:
    """An absolute path for something a person typed: a path (also a relative one) or a `file://`
    URI.
    """
    if isinstance(path, str) and ("://" in path or path.startswith("file:")):
        return store_path(path)
    return Path(os.path.abspath(Path(path).expanduser()))


def check_key(key: str) -> str:
    """Return `key` if it can name a node inside a store, at any depth ("primary/cam").

    Zarr libraries quietly turn `/abs` into `abs` and `a\\b` into `a/b`, so these are refused rather
    than mended, as is whatever a file system or the Zarr specification keeps for itself.

    Raises
    ------
    ValueError
        It cannot.

    Examples
    --------
    >>> check_key("primary/cam")
    'primary/cam'
    >>> check_key("../cam")
    Traceback (most recent call last):
    ValueError: the key '../cam' leaves the store ('..'); use the device's name, such as 'cam'
    """
    if not isinstance(key, str):
        raise ValueError(f"the key {key!r} is not a string; use the device's name, such as 'cam'")
    what = f"the key {key!r}"
    if not key:
        raise ValueError(f"{what} is empty; give the device a name, such as 'cam'")
    if "\\" in key:
        raise ValueError(
            f"{what} contains a backslash; separate groups by '/', as in 'primary/cam'"
        )
    if key.startswith("/"):
        raise ValueError(f"{what} is absolute; leave out the leading '/', keys start at the store")
    parts = key.split("/")
    if "" in parts:
        raise ValueError(
            f"{what} has an empty part; write single '/' between names and none at the end"
        )
    if ".." in parts:
        raise ValueError(f"{what} leaves the store ('..'); use the device's name, such as 'cam'")
    for part in parts:
        if part.startswith("."):
            raise ValueError(
                f"{what}: {part!r} starts with a dot, kept for temporary files; choose another name"
            )
        if part.startswith("__"):
            raise ValueError(
                f"{what}: {part!r} starts with '__', kept by the Zarr specification; choose "
                "another name"
            )
        if part == "zarr.json":
            raise ValueError(
                f"{what}: 'zarr.json' is Zarr's own metadata file; choose another name"
            )
        _check_part(part, what, "choose another name")
    return key


def _check_part(part: str, what: str, advice: str) -> None:
    for character in part:
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"{what} contains the control character {character!r}; {advice}")
        if character in _NOT_IN_A_URI:
            raise ValueError(
                f"{what} contains {character!r}, which readers of a URI misread; {advice}"
            )
    length = len(part.encode())
    if length > MAX_PART_BYTES:
        raise ValueError(
            f"{what}: one of its names is {length} bytes long, a file name has at most "
            f"{MAX_PART_BYTES}; {advice}"
        )


def check_inside(base: Path, key: str) -> Path:
    """The path of the node `key` in the store at `base`, once no symbolic link on the way leads out
    of the store.

    Zarr libraries follow such links and would write somewhere else.

    Raises
    ------
    ValueError
        A key that `check_key` refuses, or a link that leads out.

    Examples
    --------
    >>> check_inside(Path("/data/scan001.zarr"), "primary/cam").as_posix()
    '/data/scan001.zarr/primary/cam'
    """
    path = base / check_key(key)
    real = Path(os.path.realpath(base))
    current = base
    for part in key.split("/"):
        current = current / part
        if current.is_symlink():
            target = Path(os.path.realpath(current))
            if not target.is_relative_to(real) or target in (current, real):
                raise ValueError(
                    f"the key {key!r}: {str(current)!r} is a symbolic link to "
                    f"{os.readlink(current)!r}, out of the "
                    f"store {str(base)!r}; remove the link or choose another name"
                )
    return path


@dataclass(frozen=True)
class PathInfo:
    """Where one device writes: all that has to cross a process border for it to open a writer of
    its own.

    Parameters
    ----------
    store_uri
        A `file://` URI; an absolute path is turned into one.
    array_key
        The device's key in the store.
    capacity
        The most frames to expect, 0 = unlimited.
    mimetype_hint
        The mimetype of the documents that announce the frames.
    extra
        Open for physical units, axis types and coordinate metadata; it is copied.

    Raises
    ------
    ValueError
        One of these cannot be used; it says what to change.

    Examples
    --------
    >>> PathInfo("/data/scan001.zarr", "cam").store_uri
    'file:///data/scan001.zarr'
    """

    store_uri: str
    array_key: str = ""
    capacity: int = 0
    mimetype_hint: str = "application/x-zarr"
    geometry: ScanGeometry | None = None
    run_uid: str = ""
    extra: dict[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "store_uri", store_uri(self.store_uri))
        if self.array_key:
            check_key(self.array_key)
        if (
            isinstance(self.capacity, bool)
            or not isinstance(self.capacity, int)
            or self.capacity < 0
        ):
            raise ValueError(
                f"capacity={self.capacity!r} is not a number of frames; use 0 for unlimited"
            )
        object.__setattr__(self, "extra", copy.deepcopy(dict(self.extra)))


@runtime_checkable
class PathProvider(Protocol):
    """Says where a device writes: a pure, picklable callable, the only thing that is injected into
    a device.
    """

    def __call__(self, device_name: str) -> PathInfo:
        """The place for the device of that name."""
        ...


@dataclass(frozen=True)
class StaticPathProvider:
    """Puts every device into one store, each under its own name.

    Examples
    --------
    >>> StaticPathProvider("file:///data/scan001.zarr")("cam").array_key
    'cam'
    """

    store_uri: str
    capacity: int = 0

    def __post_init__(self) -> None:
        checked = PathInfo(self.store_uri, capacity=self.capacity)
        object.__setattr__(self, "store_uri", checked.store_uri)

    def __call__(self, device_name: str) -> PathInfo:
        """The place for `device_name`, which becomes the key in the store; ValueError if it cannot
        be one.
        """
        return PathInfo(self.store_uri, check_key(device_name), self.capacity)
