"""The steps of a conversion as a Prefect flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bluesky_zarr.ingest.cubes import _ingest
from bluesky_zarr.ingest.cubes._config import CubesConfig
from bluesky_zarr.ingest.cubes._ingest import Ingested, Progress

RETRIES = 2


def make_flow() -> Any:
    """The flow ``ingest-cubes``: its parameters are those of `ingest_cube`, its tasks validate,
    prepare, convert and publish, each tried again twice. A task `convert` that is tried again goes
    on where it was.

    Raises
    ------
    ImportError
        Prefect is not installed.
    """
    try:
        from prefect import flow, task  # pyright: ignore[reportMissingImports] optional
        from prefect.cache_policies import NO_CACHE  # pyright: ignore[reportMissingImports] optional
    except ImportError as error:
        raise ImportError("--prefect needs Prefect: pip install 'bluesky-zarr[prefect]'") from error

    def step(function: Callable[..., Any]) -> Callable[..., Any]:
        # What passes from one to the next holds a lock and cannot be stored.
        return task(function, retries=RETRIES, cache_policy=NO_CACHE, persist_result=False)

    @flow(name="ingest-cubes", validate_parameters=False, persist_result=False)
    def ingest_cubes(config: CubesConfig, progress: Any = None) -> Ingested:
        steps = _ingest.Steps(
            validate_input=step(_ingest.validate_input),
            prepare=step(_ingest.prepare),
            convert=step(_ingest.convert),
            publish=step(_ingest.publish),
        )
        return _ingest.ingest_cube(config, progress, steps)

    return ingest_cubes


def run_flow(config: CubesConfig, progress: Progress | None = None) -> Ingested:
    """Run the flow in this process."""
    return make_flow()(config, progress)
