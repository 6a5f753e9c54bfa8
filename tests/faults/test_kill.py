"""Killed at any moment, a process has lost nothing that it had announced."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from bluesky_zarr.store import Journal, recover
from bluesky_zarr.store._metadata import read_document
from tests.faults.processes import Said, run
from tests.faults.promises import all_hold_after_recovery, frames_hold, nothing_is_wrong
from tests.faults.victims import SCANS, Scan, publishes, recovers, writes
from tests.store.crashed import copied
from tests.store.reading import files_of

pytestmark = pytest.mark.filterwarnings("ignore:the layout")

scans = pytest.mark.parametrize("scan", SCANS, ids=lambda scan: scan.name)
KILLS = 200


def removed(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    Journal.path_of(path).unlink(missing_ok=True)


def killed_at_random(tmp_path: Path, scan: Scan, seed: int, times: int) -> None:
    chance = random.Random(f"{scan.name} {seed}")
    whole = run(writes, scan, str(tmp_path / "whole.zarr")).seconds()
    for n in range(times):
        path = tmp_path / f"{n}.zarr"
        said = run(writes, scan, str(path), kill_after=chance.uniform(0, whole * 1.1))
        if chance.random() < 0.5 and (path / "zarr.json").exists():
            # Recovery dies, too.
            run(recovers, str(path), kill_after=chance.uniform(0, 0.1))
        if said.of("published"):
            nothing_is_wrong(path, scan)
            frames_hold(path, scan, said)
        else:
            all_hold_after_recovery(path, scan, said)
        removed(path)


@scans
def test_a_process_killed_at_a_random_moment_loses_nothing_announced(
    tmp_path: Path, scan: Scan
) -> None:
    killed_at_random(tmp_path, scan, seed=0, times=1)


@pytest.mark.faults
@pytest.mark.timeout(600)
@scans
def test_killed_at_200_random_moments_it_loses_nothing(tmp_path: Path, scan: Scan) -> None:
    killed_at_random(tmp_path, scan, seed=random.randrange(10**6), times=KILLS // len(SCANS))


def killed_at_each_call(tmp_path: Path, scan: Scan, step: int = 0, times: int = 0) -> None:
    (made,) = run(writes, scan, str(tmp_path / "whole.zarr")).of("published")[0]
    step = step or len(made) // times | 1  # odd, so that every second write is torn
    for number in range(0, len(made), step):
        path = tmp_path / f"{number}.zarr"
        said = run(writes, scan, str(path), number=number, torn=bool(number % 2))
        # How many calls there are depends on the time a little: the last number may be too high.
        if not said.of("published"):
            all_hold_after_recovery(path, scan, said)
        removed(path)


@pytest.mark.parametrize("scan", [SCANS[0], SCANS[5]], ids=lambda scan: scan.name)
def test_killed_before_some_of_the_calls_of_a_scan_it_loses_nothing(
    tmp_path: Path, scan: Scan
) -> None:
    killed_at_each_call(tmp_path, scan, times=9)


@pytest.mark.faults
@pytest.mark.timeout(900)
@scans
def test_killed_before_any_call_of_a_scan_it_loses_nothing(tmp_path: Path, scan: Scan) -> None:
    killed_at_each_call(tmp_path, scan, step=2 if scan.sources == 1 else 5)


def a_crashed_store(tmp_path: Path, scan: Scan) -> tuple[Path, Said]:
    """A store that was killed as its publication began."""
    original = tmp_path / "crashed.zarr"
    probe = tmp_path / "probe.zarr"
    (made,) = run(writes, scan, str(probe)).of("published")[0]
    publishing = next(
        n
        for n, (kind, path) in enumerate(made)
        if kind in ("fsync", "ftruncate") and ".zarr/" in path
    )
    said = run(writes, scan, str(original), number=publishing)
    removed(probe)
    assert said.killed
    return original, said


def killed_in(tmp_path: Path, scan: Scan, what: Callable[..., None], step: int) -> None:
    original, said = a_crashed_store(tmp_path, scan)
    once = copied(original, "once.zarr")
    (made, *_) = run(what, str(once)).lines[-1][2:]
    assert read_document(once)["attributes"]["status"] != "running"
    assert len(made) > 20
    for number in range(0, len(made), step):
        path = copied(original, f"{number}.zarr")
        killed = run(what, str(path), number=number, torn=bool(number % 2))
        assert killed.killed
        all_hold_after_recovery(path, scan, said)
        removed(path)


@pytest.mark.parametrize("what", [publishes, recovers], ids=lambda what: what.__name__)
@pytest.mark.parametrize("scan", [SCANS[2], SCANS[5]], ids=lambda scan: scan.name)
def test_killed_between_some_steps_it_is_recovered(
    tmp_path: Path, scan: Scan, what: Callable[..., None]
) -> None:
    killed_in(tmp_path, scan, what, step=21)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", [publishes, recovers], ids=lambda what: what.__name__)
@scans
def test_killed_between_any_two_steps_it_is_recovered(
    tmp_path: Path, scan: Scan, what: Callable[..., None]
) -> None:
    killed_in(tmp_path, scan, what, step=1)


def test_what_a_killed_process_left_can_be_recovered_again_and_again(tmp_path: Path) -> None:
    original, _ = a_crashed_store(tmp_path, SCANS[0])
    assert recover(original)
    before = files_of(original)
    assert recover(original)
    assert before == files_of(original)
