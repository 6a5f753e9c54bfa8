"""One measurement of images becoming a cube, in a process of its own; prints it as JSON."""

from __future__ import annotations

import json
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np


def ours(directory: Path, output: Path, codec: str) -> dict[str, float]:
    import astropy.wcs.utils  # noqa: F401

    from bluesky_zarr.ingest.cubes import (
        CubesConfig,
        convert,
        open_output,
        prepare,
        publish,
        validate_input,
    )

    config = CubesConfig(input_dir=directory, output_dir=output, codec=codec)
    clock = [time.perf_counter()]

    def lap() -> None:
        clock.append(time.perf_counter())

    with open_output(config) as store:
        images = validate_input(config)
        lap()
        conversion = prepare(config, images, store)
        lap()
        convert(conversion)
        lap()
        publish(conversion)
        lap()
    headers, coordinates, converted, published = np.diff(clock).tolist()
    return {
        "headers": headers,
        "coordinates": coordinates,
        "images": converted + published,
        "all": headers + coordinates + converted + published,
    }


def codec_alone(directory: Path) -> dict[str, float]:
    from astropy.io import fits
    from numcodecs import blosc  # pyright: ignore[reportAttributeAccessIssue] compiled

    planes = []
    for path in sorted(directory.iterdir()):
        with fits.open(path, memmap=False) as hdus:
            image: Any = hdus[0]
            planes.append(np.ascontiguousarray(np.squeeze(image.data).T, "f4"))

    def encode(plane: np.ndarray) -> int:
        return len(blosc.compress(plane.reshape(-1).view("u1"), b"zstd", 5, 2, 0, 4))

    with ThreadPoolExecutor(2) as pool:
        begin = time.perf_counter()
        list(pool.map(encode, planes))
        return {"images": time.perf_counter() - begin}


if __name__ == "__main__":
    what, directory, output, codec = sys.argv[1:]
    if what == "codec_alone":
        found = codec_alone(Path(directory))
    else:
        found = ours(Path(directory), Path(output), codec)
    found["MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(found))
