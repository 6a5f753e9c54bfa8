"""A peak is a value: equal to another one of which the same is known."""

from __future__ import annotations

import math
from dataclasses import replace

from bluesky_zarr.peaks import Peak


def test_what_is_not_known_of_two_peaks_does_not_make_them_different():
    one = Peak(1.0, 2.0, 3.0, center_error=float("nan"))
    assert one == Peak(1.0, 2.0, 3.0, center_error=float("nan"))
    assert hash(one) == hash(Peak(1.0, 2.0, 3.0, center_error=-math.nan))
    assert one != replace(one, center_error=0.1)
    assert one != "a peak"


def test_that_holds_over_several_axes_as_well():
    several = Peak((1.0, 2.0), (0.3, 0.4), 9.0, center_error=(float("nan"), 0.1))
    assert several == Peak((1.0, 2.0), (0.3, 0.4), 9.0, center_error=(float("nan"), 0.1))
    assert several != replace(several, center_error=(0.1, float("nan")))
