"""A Dask cluster gives the same bytes, whatever becomes of its workers."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube
from bluesky_zarr.ingest.cubes._cluster import on_cluster
from bluesky_zarr.ingest.cubes._ingest import convert, open_output, prepare, publish, validate_input
from tests.ingest.cubes.images import MHZ, content, night

distributed = pytest.importorskip(
    "distributed", reason="needs bluesky-zarr[ingest], which brings Dask"
)

TIMES = tuple(f"20240524_0500{second:02}" for second in range(10, 18))
SHAPE = (64, 48)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return night(tmp_path_factory.mktemp("night") / "in", TIMES, MHZ, SHAPE, [(4, 1)])


@pytest.fixture(scope="module")
def here(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What one process makes of them."""
    return content(ingest_cube(config(images, tmp_path_factory.mktemp("here"))).path)


@pytest.fixture(scope="module")
def cluster():
    """Two workers, each of which is started again when it dies."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as local:
        yield local


def config(images: Path, output: Path, **options) -> CubesConfig:
    return CubesConfig(input_dir=images, output_dir=output, name="cube", chunk_lm=32, **options)


def test_workers_of_this_machine(images: Path, tmp_path: Path, here) -> None:
    made = ingest_cube(config(images, tmp_path, workers=2))
    assert content(made.path) == here
    assert os.listdir(tmp_path) == ["cube.zarr"]


def test_a_scheduler(images: Path, tmp_path: Path, here, cluster) -> None:
    made = ingest_cube(config(images, tmp_path, scheduler=cluster.scheduler_address))
    assert content(made.path) == here


def test_a_scheduler_without_workers_is_not_waited_for(images, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("bluesky_zarr.ingest.cubes._cluster._SCHEDULER_SECONDS", 1)
    with distributed.LocalCluster(n_workers=0, dashboard_address=None) as local:
        address = local.scheduler_address
        with pytest.raises(ValueError, match=r"has no workers; start some with `dask worker tcp"):
            ingest_cube(config(images, tmp_path, scheduler=address))


def test_an_error_of_a_worker_names_the_file(images: Path, tmp_path: Path, cluster) -> None:
    settings = config(images, tmp_path)
    victim = sorted(images.iterdir())[-1]
    before = victim.stat()
    with open_output(settings) as store, distributed.Client(cluster) as client:
        conversion = prepare(settings, validate_input(settings), store)
        os.utime(victim, ns=(before.st_atime_ns, time.time_ns()))
        try:
            with pytest.raises(ValueError, match=f"{victim.name}: it was changed since its header"):
                convert(conversion, on_cluster(client))
        finally:
            os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_a_worker_that_is_killed_changes_nothing(images, tmp_path, here, cluster) -> None:
    settings = config(images, tmp_path)
    with distributed.Client(cluster) as client, open_output(settings) as store:
        conversion = prepare(settings, validate_input(settings), store)
        pids = [info for info in client.run(os.getpid).values()]
        killed = threading.Event()
        results = on_cluster(client)

        def disturbed(tasks):
            for number, done in enumerate(results(tasks)):
                if number == 2:
                    os.kill(pids[0], signal.SIGKILL)
                    killed.set()
                yield done

        convert(conversion, disturbed)
        made = publish(conversion)
    assert killed.is_set()
    assert content(made.path) == here
