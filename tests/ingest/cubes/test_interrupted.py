"""A conversion that is killed goes on where it was, and ends as if nothing had been."""

from __future__ import annotations

import functools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest

from bluesky_zarr.ingest._fits import FitsError
from bluesky_zarr.ingest.cubes import (
    CubesConfig,
    OutputExistsError,
    StateError,
    _task,
    convert,
    ingest_cube,
    open_output,
    prepare,
    publish,
    validate_input,
)
from bluesky_zarr.ingest.cubes._here import convert_here
from bluesky_zarr.store import _batch, validate
from bluesky_zarr.store._arrays import ArrayWriter, Encoded
from tests.ingest.cubes.converting import convert_and_say
from tests.ingest.cubes.images import MHZ, content, header, name_of, night, truth, write

TIMES = tuple(f"20240524_0500{second:02}" for second in range(10, 22))
SHAPE = (96, 80)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 time steps of 3 subbands, one of them missing."""
    return night(tmp_path_factory.mktemp("night") / "in", TIMES, MHZ, SHAPE, [(4, 1)])


@pytest.fixture(scope="module")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    output = tmp_path_factory.mktemp("undisturbed")
    return content(ingest_cube(config(images, output)).path)


def config(images: Path, output: Path, **options) -> CubesConfig:
    return CubesConfig(input_dir=images, output_dir=output, name="cube", chunk_lm=48, **options)


@functools.cache
def processes() -> ForkServerContext:
    """Begins processes that have imported already what takes longer than a conversion."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "astropy.wcs.utils", "bluesky_zarr.ingest.cubes"])
    return context


def start(config: CubesConfig) -> BaseProcess:
    """A conversion in another process, which is about to begin."""
    begun = processes().Event()
    child = processes().Process(target=convert_and_say, args=(config.model_dump_json(), begun))
    child.start()
    assert begun.wait(60)
    return child


def kill_after(config: CubesConfig, seconds: float) -> bool:
    """Whether a conversion was killed before it ended."""
    child = start(config)
    child.join(seconds)
    child.kill()
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode != 0


def duration(config: CubesConfig) -> float:
    child = start(config)
    begin = time.monotonic()
    child.join()
    assert child.exitcode == 0
    return time.monotonic() - begin


def check_killed(images: Path, output: Path, undisturbed: dict[str, bytes], times: int) -> None:
    whole = duration(config(images, output / "whole"))
    rng = random.Random(times)
    killed = 0
    for attempt in range(times):
        here = output / str(attempt)
        killed += kill_after(config(images, here), rng.uniform(0, whole))
        # Once more while it goes on, at times.
        if attempt % 3 == 0:
            kill_after(config(images, here, resume=True), rng.uniform(0, whole))
        made = ingest_cube(config(images, here, resume=True))
        assert content(made.path) == undisturbed
        assert os.listdir(here) == ["cube.zarr"]
    assert killed > times // 3, "too few of them were killed before their end"


def test_killed_at_any_moment_it_ends_with_the_same_bytes(images, tmp_path, undisturbed) -> None:
    check_killed(images, tmp_path, undisturbed, 3)


@pytest.mark.slow
@pytest.mark.faults
def test_killed_at_20_random_moments(images, tmp_path, undisturbed) -> None:
    check_killed(images, tmp_path, undisturbed, 20)


def interrupted(images: Path, output: Path, blocks: int, **options) -> None:
    """Stop after so many blocks, as a signal would."""

    def results(tasks):
        for number, done in enumerate(convert_here(tasks)):
            if number == blocks:
                raise KeyboardInterrupt
            yield done

    settings = config(images, output, **options)
    with open_output(settings) as store:
        conversion = prepare(settings, validate_input(settings), store)
        with pytest.raises(KeyboardInterrupt):
            convert(conversion, results)


class Told:
    """What a conversion says of its progress."""

    def __init__(self) -> None:
        self.files = self.left = 0

    def looked_at(self, done: int, total: int) -> None:
        pass

    def begin(self, files: int, nbytes: int) -> None:
        self.left = files

    def converted(self, files: int, nbytes: int) -> None:
        self.files += files


def test_what_is_done_is_not_done_again(images: Path, tmp_path: Path, undisturbed) -> None:
    interrupted(images, tmp_path, 7)
    shards = sorted((tmp_path / "cube.zarr.tmp" / "SKY" / "c").glob("[0-6]/0/0/0/0"))
    before = [path.stat().st_mtime_ns for path in shards]
    assert len(before) == 7
    told = Told()
    made = ingest_cube(config(images, tmp_path, resume=True), told)
    # The one that is missing is in the fifth time step.
    assert told.left == told.files == 5 * 3
    after = sorted((made.path / "SKY" / "c").glob("[0-6]/0/0/0/0"))
    assert [path.stat().st_mtime_ns for path in after] == before
    assert content(made.path) == undisturbed


