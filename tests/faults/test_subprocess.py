"""A device whose frames another process writes: it dies in the middle of a run."""

from __future__ import annotations

import base64
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from bluesky.utils import FailedStatus
from event_model import StreamRange, compose_stream_resource
from ophyd_async.core import AsyncStatus
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from bluesky_zarr.store import PathProvider, array_uri, validate
from bluesky_zarr.store._metadata import read_document
from tests.store.reading import READERS

SHAPE = (200, 220)

WRITES = """
import base64, pickle, sys
import numpy as np
from bluesky_zarr.store import SourceInfo, ZarrWriter
info = pickle.loads(base64.b64decode(sys.stdin.readline()))("remote")
source = SourceInfo("remote", "uint16", (200, 220), geometry=info.geometry)
sink = ZarrWriter(info.store_uri).prepare(source, key=info.array_key)
print("ready", flush=True)
for line in sys.stdin:
    flat = int(line)
    sink.write(np.full((200, 220), flat + 1, "uint16"), flat)
    sink.drain()
    print(flat, flush=True)
"""


class RemoteCamera:
    """A camera as RunEngines know them; a process of its own, told where to by PathInfo, writes."""

    name = "remote"
    parent = None

    def __init__(self, provider: PathProvider) -> None:
        self.provider = provider
        self.dies_at = -1
        self.child: subprocess.Popen[str] | None = None

    def stage(self) -> list[RemoteCamera]:
        self.count = 0
        return [self]

    def unstage(self) -> list[RemoteCamera]:
        if self.child is not None:
            self.child.communicate()
            self.child = None
        return [self]

    def trigger(self) -> AsyncStatus:
        async def expose() -> None:
            if self.child is None:
                self._start()
            self._ask(str(self.info.geometry.flat(self.count)))
            self.count += 1

        return AsyncStatus(expose())

    def _start(self) -> None:
        # What another process gets is the provider of this run.
        told = pickle.dumps(self.provider)
        self.info: Any = pickle.loads(told)(self.name)
        self.child = subprocess.Popen(
            [sys.executable, "-c", WRITES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._ask(base64.b64encode(told).decode())
        bundle = compose_stream_resource(
            mimetype=self.info.mimetype_hint,
            uri=array_uri(self.info.store_uri, self.info.array_key),
            data_key=self.name,
            parameters={},
        )
        self.resource: Any = bundle.stream_resource_doc
        self.compose = bundle.compose_stream_datum

    def _ask(self, line: str) -> None:
        assert self.child is not None
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        if self.count == self.dies_at:
            # The frame may be there, or not: if it says so before it dies, nobody hears it.
            self.child.send_signal(signal.SIGKILL)
            self.child.stdout.read()
        if not self.child.stdout.readline():
            raise RuntimeError(f"process {self.child.pid}, which writes {self.name!r}, is gone")

    def read(self) -> dict[str, Any]:
        return {}

    def describe(self) -> dict[str, Any]:
        key = {"source": self.resource["uri"], "dtype": "array", "shape": list(SHAPE)}
        return {self.name: {**key, "dtype_numpy": "<u2", "external": "STREAM:"}}

    def read_configuration(self) -> dict[str, Any]:
        return {}

    describe_configuration = read_configuration

    def collect_asset_docs(self, index: int | None = None) -> Iterator[tuple[str, Any]]:
        if self.count == 1:
            yield "stream_resource", self.resource
        flat = self.info.geometry.flat(self.count - 1)
        yield "stream_datum", self.compose(indices=StreamRange(start=flat, stop=flat + 1))


def test_a_device_whose_process_dies_fails_the_plan_and_keeps_what_was_announced(
    lab: SimpleNamespace,
) -> None:
    remote = RemoteCamera(lab.storage.path_provider)
    announced: list[int] = []

    def note(name: str, doc: Any) -> None:
        if name == "stream_datum":
            announced.append(doc["indices"]["start"])

    lab.RE.subscribe(note)
    spec = Linspace(lab.a, 0, 3, 4) * ~Linspace(lab.b, 0, 4, 5)
    remote.dies_at = 7
    with pytest.raises((RuntimeError, FailedStatus)) as raised:
        lab.RE(nested_scan([remote], spec))
    assert "which writes 'remote', is gone" in f"{raised.value} {raised.value.__cause__}"
    assert lab.RE.state == "idle"
    assert announced == [0, 1, 2, 3, 4, 9, 8]

    failed = lab.storage.last_path
    attributes = read_document(failed)["attributes"]
    assert attributes["status"] == "failed"
    assert "is gone" in attributes["reason"]
    assert validate(failed, deep=True), str(validate(failed, deep=True))
    for read in READERS:
        data = read(failed, "primary/remote").reshape(20, *SHAPE)
        for flat in announced:
            assert (data[flat] == flat + 1).all(), f"{read.__name__}: {flat}"
        assert set(np.unique(data)) <= {0, *(flat + 1 for flat in announced), 8}
    assert bz.open(failed)["primary"]["seq_num"].values.reshape(-1)[announced].tolist() == [
        *range(1, 8)
    ]

    remote.dies_at = -1
    lab.RE(nested_scan([remote], spec))
    assert read_document(lab.storage.last_path)["attributes"]["status"] == "complete"
    assert validate(lab.storage.last_path, deep=True)
    assert lab.storage.last_path != failed
    whole = READERS[0](lab.storage.last_path, "primary/remote").reshape(20, *SHAPE)
    assert whole[:, 3, 7].tolist() == [*range(1, 21)]
