"""The embedded server: starts, answers on the loopback interface only, and goes."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr import Storage
from bluesky_zarr.catalog import TiledServer, serve
from bluesky_zarr.plans import nested_scan
from tests.catalog.handmade import HandmadeRun
from tests.fakes import PositionCamera, instant_motor


def port_of(server: TiledServer) -> int:
    return int(server.uri.rpartition(":")[2])


def answers(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def test_a_key_is_needed(server: TiledServer) -> None:
    with httpx.Client(trust_env=False) as client:
        assert client.get(f"{server.uri}/api/v1/metadata/").status_code == 401
    # And others on the machine do not see it.
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            assert server.api_key.encode() not in (process / "cmdline").read_bytes()
            assert server.api_key.encode() not in (process / "environ").read_bytes()


def test_it_listens_on_the_loopback_interface_only(server: TiledServer) -> None:
    port = f"{port_of(server):04X}"
    listening = [
        line.split()[1]
        for table in ("/proc/net/tcp", "/proc/net/tcp6")
        for line in Path(table).read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(port)
    ]
    assert listening == [f"0100007F:{port}"]


def test_a_directory_keeps_its_runs_and_close_frees_the_port(tmp_path: Path) -> None:
    stores = tmp_path / "stores"
    stores.mkdir()
    with serve(tmp_path / "catalog", readable_storage=stores) as first:
        port = port_of(first)
        run = HandmadeRun(first.writer(), stores / "a.zarr", (2, 3), ("y", "x"))
        run.points(range(6))
        run.stop()
        # While it lives nobody else gets its port, and the log says so.
        with pytest.raises(RuntimeError, match=r"(?s)ended with status.*address already in use"):
            serve(readable_storage=stores, port=port)
    first.close()  # a second time: nothing happens
    assert "(closed)" in repr(first)
    assert not answers(port)
    with serve(tmp_path / "catalog", readable_storage=stores, port=port) as second:
        assert port_of(second) == port
        assert second.client()[run.uid]["primary"]["cam"].shape == (2, 3, 4, 6)


def test_a_server_goes_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = (
        "import sys, time; from bluesky_zarr.catalog import serve; "
        f"server = serve({str(tmp_path / 'catalog')!r}); print(server.uri, flush=True); "
        "time.sleep(60)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=env
    ) as parent:
        assert parent.stdout is not None
        port = int(parent.stdout.readline().rpartition(":")[2])
        assert answers(port)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while answers(port) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not answers(port)


def test_a_readable_storage_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="nowhere is not a directory; make it first"):
        serve(readable_storage=tmp_path / "nowhere")


def test_a_store_outside_of_the_readable_storage_is_not_read(
    server: TiledServer, tmp_path: Path
) -> None:
    run = HandmadeRun(server.writer(), tmp_path / "a.zarr", (2, 3), ("y", "x"))
    run.points([0])
    run.stop()
    cam = server.client()[run.uid]["primary"]["cam"]
    # Asked without Tiled's client, which tries an error of the server again for a while.
    with httpx.Client(trust_env=False) as client:
        answer = client.get(
            cam.item["links"]["full"], headers={"Authorization": f"Apikey {server.api_key}"}
        )
    assert answer.status_code == 500
    log = server.directory / "server.log"
    deadline = time.monotonic() + 5  # the log is written after the answer
    while "outside the readable storage" not in log.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "outside the readable storage area for this server" in log.read_text()


def test_a_link_to_the_readable_storage_is_as_good(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to(tmp_path / "disk")
    with serve(readable_storage=f"file://{tmp_path / 'data'}") as server:
        for base in ("data", "disk"):
            run = HandmadeRun(server.writer(), tmp_path / base / f"{base}.zarr", (2,), ("x",))
            run.points(range(2))
            run.stop()
            np.testing.assert_array_equal(
                server.client()[run.uid]["primary"]["cam"].read(), run.expected
            )


def test_a_scan_goes_on_when_its_catalog_dies_and_its_documents_are_kept(
    RE: RunEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tiled.client.utils.TILED_RETRY_ATTEMPTS", 2)  # else it tries for 45 s
    storage = Storage(f"file://{tmp_path}/data")
    with init_devices():
        a = instant_motor("a")
        cam = PositionCamera([a], name="cam")
    storage.attach(RE)
    storage.inject(cam)
    with serve(tmp_path / "catalog", readable_storage=tmp_path) as server:
        RE.subscribe(server.writer())

        def die(name: str, doc: Any) -> None:
            if name == "event" and doc["seq_num"] == 2:
                process = server._stop.peek()[2][0]
                process.kill()
                process.wait(10)

        RE.subscribe(die)
        RE(nested_scan([cam], Linspace(a, 0, 3, 4)))
        assert RE.state == "idle"
        ds = bz.open(storage.last_path)
        assert ds.attrs["status"] == "complete"
        assert ds["primary"]["cam_written"].values.tolist() == [1, 1, 1, 1]
        (kept,) = (tmp_path / "catalog" / "missed").iterdir()
        names = [json.loads(line)["name"] for line in kept.read_text().splitlines()]
        assert (names[0], names[-1], names.count("event_page")) == ("start", "stop", 4)