def test_the_state_names_the_time_steps_that_are_done(images: Path, tmp_path: Path) -> None:
    interrupted(images, tmp_path, 5)
    state = json.loads((tmp_path / "cube.zarr.state.json").read_bytes())
    assert list(state["time_steps_done"]) == ["0", "1", "2", "3", "4"]
    assert state["time_steps_done"]["4"][1] is None
    assert state["grid"] == validate_input(config(images, tmp_path)).grid.checksum


def test_what_a_state_says_was_made_is_on_disk_before_it(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    fsync = os.fsync

    def recorded(fd: int) -> None:
        synced.append(Path(f"/proc/self/fd/{fd}").readlink())
        fsync(fd)

    monkeypatch.setattr(os, "fsync", recorded)
    settings = config(images, tmp_path)
    with open_output(settings) as store:
        prepare(settings, validate_input(settings), store)
        state = next(n for n, path in enumerate(synced) if ".zarr.state.json" in path.name)
        assert {store.path, *store.path.rglob("*")} <= set(synced[:state])


def test_a_state_of_another_data_set_is_refused(images: Path, tmp_path: Path) -> None:
    interrupted(images, tmp_path / "out", 3)
    other = night(tmp_path / "other", TIMES[:5], MHZ, SHAPE)
    with pytest.raises(StateError, match=r"is of another data set \(files or options do\).*--reb"):
        ingest_cube(config(other, tmp_path / "out", resume=True))
    options = config(images, tmp_path / "out", resume=True).model_copy(update={"chunk_lm": 32})
    with pytest.raises(StateError, match="is of another data set"):
        ingest_cube(options)
    for t, step in enumerate(TIMES):
        for f, mhz in enumerate(MHZ):
            head = header(mhz, SHAPE, CRVAL1=10.0)
            write(tmp_path / "moved" / name_of(step, mhz), truth(t, f, SHAPE), head)
    with pytest.raises(StateError, match=r"is of another data set \(the grid differs\)"):
        ingest_cube(config(tmp_path / "moved", tmp_path / "out", resume=True))


def test_a_damaged_state_is_refused(images: Path, tmp_path: Path) -> None:
    interrupted(images, tmp_path, 3)
    (tmp_path / "cube.zarr.state.json").write_text("{")
    with pytest.raises(StateError, match=r"state\.json' is damaged .*begin again with --rebuild"):
        ingest_cube(config(images, tmp_path, resume=True))


def test_an_unfinished_cube_is_not_built_over(images: Path, tmp_path: Path, undisturbed) -> None:
    interrupted(images, tmp_path, 3)
    words = r"tmp' was left by a conversion that did not finish; give --resume .* or --rebuild"
    with pytest.raises(OutputExistsError, match=words):
        ingest_cube(config(images, tmp_path))
    made = ingest_cube(config(images, tmp_path, rebuild=True))
    assert content(made.path) == undisturbed


def test_to_resume_what_never_began_begins_it(images: Path, tmp_path: Path, undisturbed) -> None:
    made = ingest_cube(config(images, tmp_path, resume=True))
    assert content(made.path) == undisturbed


def test_to_resume_what_is_done_changes_nothing(images: Path, tmp_path: Path) -> None:
    made = ingest_cube(config(images, tmp_path))
    before = (made.path / "zarr.json").stat().st_mtime_ns
    again = ingest_cube(config(images, tmp_path, resume=True))
    assert (again.path, again.files) == (made.path, made.files)
    assert (made.path / "zarr.json").stat().st_mtime_ns == before
    with pytest.raises(OutputExistsError, match="is complete and was made from other files"):
        ingest_cube(config(night(tmp_path / "other"), tmp_path, resume=True))


def test_an_existing_cube_is_not_overwritten(images: Path, tmp_path: Path) -> None:
    ingest_cube(config(images, tmp_path))
    words = r"cube\.zarr' exists; give --rebuild .*--resume .*or another --name"
    with pytest.raises(OutputExistsError, match=words):
        ingest_cube(config(images, tmp_path))


def test_a_rebuild_that_is_killed_half_way_leaves_the_old_cube(
    images: Path, tmp_path: Path, undisturbed: dict[str, bytes]
) -> None:
    old = ingest_cube(config(night(tmp_path / "other"), tmp_path)).path
    before = content(old)
    interrupted(images, tmp_path, 5, rebuild=True)
    assert content(old) == before
    assert validate(old, deep=True)
    made = ingest_cube(config(images, tmp_path, resume=True))
    assert content(made.path) == undisturbed
    assert sorted(os.listdir(tmp_path)) == ["cube.zarr", "other"]


def test_a_rebuild_that_is_killed_by_the_system_leaves_the_old_cube(images, tmp_path) -> None:
    old = ingest_cube(config(images, tmp_path)).path
    before = content(old)
    assert kill_after(config(images, tmp_path, rebuild=True), 0.02)
    assert content(old) == before
    assert content(ingest_cube(config(images, tmp_path, rebuild=True)).path) == before


@pytest.mark.parametrize("option", ["resume", "rebuild"])
def test_a_rebuild_that_is_killed_before_the_old_cube_is_gone_is_gone_on_with(
    images, tmp_path, undisturbed, monkeypatch, option
) -> None:
    ingest_cube(config(night(tmp_path / "other"), tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(_batch, "_delete", lambda *_: exec("raise KeyboardInterrupt"))
        with pytest.raises(KeyboardInterrupt):
            ingest_cube(config(images, tmp_path, rebuild=True))
    assert (tmp_path / "cube.zarr.tmp").exists()
    made = ingest_cube(config(images, tmp_path, **{option: True}))
    assert content(made.path) == undisturbed
    assert sorted(os.listdir(tmp_path)) == ["cube.zarr", "other"]


def test_of_two_writers_the_second_stops_at_once_and_says_who_is_first(images, tmp_path) -> None:
    settings = config(images, tmp_path)
    with open_output(settings) as store:
        for options in ({}, {"resume": True}, {"rebuild": True}):
            words = rf"is being written by .*process {os.getpid()}"
            with pytest.raises(BlockingIOError, match=words):
                ingest_cube(config(images, tmp_path, **options))
        assert store.path.exists()


def test_of_two_processes_that_begin_together_one_publishes(images, tmp_path, undisturbed) -> None:
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(ingest_cube(config(images, tmp_path)).path)
        except (BlockingIOError, FileExistsError) as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([path for path in outcomes if isinstance(path, Path)]) == 1
    assert content(tmp_path / "cube.zarr") == undisturbed


def test_what_a_killed_worker_was_writing_is_not_published(images, tmp_path, undisturbed) -> None:
    settings = config(images, tmp_path)
    with open_output(settings) as store:
        conversion = prepare(settings, validate_input(settings), store)
        convert(conversion)
        (store.path / "SKY" / "c" / "0" / ".0.1234.tmp").write_bytes(b"half a shard")
        (store.path / "l" / "c" / "0.1234.partial").write_bytes(b"half a chunk")
        assert content(publish(conversion).path) == undisturbed


def test_a_file_that_is_changed_meanwhile_is_found_out(images: Path, tmp_path: Path) -> None:
    mine = night(tmp_path / "in", TIMES[:2])
    settings = config(mine, tmp_path / "out")
    with open_output(settings) as store:
        conversion = prepare(settings, validate_input(settings), store)
        victim = sorted(mine.iterdir())[-1]
        os.utime(victim)
        with pytest.raises(FitsError, match=f"{victim.name}: it was changed since its header"):
            convert(conversion)


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("at", ["writing", "encoding"])
def test_no_thread_reads_on_while_somebody_keeps_the_error(
    images: Path, tmp_path: Path, monkeypatch, at: str, error: BaseException
) -> None:
    encoded = ArrayWriter.encoded

    def fail(*_: object) -> None:
        raise error

    def fail_at_an_image(self: ArrayWriter, values: np.ndarray) -> Encoded:
        if values.ndim == 5:
            raise error
        return encoded(self, values)

    if at == "writing":
        monkeypatch.setattr(_task, "_append", fail)
    else:
        monkeypatch.setattr(ArrayWriter, "encoded", fail_at_an_image)
    with pytest.raises(type(error)) as kept:
        ingest_cube(config(images, tmp_path))
    assert kept.value is error
    names = [thread.name for thread in threading.enumerate()]
    assert not [name for name in names if name.startswith(("ingest-read", "ingest-sync"))]


def test_bad_input_leaves_nothing(images: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is missing; check the path"):
        ingest_cube(config(tmp_path / "nowhere", tmp_path / "out"))
    assert os.listdir(tmp_path / "out") == []
