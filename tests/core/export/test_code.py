"""Weights on a grid, stored: exact both ways, as small as the plan says, and nothing that does not fit is read."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.codes import DIGITS
from core.export.code import Coded, code, decode
from core.method import Tensor

HALVES = st.floats(-100, 100, width=16)


@st.composite
def stored(draw: st.DrawFn) -> tuple[Coded, np.ndarray, np.ndarray | None]:
    """A weight on some grid: how it is stored, what it is, and its mask."""
    rows, columns, group = draw(st.integers(1, 6)), draw(st.integers(1, 20)), draw(st.integers(1, 9))
    levels = draw(st.sampled_from(sorted(DIGITS)))
    chosen = draw(hnp.arrays(np.int32, (rows, columns), elements=st.integers(0, levels - 1)))
    values = np.sort(draw(hnp.arrays(np.float16, levels, elements=HALVES)).astype(np.float32))
    scales = draw(hnp.arrays(np.float16, (rows, -(-columns // group)), elements=HALVES)).astype(np.float32)
    mask = draw(st.none() | hnp.arrays(np.bool_, (rows, columns)))
    weight = values[chosen] * np.repeat(scales, group, axis=1)[:, :columns]
    return code(chosen, values, scales, group, mask), weight if mask is None else weight * mask, mask


@given(stored())
def test_a_stored_weight_comes_back(case: tuple[Coded, np.ndarray, np.ndarray | None]) -> None:
    coded, weight, _ = case
    assert np.array_equal(decode(coded), weight)


@given(stored())
def test_stored_bytes_are_those_of_the_plan(case: tuple[Coded, np.ndarray, np.ndarray | None]) -> None:
    coded, weight, mask = case
    kept = weight.size if mask is None else int(mask.sum())
    planned = Tensor("", *weight.shape, kept, "linear", levels=len(coded.levels), group=coded.group)
    assert coded.size_bytes == planned.size_bytes == sum(part.nbytes for part in coded.parts().values())


BROKEN: dict[str, Any] = {
    "lost byte": lambda c: replace(c, words=(c.words[0][:-1], *c.words[1:])),
    "lost digit": lambda c: replace(c, words=c.words[:-1]),
    "bit in the padding": lambda c: replace(c, bitmap=c.bitmap | np.uint8(0x80)),
    "survivors more": lambda c: replace(c, bitmap=np.array([0xFF, 0x03], np.uint8)),
    "other shape": lambda c: replace(c, shape=(3, 7)),
    "lost scale": lambda c: replace(c, scales=c.scales[:, :-1]),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_arrays_that_do_not_fit_are_refused(broken: Any) -> None:
    chosen = np.arange(10).reshape(2, 5) % 8
    coded = code(chosen, np.arange(8, dtype=np.float32), np.ones((2, 3), np.float32), 2, chosen > 2)
    with pytest.raises(ValueError, match=r"byte|bit|scales|shape"):
        decode(broken(coded))


def test_what_half_precision_cannot_hold_is_refused() -> None:
    levels, scales = np.array([0, 1], np.float32), np.ones((1, 1), np.float32)
    with pytest.raises(ValueError, match="levels are not fp16"):
        code(np.zeros((1, 1), int), levels + np.float32(1e-5), scales, 4, None)
    with pytest.raises(ValueError, match="scales are not fp16"):
        code(np.zeros((1, 1), int), levels, scales / 3, 4, None)
    with pytest.raises(ValueError, match="shapes differ"):
        code(np.zeros((1, 5), int), levels, scales, 4, None)
