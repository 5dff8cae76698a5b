"""Codes in digits: exact both ways for every number of levels and entries, and as small as promised."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from core.codes import A_BYTE, DIGITS, bits, size_bytes
from core.export.digits import decode, encode

LEVELS = st.sampled_from(sorted(DIGITS))


@st.composite
def coded(draw: st.DrawFn) -> tuple[np.ndarray, int]:
    levels = draw(LEVELS)
    codes = draw(hnp.arrays(np.uint8, st.integers(0, 70), elements=st.integers(0, levels - 1)))
    return codes, levels


@given(coded())
def test_codes_come_back_and_take_the_bytes_that_were_promised(case: tuple[np.ndarray, int]) -> None:
    codes, levels = case
    words = encode(codes, levels)
    assert np.array_equal(decode(words, levels, codes.size), codes)
    assert sum(word.nbytes for word in words) == size_bytes(levels, codes.size)


@given(coded(), st.integers(0, 10**6), st.integers(1, 255))
def test_any_other_byte_is_another_code_or_refused(case: tuple[np.ndarray, int], at: int, flip: int) -> None:
    """No byte is ignored, the padding of the last one included."""
    codes, levels = case
    words = [word.copy() for word in encode(codes, levels)]
    word = words[at % len(words)]
    if not word.size:
        return
    word[at % word.size] ^= flip
    with contextlib.suppress(ValueError):
        assert not np.array_equal(decode(tuple(words), levels, codes.size), codes)


@pytest.mark.parametrize("levels", sorted(DIGITS))
def test_digits_make_up_all_levels_and_fit_their_byte(levels: int) -> None:
    assert np.prod(DIGITS[levels]) == levels
    assert all(base ** A_BYTE[base] <= 256 for base in DIGITS[levels])
    assert bits(levels) < np.log2(levels) + 0.05  # never five per cent of a bit above the entropy
    assert size_bytes(levels, 10_000_000) == pytest.approx(10_000_000 * bits(levels) / 8)


@pytest.mark.parametrize("levels", sorted(set(DIGITS) - {256}))
def test_a_code_out_of_range_is_refused(levels: int) -> None:
    with pytest.raises(ValueError, match=f"legal are 0 to {levels - 1}"):
        encode(np.array([0, levels]), levels)


def test_lost_bytes_are_refused() -> None:
    low, high = encode(np.arange(8), 8)
    with pytest.raises(ValueError, match="1 bytes for 8 digits of base 4"):
        decode((low[:1], high), 8, 8)
    with pytest.raises(ValueError, match="1 byte arrays"):
        decode((low,), 8, 8)
