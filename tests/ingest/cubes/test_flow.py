"""The same steps as a Prefect flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bluesky_zarr.ingest.cubes import CubesConfig, _ingest, ingest_cube
from tests.ingest.cubes.images import content, night

pytest.importorskip("prefect", reason="needs bluesky-zarr[prefect]")


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory):
    from prefect.testing.utilities import prefect_test_harness  # pyright: ignore[reportMissingImports] optional

    with prefect_test_harness():
        yield


def config(tmp_path: Path, **options: Any) -> CubesConfig:
    return CubesConfig(input_dir=tmp_path / "in", output_dir=tmp_path / "out", **options)


def test_a_flow_gives_the_same_bytes(tmp_path: Path) -> None:
    from bluesky_zarr.ingest.cubes._flow import make_flow

    night(tmp_path / "in")
    made = make_flow()(config(tmp_path, name="flow"))
    assert content(made.path) == content(ingest_cube(config(tmp_path, name="plain")).path)


def test_a_step_that_fails_is_tried_twice_more_and_goes_on(tmp_path: Path, monkeypatch) -> None:
    from bluesky_zarr.ingest.cubes._flow import make_flow

    night(tmp_path / "in")
    left: list[int] = []
    convert = _ingest.convert

    def fails_twice(conversion, results, progress=None) -> None:
        left.append(conversion.left()[0])

        def stopped(tasks):
            for number, done in enumerate(results(tasks)):
                yield done
                if number == 0 and len(left) < 3:
                    raise OSError("the network is down")

        convert(conversion, stopped, progress)

    monkeypatch.setattr(_ingest, "convert", fails_twice)
    made = make_flow()(config(tmp_path, name="flow"))
    assert left == [9, 6, 3]
    assert content(made.path) == content(ingest_cube(config(tmp_path, name="plain")).path)
