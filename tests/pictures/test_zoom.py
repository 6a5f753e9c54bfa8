"""An adaptive scan can be drawn from its store alone."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pytest
from bluesky.run_engine import RunEngine
from ophyd_async.core import init_devices
from scanspec.specs import Linspace

import bluesky_zarr as bz
from bluesky_zarr.pictures import plot_zoom
from bluesky_zarr.plans import nested_scan, zoom_scan
from tests.fakes import Diode, instant_motor

mpl.use("Agg")


def spot(y: float, x: float) -> float:
    """A peak of FWHM 4 in y and 6 in x, at (11, 33)."""
    return 5 + 1000 * 2 ** -(((y - 11) / 2) ** 2 + ((x - 33) / 3) ** 2)


@pytest.fixture
def lab(RE: RunEngine, storage: bz.Storage):
    with init_devices():
        # In alphabetical order the inner axis comes first.
        y, x = instant_motor("z_outer", 11.0), instant_motor("a_inner")
        diode = Diode([y, x], spot)
    storage.attach(RE)
    return RE, storage, y, x, diode


def texts(figure) -> str:
    (picture, *_) = figure.axes
    return " ".join(text.get_text() for text in picture.texts)


def test_a_scan_over_one_axis_is_drawn_with_passes_peaks_and_curve(lab, tmp_path):
    RE, storage, _, x, diode = lab
    found = RE(zoom_scan([diode], "diode", x, 0, 60, narrowest=5)).plan_result
    figure = plot_zoom(storage.last_path)
    (picture,) = figure.axes
    assert picture.get_xlabel().startswith("a_inner")
    assert picture.get_ylabel() == "diode [counts]"
    labels = [text.get_text() for text in picture.get_legend().get_texts()]
    assert labels[0].startswith("coarse pass: ")
    assert {"fitted curve", "fired"} < set(labels)
    assert f"{found.peaks[0].center:.2f}" in texts(figure)
    curve = next(line for line in picture.lines if line.get_label() == "fitted curve")
    x_of_top = curve.get_xdata()[np.nanargmax(curve.get_ydata())]
    assert x_of_top == pytest.approx(33, abs=0.1)
    figure.savefig(tmp_path / "zoom.png")
    assert (tmp_path / "zoom.png").stat().st_size > 10_000


def test_a_scan_over_two_axes_is_drawn_as_a_map_with_outlines(lab):
    RE, storage, y, x, diode = lab
    RE(zoom_scan([diode], "diode", [y, x], [0, 0], [20, 60], narrowest=[4, 6]))
    picture = plot_zoom(storage.last_path).axes[0]
    assert picture.get_ylabel().startswith("z_outer")
    assert picture.get_xlabel().startswith("a_inner")
    (outline,) = picture.patches
    assert outline.get_center() == pytest.approx((33, 11), abs=0.3)


def test_a_search_inside_of_a_nested_scan_is_drawn_over_both_axes(lab):
    RE, storage, y, x, diode = lab
    spec = Linspace(y, 10, 12, 3)
    RE(zoom_scan([diode], "diode", x, 0, 60, narrowest=5, outer=spec))
    picture = plot_zoom(storage.last_path).axes[0]
    assert picture.get_ylabel().startswith("z_outer")
    assert picture.get_xlabel().startswith("a_inner")
    assert sorted(line.get_ydata()[0] for line in picture.lines if len(line.get_ydata()) == 1)[
        :1
    ] == [10.0]


def test_a_scan_that_was_aborted_is_drawn_as_far_as_it_came(lab):
    RE, storage, _, x, diode = lab
    diode.fail_at = 5
    with pytest.raises(Exception, match="diode"):
        RE(zoom_scan([diode], "diode", x, 0, 60, narrowest=5))
    assert plot_zoom(storage.last_path).axes[0].get_title() == "0 peaks of diode in 5 exposures"


def test_the_store_of_another_plan_is_refused_by_name(lab):
    RE, storage, _, x, diode = lab
    RE(nested_scan([diode], Linspace(x, 0, 1, 2)))
    with pytest.raises(ValueError, match=r"no group 'merged'.*its plan is 'nested_scan'"):
        plot_zoom(storage.last_path)


def test_a_reading_that_is_not_there_is_refused_with_those_that_are(lab):
    RE, storage, _, x, diode = lab
    RE(zoom_scan([diode], "diode", x, 0, 60, narrowest=5))
    with pytest.raises(ValueError, match=r"no reading 'dioed'.*There are: .*diode"):
        plot_zoom(storage.last_path, "dioed")
