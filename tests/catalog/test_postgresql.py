"""The guide to a catalog on PostgreSQL, done with a PostgreSQL server of the test's own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from bluesky_tiled_plugins import TiledWriter
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace
from tiled.client import from_uri

import bluesky_zarr as bz
from bluesky_zarr.catalog import dataset
from bluesky_zarr.devices import SimCamera
from bluesky_zarr.plans import nested_scan, zoom_scan

GUIDE = Path(__file__).parents[2] / "docs/how-to/postgresql.md"
KEY, PASSWORD = "alongrandomkey", "not:in/the@log"

# Distributions keep the server's programs in a folder that is on nobody's path.
PROGRAMS = os.pathsep.join(
    [os.environ.get("PATH", ""), *map(str, sorted(Path("/usr/lib/postgresql").glob("*/bin")))]
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (shutil.which("initdb", path=PROGRAMS) and shutil.which("postgres", path=PROGRAMS)),
        reason="PostgreSQL is not installed: there is no initdb and postgres",
    ),
]


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def wait_until(ready: Any, process: subprocess.Popen[bytes], log: Path) -> Any:
    """What `ready` returns as soon as it raises nothing any more."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return ready()
        except Exception:
            if process.poll() is not None or time.monotonic() > deadline:
                pytest.fail(f"a server did not start: {log.read_text()[-2000:]}")
            time.sleep(0.2)


@contextlib.contextmanager
def running(command: list[str], log: Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, **options)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture
def database() -> Iterator[str]:
    """Host and port of a PostgreSQL with the guide's user and its two databases."""
    # It refuses to run as root, and another account may not look into pytest's directories.
    account: dict[str, Any] = {}
    home = Path(tempfile.mkdtemp(prefix="bluesky-zarr-postgresql-", dir="/tmp"))
    if os.geteuid() == 0:
        account = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(home, "nobody", "nogroup")
    port = free_port()
    log, data, secret = home / "log", home / "data", home / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    try:
        command = [str(shutil.which("initdb", path=PROGRAMS)), "-D", str(data), "-U", "tiled"]
        command += ["--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
        made = subprocess.run(command, capture_output=True, text=True, cwd=home, **account)
        assert made.returncode == 0, made.stderr
        command = [str(shutil.which("postgres", path=PROGRAMS)), "-D", str(data), "-F"]
        command += ["-h", "127.0.0.1", "-p", str(port), "-k", str(home)]
        with running(command, log, cwd=home, **account) as process:
            wait_until(lambda: make_databases(port), process, log)
            yield f"127.0.0.1:{port}"
    finally:
        shutil.rmtree(home)


def make_databases(port: int) -> None:
    """What the guide's `createdb` does."""
    import asyncio

    import asyncpg

    async def make() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=port, user="tiled", password=PASSWORD, database="postgres"
        )
        try:
            for name in ("catalog", "tables"):
                await connection.execute(f"CREATE DATABASE {name} OWNER tiled")
        finally:
            await connection.close()

    asyncio.run(make())


def config_of_the_guide(database: str, data: Path, stores: Path) -> str:
    """The configuration that the guide shows, for this database and these directories."""
    shown = re.search(r'config = """\n(.*?)"""', GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    text = shown[1]
    for theirs, ours in {
        "db.example.org": database,
        "/var/lib/tiled/data": str(data),
        "/data/2026-11": str(stores),
    }.items():
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


def test_runs_are_found_and_read_on_postgresql_also_after_a_restart(
    RE: RunEngine, database: str, tmp_path: Path
) -> None:
    stores, data, log = tmp_path / "stores", tmp_path / "data", tmp_path / "log"
    stores.mkdir()
    data.mkdir()
    config = tmp_path / "tiled.yml"
    config.write_text(config_of_the_guide(database, data, stores))
    port = free_port()
    command = [sys.executable, "-m", "tiled", "serve", "config", str(config)]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "TILED_SINGLE_USER_API_KEY": KEY}
    environment |= {"PGUSER": "tiled", "PGPASSWORD": PASSWORD}

    def connect() -> Any:
        return from_uri(f"http://127.0.0.1:{port}", api_key=KEY, trust_env=False)

    storage = bz.Storage(f"file://{stores}")
    storage.attach(RE)
    with init_devices():
        mono = SimMotor(initial_value=7.0, units="keV", instant=True)
        y, x = SimMotor(instant=True), SimMotor(instant=True)
        cam = SimCamera((16, 16), x=x, y=y, wavelength=mono, exposure=0.01)
    storage.inject(cam)

    with running(command, log, env=environment) as process:
        client = wait_until(connect, process, log)
        RE.subscribe(TiledWriter(client, batch_size=1))
        spec = Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 2, 3)
        nested = RE(nested_scan([cam], spec)).run_start_uids[0]
        stored = bz.open(storage.last_path)["primary"]
        adaptive = RE(zoom_scan([cam], "cam-sum", mono, 7.0, 7.4, narrowest=0.02))
        client.context.close()

    with running(command, log, env=environment) as process:
        client = wait_until(connect, process, log)
        read = dataset(client[nested]["primary"])
        assert read["cam"].dims == ("y", "x", "cam_y", "cam_x")
        np.testing.assert_array_equal(read["cam"], stored["cam"])
        np.testing.assert_array_equal(read["x_readback"], stored["x_readback"])
        passes = client[adaptive.run_start_uids[0]]
        points = sum(len(passes[name]["cam"]) for name in passes if "cam" in passes[name])
        assert points == adaptive.plan_result.points
        client.context.close()
    assert PASSWORD not in log.read_text()
