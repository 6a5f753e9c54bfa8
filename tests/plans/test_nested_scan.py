"""nested_scan is a bluesky plan like the others: documents, callbacks, progress, laziness."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import bluesky.plans as bp
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

from bluesky_zarr.geometry import ScanGeometry
from bluesky_zarr.plans import ScanProgress, describe_progress, nested_scan
from tests.fakes import instant_motor


@pytest.fixture
def lab(RE: RunEngine) -> SimpleNamespace:
    with init_devices():
        y, x, diode = instant_motor("y"), instant_motor("x"), instant_motor("diode")
    return SimpleNamespace(RE=RE, y=y, x=x, diode=diode)


def documents(lab: SimpleNamespace, plan: Any) -> list[tuple[str, Any]]:
    collected: list[tuple[str, Any]] = []
    lab.RE(plan, lambda name, doc: collected.append((name, doc)))
    return collected


def test_the_start_document_says_what_grid_scans_does(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.y, 0, 1, 3) * ~Linspace(lab.x, -1, 1, 4)
    ours = documents(lab, nested_scan([lab.diode], spec))[0][1]
    theirs = documents(
        lab, bp.grid_scan([lab.diode], lab.y, 0, 1, 3, lab.x, -1, 1, 4, snake_axes=True)
    )[0][1]
    assert np.array(ours["extents"]) == pytest.approx(np.array(theirs["extents"]))
    keys = ("shape", "snaking", "num_points", "num_intervals", "motors", "detectors")
    for key in (*keys, "hints"):
        assert json.loads(json.dumps(ours[key])) == json.loads(json.dumps(theirs[key])), key


def test_the_events_are_those_of_grid_scan(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.y, 0, 1, 3) * ~Linspace(lab.x, -1, 1, 4)
    ours = documents(lab, nested_scan([lab.diode], spec))
    theirs = documents(
        lab, bp.grid_scan([lab.diode], lab.y, 0, 1, 3, lab.x, -1, 1, 4, snake_axes=True)
    )
    assert [n for n, _ in ours] == [n for n, _ in theirs]
    for (name, one), (_, other) in zip(ours, theirs, strict=True):
        if name == "event":
            assert one["data"] == pytest.approx(other["data"], abs=1e-12)


def test_a_grid_is_plotted_by_bluesky_s_own_callback(lab: SimpleNamespace) -> None:
    mpl = pytest.importorskip("matplotlib", reason="the plot extra is not installed")
    mpl.use("Agg")
    from bluesky.callbacks.mpl_plotting import LiveGrid

    collected = documents(
        lab, nested_scan([lab.diode], Linspace(lab.y, 0, 1, 3) * ~Linspace(lab.x, 0, 3, 4))
    )
    start = collected[0][1]
    grid = LiveGrid(start["shape"], "x", extent=[e for pair in start["extents"] for e in pair])
    for name, doc in collected:
        grid(name, doc)
    np.testing.assert_array_equal(grid._Idata, [[0, 1, 2, 3]] * 3)


def test_points_are_made_while_the_scan_runs(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.y, 0, 1, 10**5) * ~Linspace(lab.x, 0, 1, 10**5)
    plan = nested_scan([], spec)
    moves = 0
    for _ in range(100):
        moves += plan.send(None).command == "set"
    plan.close()
    assert moves > 10


def test_only_what_changes_is_moved(lab: SimpleNamespace) -> None:
    moved: list[str] = []
    lab.RE.msg_hook = lambda msg: moved.append(msg.obj.name) if msg.command == "set" else None
    lab.RE(nested_scan([], Linspace(lab.y, 0, 1, 2) * ~Linspace(lab.x, 0, 1, 2)))
    assert moved == ["y", "x", "x", "y", "x"]


def test_zipped_axes_move_together(lab: SimpleNamespace) -> None:
    spec = Linspace(lab.y, 0, 1, 3).zip(Linspace(lab.x, 5, 7, 3))
    events = [d["data"] for n, d in documents(lab, nested_scan([], spec)) if n == "event"]
    assert [(e["y"], e["x"]) for e in events] == [(0, 5), (0.5, 6), (1, 7)]


def test_progress_says_where_the_scan_is(lab: SimpleNamespace) -> None:
    lines: list[str] = []
    lab.RE.subscribe(ScanProgress(lines.append, interval=0))
    lab.RE(nested_scan([lab.diode], Linspace(lab.y, 0, 1, 2) * Linspace(lab.x, 0, 1, 5)))
    assert len(lines) == 11
    assert lines[6].startswith("y 2/2, x 2/5 | 7/10 (70.0 %) | 0:0")
    assert lines[9].startswith("y 2/2, x 5/5 | 10/10 (100.0 %)")
    assert lines[10].endswith("success\n")


def test_progress_without_an_end() -> None:
    assert describe_progress(ScanGeometry.events(), 7, 1.0) == "7 events"
    hours = describe_progress(ScanGeometry.events(10**6), 100, 36.0)
    assert hours == "100/1000000 (0.0 %) | 99:59:24 left"
