"""The root of a running store: begun once, shared by its writers, refused when it is published."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from bluesky_zarr.store._files import link_new
from bluesky_zarr.store._identity import who
from bluesky_zarr.store._kinds import made_by
from bluesky_zarr.store._locks import directory_turn
from bluesky_zarr.store._metadata import (
    encode_document,
    group_document,
    plain,
    read_document,
    write_document,
)
from bluesky_zarr.store._paths import check_inside, check_key
from bluesky_zarr.store._provenance import FORMAT, provenance


class StoreRoot:
    """The running store at a path, which is begun if there is none; its groups and attributes.

    What is in the directory before, other than files named in `ours`, is somebody else's.

    Raises
    ------
    FileExistsError
        The path is a published store, or something that is no store of ours.
    OSError
        The directory cannot be written (PermissionError, for one).
    """

    def __init__(
        self, path: Path, attributes: Mapping[str, Any], *, ours: Collection[str] = ()
    ) -> None:
        self.path = path
        self._ours = ours
        self._lock = threading.RLock()
        self._mkdir(path)
        if not self._begin(attributes):
            self.check_running()
            if attributes:
                self.set_attributes("", attributes)

    def _begin(self, attributes: Mapping[str, Any]) -> bool:
        node = self.path / "zarr.json"
        if node.exists():
            return False
        # Whoever else begins this store now has temporary files here at most, or its root a moment
        # later.
        others = sorted(
            name
            for name in os.listdir(self.path)
            if not name.endswith(".tmp") and name not in self._ours
        )
        if others and not node.exists():
            shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
            raise FileExistsError(
                f"{str(self.path)!r} is a directory with other things in it ({shown}) and no Zarr "
                "store; choose another path"
            )
        document = group_document({**plain(dict(attributes)), "status": "running", **provenance()})
        return self._link(node, document)

    def check_running(self) -> None:
        """Raise FileExistsError unless this is a store of ours that is not yet published."""
        document = read_document(self.path)
        attributes = document.get("attributes", {})
        kind = document["node_type"]
        if kind != "group" or made_by(attributes) != FORMAT["name"]:
            raise FileExistsError(
                f"{str(self.path)!r} is a Zarr {kind} that bluesky-zarr did not make; "
                "choose another path"
            )
        if attributes.get("status") != "running":
            raise FileExistsError(
                f"{str(self.path)!r} is published ({attributes.get('status')}); a published store "
                "is never changed; choose another path"
            )

    def make_groups(self, key: str) -> None:
        """Make the group with this key and those above it, unless they exist."""
        check_inside(self.path, check_key(key))
        node = self.path
        for part in key.split("/"):
            node = node / part
            if not (node / "zarr.json").exists():
                self._mkdir(node)
                self._link(node / "zarr.json", group_document())
            if read_document(node)["node_type"] != "group":
                raise FileExistsError(
                    f"{str(node)!r} is an array, so {key!r} cannot be a group; choose another key"
                )

    def set_attributes(self, key: str, attributes: Mapping[str, Any]) -> None:
        """Add attributes to a node, or replace them; the key "" is the root."""
        # Also against other writers, and against a publication that is about to replace the root.
        with directory_turn(self.path):
            self.check_running()
            node = check_inside(self.path, key) if key else self.path
            document = read_document(node)
            document.setdefault("attributes", {}).update(plain(dict(attributes)))
            write_document(node, document)

    def create_arrays(self, documents: Mapping[str, Mapping[str, Any]]) -> None:
        """Make the arrays with these keys, and the groups above them.

        Raises
        ------
        FileExistsError
            One of the keys exists. Nothing was made, unless another process was
            faster with one of the later keys.
        """
        with self._lock:
            self.check_running()
            for key in documents:
                if (check_inside(self.path, key) / "zarr.json").exists():
                    raise self._exists(key)
            for key, document in documents.items():
                parent, _, _ = key.rpartition("/")
                if parent:
                    self.make_groups(parent)
                self._mkdir(self.path / key)
                if not self._link(self.path / key / "zarr.json", document):
                    raise self._exists(key)

    def _exists(self, key: str) -> FileExistsError:
        document = read_document(self.path / key)
        kind = document["node_type"]
        ours = document.get("attributes", {}).get("bluesky_zarr")
        writer = ours.get("writer") if isinstance(ours, Mapping) else None
        holder = f" (written by {who(writer)})" if isinstance(writer, Mapping) else ""
        return FileExistsError(
            f"{kind} {key!r} already exists in {str(self.path)!r}{holder}; each device needs its "
            "own key"
        )

    def _mkdir(self, path: Path) -> None:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError) as error:
            parts = (path, *path.parents)
            blocker = next((part for part in parts if part.exists() and not part.is_dir()), path)
            raise FileExistsError(
                f"{str(path)!r} cannot be a store: {str(blocker)!r} is a file; choose another path"
            ) from error
        except OSError as error:
            raise self._refused(error, path) from error

    def _link(self, path: Path, document: Mapping[str, Any]) -> bool:
        try:
            return link_new(path, encode_document(document))
        except OSError as error:
            raise self._refused(error, path.parent) from error

    def _refused(self, error: OSError, directory: Path) -> OSError:
        parts = (directory, *directory.parents)
        existing = next((part for part in parts if os.path.lexists(part)), directory)
        advice = "choose another path"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = (
                f"this process may not write in {str(existing)!r}: change its permissions, "
                "or choose another path"
            )
        why = error.strerror or str(error)
        text = f"cannot write the store {str(self.path)!r} ({why}); {advice}"
        # OSError picks the class by the number: PermissionError, where it is one.
        return OSError(error.errno, text, str(existing))
