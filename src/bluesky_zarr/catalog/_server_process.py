"""The process that `serve` starts: a stock Tiled server on the loopback interface.

Run by path, not imported: it needs nothing of bluesky_zarr. Standard input brings the configuration
as one JSON line, so that the key shows up neither in the process list nor in the environment. The
port goes back through the pipe whose number the configuration names. Everything printed is the log.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

POLL_SECONDS = 0.5


def leave_with(parent: int) -> None:
    """End this process when the one that started it is gone, however that ended.

    A dead parent's children go to another one. This holds also where a signal on the parent's death
    does not: on macOS, and when only the *thread* that started us has ended.
    """
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    os._exit(1)


def create_catalog(database: Path) -> str:
    """Give the URI of the catalog's database, made and stamped if it is not there yet."""
    from sqlalchemy.ext.asyncio import create_async_engine
    from tiled.alembic_utils import stamp_head
    from tiled.catalog.alembic_constants import ALEMBIC_DIR, ALEMBIC_INI_TEMPLATE_PATH
    from tiled.catalog.core import initialize_database
    from tiled.utils import ensure_specified_sql_driver

    uri = ensure_specified_sql_driver(f"sqlite:///{database}")
    if not database.exists():
        # As `tiled serve catalog --temp` does it: tiled's own `init_if_not_exists` starts a second
        # interpreter for this, which doubles the time to the first request.
        async def initialize() -> None:
            engine = create_async_engine(uri)
            await initialize_database(engine)
            await engine.dispose()

        asyncio.run(initialize())
        stamp_head(Path(ALEMBIC_INI_TEMPLATE_PATH), Path(ALEMBIC_DIR), uri)
    return uri


def main() -> None:
    """Serve until told to stop, or until the parent is gone."""
    settings: dict[str, Any] = json.loads(sys.stdin.readline())
    threading.Thread(target=leave_with, args=(settings["parent"],), daemon=True).start()

    import uvicorn
    from bluesky_tiled_plugins.exporters import json_seq_exporter
    from bluesky_tiled_plugins.routers.validator import router
    from tiled.catalog import from_uri
    from tiled.config import Authentication, StreamingCacheConfig
    from tiled.media_type_registration import default_serialization_registry
    from tiled.server.app import build_app
    from tiled.server.logging_config import LOGGING_CONFIG
    from tiled.utils import ensure_uri

    directory = Path(settings["directory"])
    (directory / "data").mkdir(exist_ok=True)
    catalog = from_uri(
        create_catalog(directory / "catalog.db"),
        # Clients then find runs also by scan_id and by age: `client[-1]` is the newest.
        specs=[{"name": "CatalogOfBlueskyRuns", "version": "3.0"}],
        # Tables of events go to DuckDB and not to a second SQLite file: it has columns of arrays.
        writable_storage=[
            directory / "data",
            ensure_uri(f"duckdb:///{directory / 'tables.duckdb'}"),
        ],
        readable_storage=settings["readable_storage"],
        cache_config=StreamingCacheConfig(uri="memory").model_dump(),
    )
    # What every Tiled server for Bluesky has in its configuration: `run.documents()` needs the one,
    # `run.validate()` the other.
    default_serialization_registry.register("BlueskyRun", "application/json-seq", json_seq_exporter)
    app = build_app(
        catalog,
        authentication=Authentication(single_user_api_key=settings["api_key"]),
        include_routers=[router],
    )

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                port = self.servers[0].sockets[0].getsockname()[1]
                with os.fdopen(settings["pipe"], "w") as pipe:
                    pipe.write(f"{port}\n")

    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=settings["port"],
        loop="asyncio",
        log_config=LOGGING_CONFIG,
        access_log=False,
        timeout_graceful_shutdown=2,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
