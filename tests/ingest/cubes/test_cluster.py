"""A Dask cluster gives the same bytes, whatever becomes of its workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from bluesky_zarr.ingest import IngestError
from bluesky_zarr.ingest.cubes import CubesConfig, ingest_cube
from bluesky_zarr.ingest.cubes._cluster import on_cluster
from bluesky_zarr.ingest.cubes._ingest import convert, open_output, prepare, publish, validate_input
from tests.ingest.cubes.images import MHZ, content, night
from tests.ingest.cubes.test_command import COMMAND, environment

distributed = pytest.importorskip(
    "distributed", reason="needs bluesky-zarr[ingest], which brings Dask"
)
dask = pytest.importorskip("dask", reason="needs bluesky-zarr[ingest], which brings Dask")

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


def test_workers_of_a_scheduler_write_the_same_bytes(
    images: Path, tmp_path: Path, here, cluster
) -> None:
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


def lose(images: Path, output: Path, workers: int, losing, **options) -> CubesConfig:
    """Begin a conversion on a cluster of its own, and lose that after two blocks."""
    settings = config(images, output)
    with (
        distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=None, **options
        ) as local,
        distributed.Client(local) as client,
        open_output(settings) as store,
    ):
        conversion = prepare(settings, validate_input(settings), store)
        results = on_cluster(client)

        def disturbed(tasks):
            for number, done in enumerate(results(tasks)):
                if number == 1:
                    losing(local, client)
                yield done

        convert(conversion, disturbed)
    return settings


def test_a_scheduler_that_goes_away_is_no_end(images: Path, tmp_path: Path, here) -> None:
    def losing(local, _) -> None:
        local.sync(local.scheduler.close)

    words = r"the Dask scheduler is gone \(.*\); when it is there again, go on with --resume"
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(IngestError, match=re.compile(words, re.DOTALL)),
    ):
        lose(images, tmp_path, 1, losing, processes=False)
    assert content(ingest_cube(config(images, tmp_path, resume=True)).path) == here


def test_workers_that_go_away_for_good_are_not_waited_for(
    images: Path, tmp_path: Path, here, monkeypatch
) -> None:
    monkeypatch.setattr("bluesky_zarr.ingest.cubes._cluster._WORKERS_SECONDS", 1)
    with pytest.raises(IngestError, match="has had no workers for 1 s; start some, and go on with"):
        lose(images, tmp_path, 1, lambda local, _: local.scale(0), processes=False)
    assert content(ingest_cube(config(images, tmp_path, resume=True)).path) == here


@pytest.mark.faults
def test_workers_that_die_at_the_same_images_are_told(images: Path, tmp_path: Path, here) -> None:
    def losing(_, client) -> None:
        for pid in client.run(os.getpid).values():
            os.kill(pid, signal.SIGKILL)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        pytest.raises(IngestError, match="several workers died at the same images, perhaps for"),
    ):
        lose(images, tmp_path, 2, losing)
    assert content(ingest_cube(config(images, tmp_path, resume=True)).path) == here


@pytest.mark.faults
def test_ctrl_c_ends_it_and_its_workers(tmp_path: Path) -> None:
    directory = night(tmp_path / "in", TIMES, MHZ, (600, 500))
    child = subprocess.Popen(
        [*COMMAND, "cubes", directory, tmp_path / "out", "--workers", "2", "--chunk-lm", "32"],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    state = tmp_path / "out" / "in.zarr.state.json"
    while not state.exists():
        assert child.poll() is None
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does
    _, told = child.communicate(timeout=60)
    assert child.returncode == 130
    assert told.endswith("Stopped: what was converted stays, go on with --resume\n")
    made = ingest_cube(
        CubesConfig(input_dir=directory, output_dir=tmp_path / "out", chunk_lm=32, resume=True)
    )
    assert made.files == len(TIMES) * len(MHZ)
