"""An embedded Tiled server, for demos, tests and a single user's catalog.

A stock server in a process of its own, so that neither the RunEngine's loop nor its GIL notice it.
It listens on the loopback interface only, wants a random key, and goes when its parent goes.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import select
import shutil
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._databroker import profile
from ._registration import register
from ._require import require

if TYPE_CHECKING:
    from bluesky_tiled_plugins import TiledWriter

__all__ = ["TiledServer", "serve"]

STARTUP_SECONDS = 60.0
STOP_SECONDS = 5.0
LOG_LINES = 30


class TiledServer:
    """A running Tiled server; made by `serve`, ended by `close` or by leaving a ``with`` block.

    `uri` is its address (``http://127.0.0.1:PORT``), `api_key` the key that it wants, `directory`
    where its databases and its log (``server.log``) are.
    """

    def __init__(
        self, directory: Path, *, temporary: bool, readable_storage: list[Path], port: int
    ) -> None:
        self.directory = directory
        self.api_key = secrets.token_hex(32)
        self._connections: weakref.WeakSet[Any] = weakref.WeakSet()
        settings = {
            "directory": str(directory),
            "readable_storage": [str(path) for path in readable_storage],
            "port": port,
            "api_key": self.api_key,
            "parent": os.getpid(),
        }
        process, answer = _launch(settings, directory / "server.log")
        # Also at the interpreter's exit, and when the last reference goes.
        self._stop = weakref.finalize(
            self, _stop, process, directory if temporary else None, os.getpid()
        )
        try:
            self.uri = f"http://127.0.0.1:{_wait_for_port(process, answer, directory)}"
        except BaseException:
            self.close()
            raise

    def client(self, structure_clients: str = "numpy") -> Any:
        """Connect to the server: Tiled's own client, a catalog of runs.

        Parameters
        ----------
        structure_clients
            ``"numpy"``, or ``"dask"`` for arrays that are read when they are needed.
        """
        tiled = require("tiled.client", "tiled")
        # A proxy from the environment would be asked for the loopback interface too.
        client = tiled.from_uri(self.uri, structure_clients, api_key=self.api_key, trust_env=False)
        self._connections.add(client.context)
        return client

    def writer(self, batch_size: int = 1) -> TiledWriter:
        """Make a stock TiledWriter for ``RE.subscribe(server.writer())``.

        A scan goes on without its catalog: should the server fail, the documents of that run are
        kept in ``missed/<uid>.jsonl`` in the server's directory, and the log says so.

        Parameters
        ----------
        batch_size
            Documents that are sent together. With 1 each frame can be read through Tiled as soon as
            it is announced.
        """
        plugins = require("bluesky_tiled_plugins", "tiled")
        register()
        missed = self.directory / "missed"
        missed.mkdir(exist_ok=True)
        return plugins.TiledWriter(
            self.client(), batch_size=batch_size, backup_directory=str(missed)
        )

    def profile(
        self, name: str, directory: str | os.PathLike[str] | None = None
    ) -> AbstractContextManager[Path]:
        """Write a Tiled client profile, for databroker and for ``tiled.client.from_profile``.

        See `profile`. The file goes to `directory`, by default beside the server's databases,
        never to the user's own configuration unless that is what is asked for.
        """
        return profile(name, self.uri, self.api_key, directory or self.directory / "profiles")

    def close(self) -> None:
        """Stop the server and delete its temporary directory; a directory of yours stays."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()
        self._stop()

    def __enter__(self) -> TiledServer:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<TiledServer {self.uri}{'' if self._stop.alive else ' (closed)'}>"


def serve(
    directory: str | os.PathLike[str] | None = None,
    *,
    readable_storage: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    port: int = 0,
) -> TiledServer:
    """Start a Tiled server for this session, on the loopback interface.

    Parameters
    ----------
    directory
        Where the catalog's databases are kept, so that a later server finds the same runs; by
        default a temporary directory that goes with the server.
    readable_storage
        Directories (or ``file://`` URIs) below which stores are read: the base of all runs' stores
        belongs here. Tiled takes documents of runs whose stores lie elsewhere, but refuses to read
        their arrays: a server error 500, with the reason in ``server.log``.
    port
        A fixed port; 0 takes a free one.

    Raises
    ------
    RuntimeError
        When the server does not start; the message ends with its log.
    ValueError
        When a readable storage is no directory.
    ImportError
        When Tiled's server is not installed.

    Examples
    --------
    >>> with serve(readable_storage="/data/2026-11") as server:  # doctest: +SKIP
    ...     RE.subscribe(server.writer())
    ...     RE(count([cam], 3))
    ...     server.client().values().last()["primary"].read()
    """
    _check_installed()
    if isinstance(readable_storage, (str, os.PathLike)):
        readable_storage = [readable_storage]
    readable = [path for entry in readable_storage for path in _readable(entry)]
    temporary = directory is None
    if directory is None:
        home = Path(tempfile.mkdtemp(prefix="bluesky-zarr-tiled-"))
    else:
        home = Path(directory).resolve()
        home.mkdir(parents=True, exist_ok=True)
    return TiledServer(home, temporary=temporary, readable_storage=readable, port=port)


def _check_installed() -> None:
    # Found, not imported: only the server's own process needs it, and it takes seconds.
    for module in ("tiled", "uvicorn", "duckdb"):
        if importlib.util.find_spec(module) is None:
            require(module, "tiled")


def _readable(entry: str | os.PathLike[str]) -> set[Path]:
    from ..store._paths import local_path

    path = local_path(os.fspath(entry))
    if not path.is_dir():
        raise ValueError(f"readable_storage: {path} is not a directory; make it first")
    # Tiled compares paths as they are written, and a run's documents may have either.
    return {path, path.resolve()}


def _launch(settings: dict[str, Any], log_path: Path) -> tuple[subprocess.Popen[bytes], int]:
    receive, send = os.pipe()
    try:
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", str(Path(__file__).with_name("_server_process.py"))],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=(send,),
                # A Ctrl-C in the terminal pauses a scan: it must not stop the catalog.
                start_new_session=True,
                # The user's own settings for Tiled are for the user's own servers.
                env={k: v for k, v in os.environ.items() if not k.startswith("TILED_")},
            )
    except BaseException:
        os.close(receive)
        raise
    finally:
        os.close(send)
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(json.dumps(settings | {"pipe": send}).encode() + b"\n")
    return process, receive


def _wait_for_port(process: subprocess.Popen[bytes], answer: int, directory: Path) -> int:
    with os.fdopen(answer, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], STARTUP_SECONDS)
        line = pipe.readline() if ready else b""
    if line:
        return int(line)
    if ready:
        process.wait(STOP_SECONDS)
        problem = f"ended with status {process.returncode}"
    else:
        problem = f"did not answer within {STARTUP_SECONDS:.0f} s"
    log = (directory / "server.log").read_text(errors="replace").splitlines()
    raise RuntimeError(
        "\n".join([f"The Tiled server {problem}. The end of its log:", *log[-LOG_LINES:]])
    )


def _stop(process: subprocess.Popen[bytes], temporary: Path | None, owner: int) -> None:
    if os.getpid() != owner:  # a forked child leaves its parent's server alone
        return
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
