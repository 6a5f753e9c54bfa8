"""One measurement, in a process of its own: the arguments are JSON, and so is what it prints."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from contenders import CONTENDERS, Job, read_back


def main() -> None:
    order = json.loads(sys.argv[1])
    shape = tuple(order["shape"])
    frames = np.stack([_frame(n, shape) for n in range(order["different"])])
    directory = Path(tempfile.mkdtemp(dir=order["directory"]))
    try:
        job = Job(frames, order["count"], directory, order["cname"], order["level"])
        _warm(directory / "warm", job.count * job.frame_bytes)
        _imports(order["contender"])
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak begins anew
        before = _peak()
        seconds = CONTENDERS[order["contender"]](job)
        peak = _peak() - before
        started = time.perf_counter()
        for path in directory.rglob("*"):
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
        durable = seconds + time.perf_counter() - started
        wrong = read_back(job, order["contender"])
    finally:
        shutil.rmtree(directory)
    print(json.dumps({"s": seconds, "durable": durable, "MiB": peak / 2**20, "wrong": wrong}))


def _frame(seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """12-bit counts with the noise of photons, over a slope."""
    rng = np.random.default_rng(seed)
    mean = np.linspace(200, 3000, int(np.prod(shape))).reshape(shape)
    return np.asarray(rng.poisson(mean)).clip(0, 4095).astype("uint16")


def _warm(path: Path, nbytes: int) -> None:
    """Let the machine find the memory for the page cache and for buffers.

    A virtual machine gets it from its host when it is first touched, which takes longer than what
    is measured here, and whoever came first would pay for it.
    """
    np.ones(2**28, np.uint8)
    block = bytes(2**23)
    with path.open("wb") as file:
        for _ in range(0, nbytes, len(block)):
            file.write(block)
    path.unlink()
    # What is deleted is given back to the disk by the next commit of the file system's journal,
    # and whoever allocates waits for that.
    os.sync()


def _imports(contender: str) -> None:
    if contender.startswith("ours") or contender.startswith(("raw", "bare")):
        import bluesky_zarr.store  # noqa: F401
    module = {"zarr_python": "zarr", "zarr_python_blocks": "zarr"}.get(contender, contender)
    if contender in ("tensorstore", "zarr_python", "zarr_python_blocks", "zarrs", "h5py"):
        __import__(module)
    elif contender == "acquire_zarr":
        import acquire_zarr  # noqa: F401


def _peak() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


main()
