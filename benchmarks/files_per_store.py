"""Files and chunks of a store of 600 frames of 2048 x 2048 uint16 (5.03 GB), for each layout.

    python benchmarks/files_per_store.py [--write DIRECTORY]

With --write, the store is also written (5 GB of noise, uncompressed) and its files are counted.
"""

from __future__ import annotations

import itertools
import math
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np

from bluesky_zarr.store import SourceInfo, ZarrWriter, choose_layout

FRAME = (2048, 2048)
SCANS = {"600": (600,), "5 x 20 x 6": (5, 20, 6), "1 x 600": (1, 600), "20 x 30": (20, 30)}


def main() -> None:
    total = 600 * math.prod(FRAME) * 2
    print(f"600 frames of 2048 x 2048 uint16: {total / 1e9:.2f} GB")
    print(
        f"{'scan':12} {'layout':9} {'':8} {'inner MB':>8} {'shard MB':>8} "
        f"{'files':>6} {'per GB':>7}"
    )
    for name, scan in SCANS.items():
        shape = scan + FRAME
        dims = tuple(f"d{i}" for i in range(len(shape)))
        for access, batch in itertools.product(("frames", "balanced", "series"), (False, True)):
            layout = choose_layout(shape, dims, "uint16", access, frame_ndim=2, batch=batch)
            files = layout.files(shape)
            inner, shard = math.prod(layout.inner) * 2e-6, math.prod(layout.shard) * 2e-6
            print(
                f"{name:12} {access:9} {'re-laid' if batch else 'live':8} {inner:8.3f} {shard:8.0f}"
                f" {files:6} {files / total * 1e9:7.2f}"
            )
    if sys.argv[1:2] == ["--write"]:
        written(Path(sys.argv[2] if len(sys.argv) > 2 else tempfile.gettempdir()))


def written(directory: Path) -> None:
    folder = Path(tempfile.mkdtemp(dir=directory))
    try:
        writer = ZarrWriter(f"file://{folder}/big.zarr", codec="none")
        sink = writer.prepare(SourceInfo("cam", "uint16", FRAME), capacity=600)
        frame = np.random.default_rng(0).integers(0, 4096, FRAME, dtype="uint16")
        for _ in range(600):
            sink.write(frame, copy=False)
        writer.publish()
        files = [path for path in folder.rglob("*") if path.is_file()]
        large = max(path.stat().st_size for path in files)
        shards = sum(path.stat().st_size > 1e6 for path in files)
        print(f"Written: {len(files)} files, {shards} shards, the largest {large / 1e6:.0f} MB")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
