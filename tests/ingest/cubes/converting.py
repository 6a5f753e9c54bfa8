"""A conversion for a process of its own: says when it begins, for those that want to kill it."""

from __future__ import annotations

from multiprocessing.synchronize import Event

from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube


def convert_and_say(config: str, begun: Event) -> None:
    """Convert by a configuration in JSON."""
    settings = CubesConfig.model_validate_json(config)
    begun.set()
    ingest_cube(settings)
