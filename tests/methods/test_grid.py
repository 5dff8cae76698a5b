"""Grids: what they hold survives every runtime, and they lose no more than rounding to nearest."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.codes import DIGITS
from core.grid import Grid, even, fit, groups_of
from tests.methods.test_weighted_svd import gaussian

CASES = st.tuples(
    st.integers(1, 9),
    st.integers(1, 40),
    st.integers(0, 2**31 - 1),
    st.sampled_from(sorted(DIGITS)),
    st.integers(1, 16),
)


def case(given: tuple[int, int, int, int, int]) -> tuple[torch.Tensor, torch.Tensor, Grid]:
    rows, columns, seed, levels, group = given
    weight = (gaussian(rows, columns, seed=seed) * 10.0 ** (seed % 7 - 5)).float()
    importance = gaussian(rows, columns, seed=seed + 1).square().float()
    return weight, importance, fit(weight, importance, None, levels, group)


@given(CASES)
def test_what_lies_on_a_grid_stays_there_to_the_bit(given: tuple[int, int, int, int, int]) -> None:
    weight, _, grid = case(given)
    rounded = grid.round(weight)
    assert torch.equal(grid.round(rounded), rounded)
    assert torch.equal(grid.values(grid.codes(rounded)), rounded)
    codes = grid.codes(weight)
    assert int(codes.min()) >= 0
    assert int(codes.max()) < given[3]


@given(CASES)
def test_levels_and_scales_are_half_precision_numbers_and_their_product_is_exact(
    given: tuple[int, int, int, int, int],
) -> None:
    weight, _, grid = case(given)
    for part in (grid.levels, grid.scales):
        assert torch.equal(part.half().float(), part)
    assert grid.scales.shape == (len(weight), groups_of(weight.shape[1], given[4]))
    assert bool((grid.scales > 0).all())
    exact = grid.levels.double()[grid.codes(weight)] * grid.scale_of(weight.shape[1]).double()
    assert torch.equal(grid.round(weight).double(), exact)


@given(CASES)
def test_a_fitted_grid_loses_no_more_than_rounding_to_nearest(given: tuple[int, int, int, int, int]) -> None:
    weight, importance, grid = case(given)

    def lost(one: Grid) -> float:
        return float((importance * (one.round(weight) - weight).square()).sum())

    assert lost(grid) <= lost(even(weight, given[3], given[4])) * (1 + 1e-5)


def test_levels_of_a_pruned_matrix_are_spent_on_what_is_left() -> None:
    """Survivors of pruning have a gap around zero; no level lies in it."""
    weight = gaussian(64, 64, seed=0).float()
    mask = weight.abs() > 1
    grid = fit(weight * mask, torch.ones(1), mask, 4, 64)
    assert float((grid.levels[:, None] * grid.scales.mean()).abs().min()) > 0.8
    everything = fit(weight * mask, torch.ones(1), None, 4, 64)
    error = [float(((one.round(weight) - weight) * mask).square().sum()) for one in (grid, everything)]
    assert error[0] < error[1]


@pytest.mark.parametrize("columns", [1, 7, 8, 9, 24])
def test_a_scale_reaches_exactly_its_own_columns(columns: int) -> None:
    scales = torch.arange(1.0, 1 + 2 * groups_of(columns, 8)).reshape(2, -1)
    found = Grid(torch.zeros(2), scales, 8).scale_of(columns)
    assert found.shape == (2, columns)
    assert all(found[i, j] == scales[i, j // 8] for i in range(2) for j in range(columns))


def test_a_group_of_zeros_and_one_beyond_half_precision_are_kept_finite() -> None:
    weight = torch.tensor([[0.0, 0.0, 1e6, -1e6], [1e-9, -1e-9, 0.5, 0.25]])
    grid = fit(weight, torch.ones(1), None, 16, 2)
    assert bool(torch.isfinite(grid.round(weight)).all())
    assert torch.equal(grid.round(weight)[0, :2], torch.zeros(2)) or float(grid.round(weight)[0, :2].abs().max()) < 1e-4
