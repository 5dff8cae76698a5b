"""Packing loses nothing, takes the bytes that the plan counts, and refuses what does not fit together."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.export.pack import Packed, pack, pays, unpack
from core.method import Tensor

SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=9)


@st.composite
def masked(draw: st.DrawFn) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]:
    """A tensor of any shape and a mask (often all or none) under which its masked entries are zero."""
    shape = draw(SHAPES)
    mask = draw(
        hnp.arrays(np.bool_, shape, elements=st.booleans())
        | st.sampled_from([0, 1]).map(lambda bit: np.full(shape, bool(bit)))
    )
    weight = draw(hnp.arrays(draw(st.sampled_from([np.float32, np.float16, np.int8])), shape))
    return np.where(mask, weight, weight.dtype.type(0)), mask


@given(masked())
def test_a_packed_tensor_unpacks_to_the_same_bits(case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]) -> None:
    weight, mask = case
    back = unpack(pack(weight, mask))
    assert (back.shape, back.dtype) == (weight.shape, weight.dtype)
    assert back.tobytes() == weight.tobytes()


@given(masked())
def test_packed_bytes_are_those_of_the_plan(case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]) -> None:
    """Where packing pays, it takes exactly `Tensor.size_bytes`; where it does not, dense is no larger."""
    weight, mask = case
    entries, kept, bits = mask.size, int(mask.sum()), 8 * weight.itemsize
    planned = Tensor("", 1, entries, kept, "fixed", bits).size_bytes
    stored = pack(weight, mask).size_bytes if pays(entries, kept, bits) else weight.nbytes
    assert stored == planned
    assert stored <= weight.nbytes


@given(masked())
def test_a_masked_entry_that_is_not_zero_is_refused(case: tuple[npt.NDArray[Any], npt.NDArray[np.bool_]]) -> None:
    weight, mask = case
    wrong = np.where(mask, weight, weight.dtype.type(1))
    if mask.all():
        assert unpack(pack(wrong, mask)).tobytes() == weight.tobytes()
        return
    with pytest.raises(ValueError, match=f"{mask.size - mask.sum()} of"):
        pack(wrong, mask)


def test_a_mask_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4,\) on a tensor of shape \(2, 2\)"):
        pack(np.zeros((2, 2), np.float32), np.ones(4, bool))


@pytest.mark.parametrize(
    "broken",
    [
        lambda packed: replace(packed, bitmap=packed.bitmap[:-1]),
        lambda packed: replace(packed, bitmap=packed.bitmap | np.uint8(0x80)),  # a bit after the last entry
        lambda packed: replace(packed, values=packed.values[:-1]),
        lambda packed: replace(packed, shape=(3, 7)),
    ],
    ids=["short bitmap", "bit in the padding", "survivor lost", "other shape"],
)
def test_parts_that_do_not_fit_are_refused(broken: Any) -> None:
    weight = np.arange(10, dtype=np.float32).reshape(2, 5)
    packed: Packed = pack(weight * (weight > 3), weight > 3)
    with pytest.raises(ValueError, match="bitmap"):
        unpack(broken(packed))
