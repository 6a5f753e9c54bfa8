"""A run is drawn in one call: what is in the picture, and what is said when there is none."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import bluesky.plans as bp
import matplotlib as mpl
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from ophyd_async.sim import SimMotor
from scanspec.specs import Linspace
from typer.testing import CliRunner

import bluesky_zarr as bz
from bluesky_zarr.cli import app
from bluesky_zarr.devices import FunctionCamera
from bluesky_zarr.pictures import plot_run
from bluesky_zarr.plans import nested_scan, zoom_scan
from bluesky_zarr.store import SourceInfo, ZarrWriter
from tests.fakes import Diode, instant_motor

mpl.use("Agg")


@pytest.fixture
def lab(RE: RunEngine, storage: bz.Storage):
    with init_devices():
        mono, y, x = instant_motor("mono"), instant_motor("y"), instant_motor("x")
        diode = Diode([y, x], lambda y, x: 100 * y + x)
        taken = iter(range(100_000))
        cam = FunctionCamera(lambda: np.full((4, 6), next(taken), "uint16"), (4, 6), "uint16")
    cam.set_name("cam")
    storage.attach(RE)
    storage.inject(cam)
    return RE, storage, mono, y, x, diode, cam


def panels(figure):
    """Axes that are not colour bars, by what they or their colour bar are called."""
    return [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]


def bars(figure):
    return [axes.get_ylabel() for axes in figure.axes if axes.get_label() == "<colorbar>"]


def test_a_scan_of_one_axis_is_a_line_over_its_setpoints(lab):
    RE, storage, _, _, x, diode, _ = lab
    RE(nested_scan([diode], Linspace(x, 0, 4, 5)))
    (picture,) = panels(storage.plot())
    assert picture.get_xlabel().startswith("x")
    assert picture.get_ylabel() == "diode [counts]"
    (line,) = picture.lines
    np.testing.assert_allclose(line.get_xdata(), [0, 1, 2, 3, 4])
    np.testing.assert_allclose(line.get_ydata(), [0, 1, 2, 3, 4])


def test_a_snaked_scan_of_two_axes_is_a_map_with_each_reading_in_its_cell(lab):
    RE, storage, _, y, x, diode, _ = lab
    RE(nested_scan([diode], Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 2, 3)))
    figure = storage.plot()
    (picture,) = panels(figure)
    assert (picture.get_xlabel()[0], picture.get_ylabel()[0]) == ("x", "y")
    assert bars(figure) == ["diode [counts]"]
    (mesh,) = picture.collections
    np.testing.assert_allclose(
        np.asarray(mesh.get_array()).reshape(2, 3), [[0, 1, 2], [100, 101, 102]]
    )


@pytest.mark.parametrize(
    ("number", "shown"), [(3, [7.0, 7.5, 8.0]), (9, [7.0, 7.25, 7.5, 7.75, 8.0])]
)
def test_a_scan_of_three_axes_is_cut_evenly_from_the_first_to_the_last_of_the_slow_one(
    lab, number, shown
):
    RE, storage, mono, y, x, diode, _ = lab
    spec = Linspace(mono, 7, 8, number) * Linspace(y, 0, 1, 2) * Linspace(x, 0, 2, 3)
    RE(nested_scan([diode], spec))
    figure = storage.plot()
    titles = [picture.get_title() for picture in panels(figure)]
    assert [title.split(" =")[0] for title in titles] == ["mono"] * len(shown)
    assert [float(title.split()[2]) for title in titles] == shown
    limits = {picture.collections[0].get_clim() for picture in panels(figure)}
    assert limits == {(0.0, 102.0)}, "slices that are to be compared have one scale"


@pytest.mark.parametrize("rows", [2, 6, 12])
def test_a_map_fills_its_picture_whatever_its_shape(lab, rows):
    RE, storage, mono, _, _, diode, cam = lab
    with init_devices():  # in one unit, so that both axes have one scale
        down, across = SimMotor(units="mm", instant=True), SimMotor(units="mm", instant=True)
    spec = Linspace(down, 0, rows - 1, rows) * Linspace(across, 0, 4, 5)
    RE(nested_scan([diode, cam], spec))
    alone, several, frame = storage.plot("diode"), storage.plot(), storage.plot(frame=0)
    RE(nested_scan([diode], Linspace(mono, 7, 8, 3) * spec))
    for figure in (alone, several, frame, storage.plot()):
        figure.savefig(io.BytesIO())
        drawn = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert drawn.width > 0.85 * width
        assert drawn.height > 0.7 * height


def test_dims_of_one_position_are_drawn_all_the_same(lab):
    RE, storage, mono, y, x, diode, _ = lab
    RE(nested_scan([diode], Linspace(mono, 7, 8, 1) * Linspace(y, 0, 1, 1) * Linspace(x, 0, 2, 3)))
    (picture,) = panels(storage.plot())
    (mesh,) = picture.collections
    np.testing.assert_allclose(np.asarray(mesh.get_array()).ravel(), [0, 1, 2])
    assert picture.get_ylim() == (-0.5, 0.5)


def test_points_on_no_grid_are_drawn_where_they_were_taken(lab):
    RE, storage, _, y, x, diode, _ = lab
    RE(bp.spiral([diode], x, y, 0, 0, 1, 1, 0.5, 6))
    figure = storage.plot()
    (picture,) = panels(figure)
    primary = bz.open(storage.last_path)["primary"]
    places = np.asarray(picture.collections[0].get_offsets())
    np.testing.assert_allclose(places[:, 0], primary["x"].values)
    np.testing.assert_allclose(places[:, 1], primary["y"].values)


def test_axes_that_move_together_are_named_together(lab):
    RE, storage, _, y, x, diode, _ = lab
    RE(bp.scan([diode], x, 0, 1, y, 5, 6, 3))
    (picture,) = panels(storage.plot())
    assert "x" in picture.get_xlabel()
    assert picture.get_xlabel().endswith("with y")


def test_positions_that_were_not_measured_stay_empty_and_the_title_counts_them(lab):
    RE, storage, _, y, x, diode, _ = lab
    diode.fail_at = 4
    with pytest.raises(Exception, match="diode"):
        RE(nested_scan([diode], Linspace(y, 0, 1, 2) * Linspace(x, 0, 2, 3)))
    figure = storage.plot()
    done = int((bz.open(storage.last_path)["primary"]["seq_num"] > 0).sum())
    assert 0 < done < 6
    assert f"failed, {done} of 6 positions" in figure.get_suptitle()
    mesh = panels(figure)[0].collections[0]
    assert np.ma.count_masked(mesh.get_array()) == 6 - done


def test_a_frame_is_drawn_by_its_number_or_by_its_indices(lab):
    RE, storage, _, y, x, _, cam = lab
    RE(nested_scan([cam], Linspace(y, 0, 1, 2) * ~Linspace(x, 0, 2, 3)))
    stored = bz.open(storage.last_path)["primary"]["cam"]
    for frame in (5, (1, 2)):
        figure = storage.plot(frame=frame)
        (picture,) = panels(figure)
        np.testing.assert_array_equal(picture.images[0].get_array(), stored[1, 2])
        assert (picture.get_xlabel(), picture.get_ylabel()) == ("cam_x [pixel]", "cam_y [pixel]")
        assert "Frame 1,2: y = 1" in figure.get_suptitle()


def test_a_store_without_readings_shows_the_frame_in_its_middle(tmp_path):
    writer = ZarrWriter(f"file://{tmp_path}/scan.zarr")
    sink = writer.prepare(
        SourceInfo("cam", dtype="uint16", shape=(4, 6), dims=("y", "x")), capacity=3
    )
    for number in range(3):
        sink.write(np.full((4, 6), number, "uint16"))
    writer.complete()
    writer.publish()
    figure = plot_run(tmp_path / "scan.zarr")
    assert np.all(panels(figure)[0].images[0].get_array() == 1)


def test_an_adaptive_scan_is_drawn_with_its_passes(lab):
    RE, storage, _, _, x, diode, _ = lab
    diode.fail_at = 5
    with pytest.raises(Exception, match="diode"):
        RE(zoom_scan([diode], "diode", x, 0, 60, narrowest=5))
    assert panels(storage.plot())[0].get_title() == "0 peaks of diode in 5 exposures"


def test_one_stream_as_a_dataset_is_drawn_as_well(lab):
    RE, storage, _, _, x, diode, _ = lab
    RE(nested_scan([diode], Linspace(x, 0, 4, 5)))
    stream = bz.open(storage.last_path)["primary"].to_dataset()
    assert panels(plot_run(stream))[0].get_ylabel() == "diode [counts]"


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (6, r"frame 6 lies outside of the scan \(y: 2, x: 3\): give 0 to 5, or .* up to 1,2"),
        ((0, 3), "lies outside of the scan"),
        ((0,), "one index for each dim"),
        (-1, "give 0 to 5"),
    ],
)
def test_a_frame_that_is_not_there_is_refused_with_those_that_are(lab, frame, words):
    RE, storage, _, y, x, _, cam = lab
    RE(nested_scan([cam], Linspace(y, 0, 1, 2) * Linspace(x, 0, 2, 3)))
    with pytest.raises(ValueError, match=words):
        storage.plot(frame=frame)


def test_a_frame_that_was_not_taken_is_not_drawn_as_black(lab):
    RE, storage, _, y, x, diode, _ = lab
    diode.fail_at = 4
    with pytest.raises(Exception, match="diode"):
        RE(nested_scan([diode, lab[-1]], Linspace(y, 0, 1, 2) * Linspace(x, 0, 2, 3)))
    with pytest.raises(ValueError, match=r"Nothing was measured at frame 5 .*the first is 0,0"):
        storage.plot(frame=5)


def test_what_is_not_in_a_run_is_refused_with_what_is(lab, tmp_path):
    RE, storage, _, _, x, diode, _ = lab
    with pytest.raises(RuntimeError, match=r"has stored anything in .*Run a plan first"):
        storage.plot()
    RE(nested_scan([diode], Linspace(x, 0, 4, 5)))
    with pytest.raises(ValueError, match=r"no reading 'dioed'.*There are: diode"):
        storage.plot("dioed")
    with pytest.raises(ValueError, match="no camera in this run"):
        storage.plot(frame=0)
    with pytest.raises(FileNotFoundError, match=r"nothing\.zarr"):
        plot_run(tmp_path / "nothing.zarr")


def test_the_command_writes_a_picture_and_says_where(lab, tmp_path, monkeypatch):
    RE, storage, _, y, x, _, cam = lab
    RE(nested_scan([cam], Linspace(y, 0, 1, 2) * Linspace(x, 0, 2, 3)))
    monkeypatch.chdir(tmp_path)
    path = str(storage.last_path)
    done = CliRunner().invoke(app, ["plot", path])
    assert done.exit_code == 0, done.output
    picture = tmp_path / f"{storage.last_path.stem}.png"
    assert done.output.strip() == str(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = CliRunner().invoke(app, ["plot", path, "--frame", "1,2", "--output", "frame.pdf"])
    assert done.exit_code == 0, done.output
    assert Path("frame.pdf").read_bytes().startswith(b"%PDF")


def test_the_command_says_what_an_index_looks_like(lab, tmp_path):
    RE, storage, _, _, x, diode, _ = lab
    RE(nested_scan([diode], Linspace(x, 0, 4, 5)))
    done = CliRunner().invoke(app, ["plot", str(storage.last_path), "--frame", "middle"])
    assert done.exit_code == 2
    assert "--frame middle is not an index: give a number like 17" in done.output


def test_a_session_that_draws_nothing_imports_no_matplotlib():
    code = "import sys; from bluesky_zarr import Storage; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
