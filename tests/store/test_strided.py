"""A copy has the same values whichever way the arrays lie in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bluesky_zarr.store._strided import copy_values


@pytest.mark.parametrize("dtype", [">f4", "<f4", ">i2", "u1", ">c8"])
@pytest.mark.parametrize("shape", [(16, 16), (65, 1030), (1, 2, 130, 70), (17, 2048), (0, 40)])
def test_a_transposed_copy_has_the_same_values(shape: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(1)
    image = rng.integers(0, 100, (*shape[:-2], shape[-1], shape[-2])).astype(dtype)
    values = image.swapaxes(-1, -2)
    # Into a part of something larger, as at the edge of an array.
    room = np.full([n + 3 for n in shape], 7, np.dtype(dtype).newbyteorder("<"))
    copy_values(room[tuple(map(slice, shape))], values)
    expected = np.full_like(room, 7)
    expected[tuple(map(slice, shape))] = values
    np.testing.assert_array_equal(room, expected)


def test_every_bit_of_what_is_not_a_number_is_kept() -> None:
    bits = np.arange(0x7F800000, 0x7F800000 + 64 * 64, dtype=">u4").reshape(64, 64)
    target = np.empty((64, 64), "<f4")
    copy_values(target, bits.view(">f4").T)
    np.testing.assert_array_equal(target.view("<u4"), bits.T)


@given(st.data())
def test_any_order_of_axes_and_any_steps(data: st.DataObject) -> None:
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, max_side=40))
    order = data.draw(st.permutations(range(len(shape))))
    steps = data.draw(
        st.lists(st.sampled_from([1, -1, 2]), min_size=len(shape), max_size=len(shape))
    )
    values = np.arange(np.prod(shape), dtype=">i4").reshape(shape).transpose(order)
    values = values[tuple(slice(None, None, step) for step in steps)]
    target = np.empty(values.shape, "<i4")
    copy_values(target, values)
    np.testing.assert_array_equal(target, values)
