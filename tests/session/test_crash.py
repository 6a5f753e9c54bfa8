"""After SIGKILL in the middle of a scan, recovery publishes what was announced."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

import bluesky_zarr as bz
from bluesky_zarr.store import recover, validate
from tests.fakes import code_of, frame_of

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("codec", "seed"), [("none", 1), ("blosc-zstd-1", 2), ("lz4", 3)])
def test_recover_publishes_what_was_announced(tmp_path: Path, codec: str, seed: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.session.crashing_scan", str(tmp_path), codec],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    limit = random.Random(seed).randrange(60, 400)
    said = []
    for line in process.stdout:
        said.append(json.loads(line))
        if len(said) == limit:
            process.send_signal(signal.SIGKILL)
            break
    rest, _ = process.communicate(timeout=60)
    # A line that the death of the process cut short was not announced.
    said += [json.loads(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    announced = {entry[1] for entry in said if entry[0] == "frame"}
    events = {entry[1]: entry[2] for entry in said if entry[0] == "event"}

    (path,) = tmp_path.glob("*.zarr")
    assert bz.open(path).attrs["status"] == "running"
    live = zarr.open_array(path / "primary/cam", mode="r")
    for flat in announced:  # readable as it lies there
        cell = tuple(int(i) for i in np.unravel_index(flat, (50, 40)))
        np.testing.assert_array_equal(live[cell], frame_of(code_of(cell), (16, 16)))

    assert recover(path)
    assert validate(path, deep=True)
    tree = bz.open(path)
    assert tree.attrs["status"] == "recovered"
    data = tree["primary"].to_dataset().load()
    for flat in announced:
        cell = tuple(int(i) for i in np.unravel_index(flat, (50, 40)))
        np.testing.assert_array_equal(data["cam"].values[cell], frame_of(code_of(cell), (16, 16)))
        assert data["cam_written"].values[cell] == 1
    written = data["cam_written"].values
    assert announced <= set(np.flatnonzero(written).tolist())
    assert (data["cam"].values[written == 0] == 0).all()
    for flat, seq_num in events.items():
        cell = np.unravel_index(flat, (50, 40))
        assert data["seq_num"].values[cell] == seq_num
        assert data["a_readback"].values[cell] == cell[0]
        assert data["b_readback"].values[cell] == cell[1]
    np.testing.assert_array_equal(data["a"].values, np.arange(50))
