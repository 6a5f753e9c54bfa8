"""Triggers of every kind, joined in every way."""

from __future__ import annotations

from hypothesis import strategies as st

from bluesky_zarr.plans._triggers import (
    OPERATORS,
    Derivative,
    PeakFound,
    Threshold,
    Trigger,
    Within,
)

NAMES = st.sampled_from(["det", "cam-sum", "a:b.c", "_x", "and", "peak", "2theta", "my det", "x-"])
NUMBERS = st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False)
SIZES = st.none() | st.floats(0, 1e300)


def triggers() -> st.SearchStrategy[Trigger]:
    """Every kind of trigger, and up to eight of them joined."""
    comparison = st.tuples(NAMES, st.sampled_from(sorted(OPERATORS)), NUMBERS)
    interval = st.tuples(NUMBERS, NUMBERS).map(sorted)
    leaves = st.one_of(
        comparison.map(lambda args: Threshold(*args)),
        comparison.map(lambda args: Derivative(*args)),
        st.builds(lambda name, ends: Within(name, *ends), NAMES, interval),
        st.builds(PeakFound, SIZES, st.none() | NUMBERS, SIZES),
        st.builds(PeakFound, max_width=SIZES),
    )
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.tuples(inner, inner).map(lambda pair: pair[0] & pair[1]),
            st.tuples(inner, inner).map(lambda pair: pair[0] | pair[1]),
        ),
        max_leaves=8,
    )
