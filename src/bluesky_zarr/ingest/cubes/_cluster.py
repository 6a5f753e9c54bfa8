"""Doing tasks on a Dask cluster: each writes whole shards and nothing else."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest._errors import IngestError
from bluesky_zarr.ingest.cubes._config import CubesConfig
from bluesky_zarr.ingest.cubes._here import convert_here
from bluesky_zarr.ingest.cubes._task import Done, Results, Task, convert_durably

if TYPE_CHECKING:
    from distributed import Client

# How many tasks for each thread of the workers are handed out at a time: enough that none waits
# for the next, and few, as the scheduler keeps all of them in memory.
_AHEAD = 3
_SCHEDULER_SECONDS = 15
# A worker that died is started again sooner than that, where somebody does it.
_WORKERS_SECONDS = 60


@contextlib.contextmanager
def cluster(config: CubesConfig) -> Iterator[Results]:
    """What does the tasks: this process, a local cluster, or that of a scheduler.

    Raises
    ------
    ValueError
        The scheduler does not answer, or Dask is not installed.
    """
    if not config.workers and not config.scheduler:
        yield convert_here
        return
    try:
        import distributed
    except ImportError as error:
        raise ValueError(
            "--workers and --scheduler need Dask: pip install 'bluesky-zarr[ingest]'"
        ) from error
    if config.scheduler:
        try:
            client = distributed.Client(config.scheduler, timeout=_SCHEDULER_SECONDS)
        except (OSError, ValueError, TypeError) as error:  # TimeoutError is an OSError
            raise ValueError(
                f"the Dask scheduler {config.scheduler!r} does not answer ({error}); start it with "
                "`dask scheduler`, check the address (tcp://host:8786) and the firewall, or use "
                "--workers for a cluster on this machine"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=_SCHEDULER_SECONDS)
            except TimeoutError as error:
                raise ValueError(
                    f"the Dask scheduler {config.scheduler!r} has no workers; start some with "
                    f"`dask worker {config.scheduler}`"
                ) from error
            yield on_cluster(client)
        return
    # One thread each: a task uses all cores for encoding as it is.
    with (
        distributed.LocalCluster(
            n_workers=config.workers,
            threads_per_worker=1,
            dashboard_address=None,  # pyright: ignore[reportArgumentType] none at all
        ) as local,
        distributed.Client(local) as client,
    ):
        yield on_cluster(client)


def on_cluster(client: Client) -> Results:
    """What does tasks on the cluster of a client. A task whose worker dies is done again by
    another, which writes the same shards.

    The generator raises `IngestError` where the cluster is lost: its scheduler, all its workers, or
    several of them at one task.
    """

    def results(tasks: Iterator[Task]) -> Generator[Done, None, None]:
        remaining = iter(tasks)
        under_way: set[Any] = set()

        def hand_out() -> None:
            with _lost_in_words(OSError):
                room = max(0, _AHEAD * max(1, _threads(client)) - len(under_way))
            for task in itertools.islice(remaining, room):
                with _lost_in_words(OSError):
                    # Not pure: the same task of another conversion is not this one.
                    under_way.add(client.submit(convert_durably, task, pure=False))

        try:
            hand_out()
            while under_way:
                with _lost_in_words(OSError):
                    some = _wait_for_some(client, under_way)
                for future in some:
                    under_way.remove(future)
                    with _lost_in_words():
                        done = future.result()
                    yield done
                hand_out()
        finally:
            _let_finish(client, under_way)

    return results


def _wait_for_some(client: Client, under_way: set[Any]) -> set[Any]:
    """Those that are done, as soon as one is."""
    from distributed import wait

    last_seen = time.monotonic()
    while True:
        try:
            found: Any = wait(list(under_way), timeout=1, return_when="FIRST_COMPLETED")
            return found.done
        except TimeoutError:
            if _threads(client):
                last_seen = time.monotonic()
            elif time.monotonic() - last_seen > _WORKERS_SECONDS:
                raise IngestError(
                    f"the Dask cluster has had no workers for {_WORKERS_SECONDS} s; start some, "
                    "and go on with --resume"
                ) from None


def _let_finish(client: Client, under_way: set[Any]) -> None:
    """Wait for tasks after an error: nobody may write into a store that is about to be unlocked.
    Where the workers are gone, as after Ctrl-C, nobody does.
    """
    from concurrent.futures import CancelledError

    from distributed import wait

    with contextlib.suppress(CancelledError, OSError):
        while under_way and _threads(client):
            with contextlib.suppress(TimeoutError):
                wait(list(under_way), timeout=1)
                return


def _threads(client: Client) -> int:
    """Of all workers that there are now."""
    found: Any = client.nthreads()  # a coroutine only of an asynchronous client
    return sum(found.values())


@contextlib.contextmanager
def _lost_in_words(*errors: type[Exception]) -> Iterator[None]:
    """What Dask raises of itself, these errors too, said so that one knows what to do."""
    from concurrent.futures import CancelledError

    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise IngestError(
            "several workers died at the same images, perhaps for lack of memory: give them more, "
            "or start fewer, and go on with --resume"
        ) from error
    except (CancelledError, *errors) as error:
        raise IngestError(
            f"the Dask scheduler is gone ({error}); when it is there again, go on with --resume"
        ) from error
