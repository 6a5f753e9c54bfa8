"""The frame that the pointer is on is shown beside the map."""

from __future__ import annotations

from collections.abc import Iterator

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr

from bluesky_zarr.pictures import browse_run

mpl.use("Agg")


@pytest.fixture
def run() -> Iterator[xr.Dataset]:
    import matplotlib.pyplot as plt

    frames = np.arange(2 * 3 * 4 * 5, dtype="uint16").reshape(2, 3, 4, 5)
    written = np.ones((2, 3), "uint32")
    written[1, 2] = 0
    yield xr.Dataset(
        {
            "cam": (("y", "x", "cam_y", "cam_x"), frames, {"units": "counts"}),
            "cam-sum": (("y", "x"), frames.sum((2, 3)).astype(float)),
            "cam_written": (("y", "x"), written),
        },
        # Setpoints that run backwards, as motors may.
        {"y": ("y", [0.0, 1.0], {"units": "mm"}), "x": ("x", [9.0, 8.0, 7.0], {"units": "mm"})},
    )
    plt.close("all")


def point_at(figure, x: float, y: float) -> None:
    """Move the pointer to a place of the map, in its units."""
    from matplotlib.backend_bases import MouseEvent

    figure.canvas.draw()
    pixel = figure.axes[0].transData.transform((x, y))
    event = MouseEvent("motion_notify_event", figure.canvas, *pixel)
    figure.canvas.callbacks.process("motion_notify_event", event)


def picture(figure):
    """The axes with the frame, and the pixels in it."""
    (axes,) = (axes for axes in figure.axes if axes.images)
    return axes, np.ma.filled(axes.images[0].get_array(), np.nan)


def test_the_frame_under_the_pointer_is_shown_with_its_place(run: xr.Dataset) -> None:
    figure = browse_run(run)
    for row, column in [(0, 0), (1, 1), (0, 2)]:
        point_at(figure, float(run["x"][column]) + 0.3, float(run["y"][row]) - 0.3)
        axes, pixels = picture(figure)
        np.testing.assert_array_equal(pixels, run["cam"][row, column])
        assert axes.get_title().startswith(f"Frame {row},{column}, y = {row} mm, x = ")


def test_a_position_without_a_frame_is_empty_and_not_black(run: xr.Dataset) -> None:
    figure = browse_run(run)
    point_at(figure, 7.0, 1.0)
    axes, pixels = picture(figure)
    assert np.isnan(pixels).all()
    assert axes.get_title().endswith("not measured")


def test_a_pointer_beside_the_map_changes_nothing(run: xr.Dataset) -> None:
    figure = browse_run(run)
    point_at(figure, 9.0, 0.0)
    point_at(figure, 90.0, 0.0)
    np.testing.assert_array_equal(picture(figure)[1], run["cam"][0, 0])


def test_what_cannot_be_browsed_is_said_with_what_can(run: xr.Dataset) -> None:
    with pytest.raises(ValueError, match=r"has mono, y, x: choose .*isel\(mono=2\)"):
        browse_run(run.expand_dims(mono=2))
    with pytest.raises(ValueError, match=r"no reading 'diode' .* There are: cam-sum"):
        browse_run(run, "diode")
    with pytest.raises(ValueError, match="no camera with frames of two dims in this run"):
        browse_run(run.drop_vars("cam").assign(seq_num=run["cam_written"]))
