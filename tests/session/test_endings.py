"""However a run ends, every frame that it took is in its store, published as what it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
import numpy as np
import pytest
from bluesky.utils import Msg, RunEngineInterrupted
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.plans import nested_scan
from tests.fakes import code_of, frame_of


def snake(lab: SimpleNamespace) -> Any:
    return nested_scan([lab.cam], Linspace(lab.a, 0, 1, 2) * ~Linspace(lab.b, 0, 2, 3))


def pause_after(point: int) -> Any:
    def preprocess(plan: Any) -> Any:
        saves = 0

        def insert(msg: Msg) -> tuple[Any, Any]:
            nonlocal saves
            if msg.command == "save":
                saves += 1
                if saves == point:

                    def paused() -> Any:
                        yield msg
                        yield Msg("pause", None, defer=False)

                    return paused(), None
            return None, None

        return bpp.plan_mutator(plan, insert)

    return preprocess


@pytest.mark.parametrize("point", range(1, 7))
@pytest.mark.parametrize(
    ("ending", "status"), [("abort", "aborted"), ("stop", "stopped"), ("halt", "aborted")]
)
def test_exactly_the_frames_taken_are_in_the_store(
    lab: SimpleNamespace, ending: str, status: str, point: int
) -> None:
    lab.RE.preprocessors.append(pause_after(point))
    with pytest.raises(RunEngineInterrupted):
        lab.RE(snake(lab))
    getattr(lab.RE, ending)()

    root = bz.open(lab.storage.last_path)
    assert root.attrs["status"] == status
    assert root.attrs["arrays"]["primary/cam"] == {"expected": 6, "written": point}
    data = root["primary"].to_dataset()
    order = [(0, 0), (0, 1), (0, 2), (1, 2), (1, 1), (1, 0)]
    for k, cell in enumerate(order):
        taken = k < point
        assert data["cam_written"].values[cell] == taken
        expected = frame_of(code_of(cell), (3, 4)) if taken else np.zeros((3, 4))
        np.testing.assert_array_equal(data["cam"].values[cell], expected)
        assert data["seq_num"].values[cell] == (k + 1 if taken else 0)
        assert np.isnan(data["a_readback"].values[cell]) != taken


def test_a_plan_that_fails_is_published_as_failed_with_its_reason(lab: SimpleNamespace) -> None:
    def fails() -> Any:
        for k in range(2):
            yield from bps.checkpoint()
            yield from bps.trigger_and_read([lab.cam])
            assert k == 0, "the beam is gone"

    with pytest.raises(AssertionError):
        lab.RE(bpp.stage_wrapper(bpp.run_wrapper(fails()), [lab.cam]))
    root = bz.open(lab.storage.last_path)
    assert root.attrs["status"] == "failed"
    assert "the beam is gone" in root.attrs["reason"]
    assert root["primary"].to_dataset()["cam"].shape[0] == 2


def test_a_plan_that_never_closes_its_run_is_published(lab: SimpleNamespace) -> None:
    def open_ended() -> Any:
        yield from bps.stage(lab.cam)
        yield from bps.open_run()
        yield from bps.trigger_and_read([lab.cam])

    lab.RE(open_ended())
    root = bz.open(lab.storage.last_path)
    assert root.attrs["status"] == "complete"
    assert root["primary"].to_dataset()["cam"].shape[0] == 1


def test_a_run_without_events_leaves_no_store(lab: SimpleNamespace) -> None:
    def nothing() -> Any:
        yield from bps.open_run()
        yield from bps.close_run()

    lab.RE(nothing())
    with pytest.raises(RuntimeError, match="stored anything"):
        _ = lab.storage.last_path


def test_ordinary_detectors_alone_have_a_store_of_their_readings(lab: SimpleNamespace) -> None:
    lab.RE(bp.scan([lab.c], lab.a, 0, 4, 5))
    data = lab.primary()
    assert data["c"].dims == ("a",)
    np.testing.assert_array_equal(data["a_readback"].values, range(5))
    np.testing.assert_array_equal(data["scan_index"].values, range(5))
