"""Pruning masks: monotone, exact in number, by magnitude, and held through training."""

from itertools import pairwise

import torch
from hypothesis import given
from hypothesis import strategies as st

from core.masking import largest
from core.prune.magnitude import density, kept_entries


@given(st.floats(0.01, 1), st.floats(0.05, 1), st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_schedule_falls_from_one_to_keep(keep: float, ramp: float, moments: list[float]) -> None:
    values = [density(moment, keep, ramp) for moment in sorted(moments)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
    assert density(0.0, keep, ramp) == 1.0
    assert abs(density(ramp, keep, ramp) - keep) < 1e-12
    assert density(1.0, keep, ramp) == keep or ramp == 1.0


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 10_000))
def test_a_mask_holds_the_largest_entries_and_never_grows_back(first: int, second: int, seed: int) -> None:
    weight = torch.randn(6, 10, generator=torch.Generator().manual_seed(seed))
    big, small = max(first, second), min(first, second)
    mask = largest(weight.abs(), torch.ones_like(weight, dtype=torch.bool), big)
    assert int(mask.sum()) == big
    if big < weight.numel():
        assert weight[mask].abs().min() >= weight[~mask].abs().max()
    weight[~mask] = 100.0  # a masked entry that would win by size stays masked
    smaller = largest(weight.abs(), mask, small)
    assert int(smaller.sum()) == small
    assert not (smaller & ~mask).any()


@given(st.integers(1, 10**7), st.floats(1e-9, 1))
def test_at_least_one_entry_and_never_more_than_all_survive(entries: int, keep: float) -> None:
    assert 1 <= kept_entries(entries, keep) <= entries
