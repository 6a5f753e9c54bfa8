"""Doing tasks on a Dask cluster: each writes whole shards and nothing else."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

from bluesky_zarr.ingest.cubes._config import CubesConfig
from bluesky_zarr.ingest.cubes._here import convert_here
from bluesky_zarr.ingest.cubes._task import Done, Results, Task, convert_durably

if TYPE_CHECKING:
    from distributed import Client

# How many tasks for each thread of the workers are handed out at a time: enough that none waits
# for the next, and few, as the scheduler keeps all of them in memory.
_AHEAD = 3
_SCHEDULER_SECONDS = 15


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
            dashboard_address=None,  # pyright: ignore[reportArgumentType]
        ) as local,
        distributed.Client(local) as client,
    ):
        yield on_cluster(client)


def on_cluster(client: Client) -> Results:
    """What does tasks on the cluster of a client. A task whose worker dies is done again by
    another, which writes the same shards.
    """

    def results(tasks: Iterator[Task]) -> Generator[Done, None, None]:
        from distributed import as_completed, wait

        remaining = iter(tasks)
        done: Any = as_completed()
        ask: Any = client.nthreads  # a coroutine only of an asynchronous client
        under_way: set[Any] = set()

        def hand_out() -> None:
            room = _AHEAD * max(1, sum(ask().values()))
            for task in itertools.islice(remaining, max(0, room - len(under_way))):
                # Not pure: the same task of another conversion is not this one.
                future = client.submit(convert_durably, task, pure=False)
                under_way.add(future)
                done.add(future)

        try:
            hand_out()
            while under_way:
                future = next(done)
                under_way.remove(future)
                yield future.result()
                del future
                hand_out()
        finally:
            # After an error: nobody may write into a store that is about to be unlocked.
            wait(list(under_way))

    return results
