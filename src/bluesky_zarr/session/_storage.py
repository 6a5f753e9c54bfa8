"""`Storage`: the one object that a startup script holds."""

from __future__ import annotations

import errno
import logging
import os
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bluesky.run_engine import RunEngine
from bluesky.utils import Msg, MsgGenerator

from bluesky_zarr.devices import Cursor, Placement, WritableDevice
from bluesky_zarr.store import Journal, status, store_path

from ._config import StorageConfig
from ._placer import Placer
from ._provider import OphydRunPathProvider, RunPathProvider, SessionPathProvider
from ._recorder import RunRecorder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Storage"]

logger = logging.getLogger("bluesky_zarr.session")

#: How many stores `attach` looks at for those that a crash left: the newest ones.
_LOOKED_AT = 200


class Storage:
    """Every run of a RunEngine becomes one N-D Zarr store, published when the run stops.

    Parameters
    ----------
    base_uri
        Directory of the stores, ``file:///data/2026-11``; or a whole `StorageConfig`.
    **options
        Further fields of `StorageConfig`.

    Raises
    ------
    ValueError
        For a URI that is not one, unknown options, names that leave the base directory.

    Examples
    --------
    >>> import tempfile
    >>> storage = Storage(tempfile.mkdtemp())
    >>> storage.path_provider("cam")
    Traceback (most recent call last):
    ...
    RuntimeError: 'cam' has no place to write: no run is open. ...
    """

    def __init__(self, base_uri: str | StorageConfig, **options: Any) -> None:
        if isinstance(base_uri, StorageConfig):
            if options:
                raise ValueError(
                    f"{', '.join(options)}: give options to StorageConfig, or a base URI with "
                    "options to Storage, not both."
                )
            self.config = base_uri
        else:
            self.config = StorageConfig(base_uri=str(base_uri), **options)
        self.base = store_path(self.config.base_uri)
        self.cursor = Cursor(self._place)
        self._devices: set[WritableDevice] = set()
        self._open: dict[str, RunRecorder] = {}
        self._descriptors: dict[str, RunRecorder] = {}
        self._last: RunRecorder | None = None
        self._unpublished: list[RunRecorder] = []
        self._placements: dict[str, Placement] = {}
        self._placer = Placer(
            self.cursor,
            lambda: self._devices,
            self._open.__getitem__,
            begin=self._finish_orphans,
            detach=self._detach,
        )
        self._attached: weakref.WeakKeyDictionary[RunEngine, int] = weakref.WeakKeyDictionary()
        self._seen: Any = None
        self._path_provider = SessionPathProvider(
            self._provider, self._snapshot, self._devices.discard
        )

    @classmethod
    def from_yaml(cls, path: str | Path) -> Storage:
        """A session configured by a YAML file; see `StorageConfig`."""
        return cls(StorageConfig.from_yaml(path))

    # -- what a startup script calls -----------------------------------------------------------

    def attach(self, RE: RunEngine) -> None:
        """Do all that a RunEngine session needs: documents, positions, publication.

        Of runs that crashed earlier, among the newest 200 in the base directory, a warning says how
        to recover them.

        Raises
        ------
        OSError
            When the base directory cannot be made or written, before any scan depends on it.
        """
        self._make_base()
        if RE in self._attached:
            return
        for other in [p for p in RE.preprocessors if isinstance(p, Placer)]:
            # A startup script that is run again makes a new storage: it takes the old one's place.
            logger.warning("Another Storage was attached to this RunEngine: it is detached.")
            RE.preprocessors.remove(other)
            other.detach(RE)
        self._tell_of_crashes()
        self._attached[RE] = RE.subscribe(self._document)
        # First of all preprocessors: those that follow wrap around it, so that the messages that
        # they add (baselines, for one) are not taken for points of the scan.
        RE.preprocessors.insert(0, self._placer)

    def _tell_of_crashes(self) -> None:
        with suppress(OSError):  # what cannot be listed can perhaps be written
            for store in status(self.base, newest=_LOOKED_AT).of("crashed"):
                logger.warning("An earlier run crashed. %s: %s", store.path.name, store.details)

    def _detach(self, RE: RunEngine) -> None:
        RE.unsubscribe(self._attached.pop(RE))

    def wrap(self, plan: Any) -> MsgGenerator[Any]:
        """The same for one plan, where nobody can attach: ``RE(storage.wrap(plan))``."""
        if not self._placer.active:  # nobody is attached to the RunEngine that runs this plan
            self._make_base()
            # A callable of its own: the RunEngine forgets this one with the plan, and would forget
            # what attach() subscribed in the meantime as well.
            yield Msg("subscribe", None, lambda name, doc: self._document(name, doc), "all")
        return (yield from self._placer(plan))

    def inject(self, *devices: WritableDevice) -> None:
        """Give devices this session's path provider, and their positions."""
        for device in devices:
            if not isinstance(device, WritableDevice):
                raise TypeError(
                    f"{device!r} is not a WritableDevice and cannot write Zarr stores by itself; "
                    "its readings are stored without being injected. For a detector that writes "
                    "files: use path_provider=storage.ophyd_provider()."
                )
            owner = device.path_provider
            if isinstance(owner, SessionPathProvider):
                owner.release(device)  # a device belongs to one session: the last one
            device.path_provider = self._path_provider
            self._devices.add(device)

    @property
    def path_provider(self) -> SessionPathProvider:
        """What `inject` gives to devices."""
        return self._path_provider

    def ophyd_provider(self) -> OphydRunPathProvider:
        """A path provider for ophyd-async's own detectors: their files land beside the store."""
        return OphydRunPathProvider(self._newest_path)

    @property
    def last_path(self) -> Path:
        """The newest run's store.

        Raises
        ------
        RuntimeError
            Before the first run that stored anything.
        """
        if self._last is None:
            raise RuntimeError(
                f"No run of this session has stored anything in {self.base} yet. Run a plan first: "
                "in a RunEngine that storage.attach(RE) has seen."
            )
        return self._last.path

    def plot(self, signal: str = "", *, frame: int | Sequence[int] | None = None) -> Figure:
        """Draw the newest run; see `bluesky_zarr.pictures.plot_run`.

        Raises
        ------
        RuntimeError
            Before the first run that stored anything.
        ImportError
            Without matplotlib, which the ``plot`` extra installs.
        """
        from bluesky_zarr.pictures import plot_run

        return plot_run(self.last_path, signal, frame=frame)

    def _make_base(self) -> None:
        advice = "give the storage another base_uri, or this user the right to write there"
        try:
            self.base.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"cannot make the directory of the stores ({error.strerror}); {advice}",
                str(self.base),
            ) from error
        if not os.access(self.base, os.W_OK | os.X_OK):
            raise PermissionError(
                errno.EACCES,
                f"the directory of the stores cannot be written; {advice}",
                str(self.base),
            )

    # -- the run of the moment -----------------------------------------------------------------

    def _place(self, placement: Placement) -> None:
        for device in self._devices:
            if device.name in placement.devices:
                self._placements[device.name] = placement
                device.place(placement)

    def _current(self, name: str) -> tuple[RunRecorder, str]:
        placement = self._placements.get(name)
        recorder = None if placement is None else self._open.get(placement.run_uid)
        if recorder is not None and placement is not None:
            return recorder, placement.stream
        if self._open:
            raise RuntimeError(
                f"Nobody said where a frame of '{name}' belongs: it was triggered by something "
                "that this session does not see, a baseline perhaps. Take it out of there, and "
                "read it in the plan: after bluesky_zarr.plans.place(stream, index), index from 0."
            )
        raise RuntimeError(
            f"'{name}' has no place to write: no run is open. Prepare and trigger it between "
            "open_run and close_run, in a RunEngine that storage.attach(RE) has seen, or in a plan "
            "that storage.wrap(plan) wraps."
        )

    def _newest(self, name: str) -> RunRecorder:
        if not self._open:
            raise RuntimeError(
                f"'{name}' has no place to write: no run is open. Prepare it between open_run and "
                "close_run, in a RunEngine that storage.attach(RE) has seen."
            )
        return next(reversed(self._open.values()))

    def _newest_path(self, name: str) -> Path:
        recorder = self._newest(name)
        recorder.open()  # so that the directory is there
        return recorder.path

    def _provider(self, name: str) -> RunPathProvider:
        recorder, stream = self._current(name)
        recorder.check_name(stream, name)
        return recorder.provider(stream)

    def _snapshot(self) -> RunPathProvider:
        return self._newest("a device in another process").provider("primary")

    def _finish_orphans(self) -> None:
        # Runs whose stop document never came here: somebody else's callback raised before it.
        for uid in list(self._open):
            recorder = self._forget(uid)
            with suppress(Exception):  # said by the log; this run's plan has nothing to do with it
                recorder.finish("failed", "the run's stop document did not arrive")
            self._keep_unpublished(recorder)
        for recorder in list(self._unpublished):
            with suppress(Exception):
                recorder.publish()
                self._unpublished.remove(recorder)

    def _keep_unpublished(self, recorder: RunRecorder) -> None:
        if recorder.unpublished:
            self._unpublished.append(recorder)

    def _new_path(self, start: Mapping[str, Any]) -> Path:
        path = self.base / self.config.store_name(start)
        number = 2
        while self._is_taken(path):
            path = path.with_name(
                f"{path.name.removesuffix('.zarr').rsplit('~', 1)[0]}~{number}.zarr"
            )
            number += 1
        return path

    def _is_taken(self, path: Path) -> bool:
        # A journal without its store is somebody's as well: a recovery would mix it in.
        return (
            path.exists()
            or path.is_symlink()
            or Journal.path_of(path).exists()
            or any(recorder.path == path for recorder in self._open.values())
        )

    # -- documents -----------------------------------------------------------------------------

    def _document(self, name: str, doc: Any) -> None:
        if doc is self._seen:  # subscribed twice, by attach and by a wrap before it
            return
        self._seen = doc
        match name:
            case "start":
                self._open[doc["uid"]] = RunRecorder(
                    self.config, doc, lambda: self._new_path(doc), self._devices
                )
            case "descriptor":
                recorder = self._open[doc["run_start"]]
                self._descriptors[doc["uid"]] = recorder
                recorder.descriptor(doc)
                self._last = recorder
            case "event":
                self._descriptors[doc["descriptor"]].event(doc, self.cursor)
            case "event_page":
                self._descriptors[doc["descriptor"]].event_page(doc, self.cursor)
            case "stream_resource":
                for device in self._devices:
                    device.stream_resource_emitted(doc["uid"])
            case "stream_datum":
                self._descriptors[doc["descriptor"]].stream_datum(doc)
            case "stop":
                self._stop(doc)

    def _stop(self, doc: Mapping[str, Any]) -> None:
        if doc["run_start"] in self._open:
            recorder = self._forget(doc["run_start"])
            try:
                recorder.stop(doc)
            finally:
                self._keep_unpublished(recorder)

    def _forget(self, run_uid: str) -> RunRecorder:
        recorder = self._open.pop(run_uid)
        for uid in [u for u, r in self._descriptors.items() if r is recorder]:
            del self._descriptors[uid]
        if recorder.opened:
            self._last = recorder
        return recorder
