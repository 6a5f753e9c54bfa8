"""Path providers of a session: one store for each run, nothing outside of runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ophyd_async.core import PathInfo as OphydPathInfo

from bluesky_zarr.devices import WritableDevice
from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.store import PathInfo, store_uri

__all__ = ["OphydRunPathProvider", "RunPathProvider", "SessionPathProvider"]


@dataclass(frozen=True)
class RunPathProvider:
    """Paths of one stream of one run: plain data, so that it can cross a process border.

    >>> RunPathProvider("file:///data/a.zarr", run_uid="b1946ac9")("cam").array_key
    'primary/cam'
    """

    store_uri: str
    run_uid: str
    stream: str = "primary"
    geometry: ScanGeometry | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, device_name: str) -> PathInfo:
        """Where the device of this name writes in this run and stream."""
        return PathInfo(
            store_uri=self.store_uri,
            array_key=f"{self.stream}/{device_name}",
            capacity=self.geometry.size if self.geometry and not self.geometry.growing else 0,
            geometry=self.geometry,
            run_uid=self.run_uid,
            extra=dict(self.options),
        )


class SessionPathProvider:
    """The provider that devices keep: it always speaks of the run and stream of the moment.

    It is pickled as the newest run's `RunPathProvider`.

    Parameters
    ----------
    current
        Gives the provider of the run and stream that a device of this name was told.
    snapshot
        Gives the provider of the newest run.
    release
        Called with a device that another session takes over.
    """

    def __init__(
        self,
        current: Callable[[str], RunPathProvider],
        snapshot: Callable[[], RunPathProvider],
        release: Callable[[WritableDevice], None],
    ) -> None:
        self._current = current
        self._snapshot = snapshot
        self.release = release

    def __call__(self, device_name: str) -> PathInfo:
        """Where the device of this name writes now.

        Raises
        ------
        RuntimeError
            Outside of a run.
        """
        return self._current(device_name)(device_name)

    def __reduce__(
        self,
    ) -> tuple[Callable[[RunPathProvider], RunPathProvider], tuple[RunPathProvider]]:
        return _itself, (self._snapshot(),)


def _itself(provider: RunPathProvider) -> RunPathProvider:
    return provider


class OphydRunPathProvider:
    """ophyd-async's form: detectors that write HDF5 put their files beside the run's store."""

    def __init__(self, current_path: Callable[[str], Path]) -> None:
        self._current_path = current_path

    def __call__(self, datakey_name: str) -> OphydPathInfo:
        """A file name beside the run's store: ``<store>-<device>``.

        Raises
        ------
        RuntimeError
            Outside of a run.
        """
        path = self._current_path(datakey_name)
        return OphydPathInfo(
            directory_path=path.parent,
            directory_uri=store_uri(path.parent)
            .rstrip("/")
            .replace("file:///", "file://localhost/")
            + "/",
            filename=f"{path.stem}-{datakey_name}",
            create_dir_depth=-1,
        )
