"""A conversion in a process of its own: says when it begins, for those that want to kill it."""

from __future__ import annotations

import sys

from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube

if __name__ == "__main__":
    config = CubesConfig.model_validate_json(sys.argv[1])
    # What is imported when it is first used takes longer than the conversion.
    import astropy.wcs.utils  # noqa: F401

    print("begin", flush=True)
    ingest_cube(config)
    print("end", flush=True)
