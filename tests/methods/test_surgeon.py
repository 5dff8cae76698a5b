"""Second-order pruning: the surgeon's repair, its thresholds, and what it leaves alone."""

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.calibrate import Moments
from core.masking import largest
from core.phase import Build
from core.prune.magnitude import kept_entries
from core.prune.obs import Obs
from core.shared import Shared
from core.surgeon import Judged, Surgeon, _pooled, inverse_root, refit, sweep
from tests.methods.test_weighted_svd import SIZES, covariance, gaussian

CASES = st.tuples(st.integers(1, 6), st.integers(2, 90), st.integers(0, 2**31 - 1), st.floats(0.05, 0.95))


def case(rows: int, cols: int, seed: int, share: float) -> tuple[Judged, torch.Tensor]:
    weight = gaussian(rows, cols, seed=seed)
    judged = Judged(weight, covariance(cols, seed + 1), gaussian(rows, seed=seed + 2).abs() + 0.1)
    mask = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed)) < share
    return judged, mask


@given(CASES)
def test_the_sweep_keeps_the_mask_and_moves_nothing_when_nothing_goes(given: tuple[int, int, int, float]) -> None:
    judged, mask = case(*given)
    upper = inverse_root(judged.hessian)
    assert not sweep(judged.weight, upper, mask)[~mask].any()
    assert torch.equal(sweep(judged.weight, upper, torch.ones_like(mask)), judged.weight)


@given(CASES)
def test_removing_whole_leading_columns_is_repaired_exactly(given: tuple[int, int, int, float]) -> None:
    """Where every removed column lies before every kept one the sweep is least squares itself."""
    judged, mask = case(*given)
    first = int(given[3] * mask.shape[1])
    mask[:] = torch.arange(mask.shape[1]) >= min(first, mask.shape[1] - 1)
    swept = sweep(judged.weight, inverse_root(judged.hessian), mask)
    torch.testing.assert_close(swept, refit(judged, mask), atol=1e-6, rtol=1e-5)


@given(SIZES, st.booleans())
def test_a_factors_metric_is_that_of_the_product(size: tuple[int, int, int], embedding: bool) -> None:
    """What a change of one factor costs by its own metric is tr(G D C Dᵀ) of the change of left @ right.

    Exact for any change of `left` where G is diagonal, and for a change of one row of `right`. An embedding's table
    is tokens x width, so there the left factor's rows are felt as tokens are frequent.
    """
    rows, cols, seed = size
    rank = max(1, min(rows, cols) // 2)
    left, right = gaussian(rows, rank, seed=seed), gaussian(rank, cols, seed=seed + 1)
    frequency = gaussian(rows, seed=seed + 2).abs() + 0.1
    seen = (
        Moments(frequency, covariance(cols, seed + 3))
        if embedding
        else Moments(covariance(cols, seed + 3), frequency.diag())
    )
    parts = Surgeon._parts(SimpleNamespace(damping=0.0), {"left": left, "right": right}, seen)  # type: ignore[arg-type]
    metric = seen.outputs if embedding else seen.inputs

    def cost(change: torch.Tensor) -> float:
        return float((frequency[:, None] * (change @ metric) * change).sum())

    other = left + gaussian(rows, rank, seed=seed + 4)
    assert parts["left"].error(other) == pytest.approx(cost((other - left) @ right), rel=1e-6)
    other = right.clone()
    other[seed % rank] += gaussian(cols, seed=seed + 5)
    assert parts["right"].error(other) == pytest.approx(cost(left @ (other - right)), rel=1e-6)


@given(CASES)
def test_refitting_on_a_fixed_mask_never_hurts(given: tuple[int, int, int, float]) -> None:
    """Least squares is the best of that support: no worse than the sweep, and than removing alone."""
    judged, mask = case(*given)
    best = refit(judged, mask)
    assert not best[~mask].any()
    for other in (sweep(judged.weight, inverse_root(judged.hessian), mask), judged.weight * mask):
        assert judged.error(best) <= judged.error(other) * (1 + 1e-6) + 1e-9


@given(st.integers(2, 40), st.integers(0, 2**31 - 1))
def test_one_removed_entry_costs_what_its_score_says(cols: int, seed: int) -> None:
    """The score w² / [H⁻¹]_jj x row weight is the exact loss of removing the entry, the rest of the row refitted."""
    judged, _ = case(1, cols, seed, 0.5)
    scores = judged.scores(inverse_root(judged.hessian))
    j = seed % cols
    mask = torch.ones(1, cols, dtype=torch.bool)
    mask[0, j] = False
    assert judged.error(refit(judged, mask)) == pytest.approx(float(scores[0, j]), rel=1e-5)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=5), st.floats(0.01, 1), st.integers(0, 999))
def test_a_pooled_threshold_keeps_the_exact_number_and_empties_no_tensor(
    sizes: list[int], share: float, seed: int
) -> None:
    scores = {str(i): gaussian(size, seed=seed + i).abs().float().round(decimals=1) for i, size in enumerate(sizes)}
    count = sum(kept_entries(size, share) for size in sizes)
    found = _pooled(scores, count)
    assert sum(found.values()) == count
    assert all(1 <= found[name] <= len(score) for name, score in scores.items())


@pytest.mark.parametrize("scope", ["model", "tensor"])
def test_masks_are_monotone_exact_in_number_and_zero_what_they_say(build: Build, shared: Shared, scope: str) -> None:
    surgeon = Surgeon(build, shared.moments(200), 1e-2, scope=scope)
    sizes = {name: judged.weight.numel() for name, judged in surgeon.judged().items()}
    before: dict[str, torch.Tensor] = {}
    for share in (0.7, 0.4, 0.15):
        surgeon.prune(share)
        assert sum(int(mask.sum()) for mask in build.masks.values()) == sum(
            kept_entries(size, share) for size in sizes.values()
        )
        for name, mask in build.masks.items():
            assert not (mask & ~before.get(name, torch.ones_like(mask))).any()
            assert not build.model.get_parameter(name)[~mask].any()
        before = dict(build.masks)


def test_magnitudes_solution_stays_where_its_layer_error_is_lower(shared: Shared) -> None:
    build = shared.student()
    surgeon = Surgeon(build, shared.moments(200), 1e-2, scope="tensor")
    judged = surgeon.judged()
    surgeon.prune(0.3)
    for name, each in judged.items():
        plain = largest(each.weight.abs(), torch.ones_like(each.weight, dtype=torch.bool), int(build.masks[name].sum()))
        now = build.model.get_parameter(name).detach().double()
        assert each.error(now) <= each.error(each.weight * plain) * (1 + 1e-5) + 1e-9


def test_factors_are_pruned_too_and_pruning_at_once_needs_no_training(shared: Shared) -> None:
    from core.factorize.weighted_svd import WeightedSvd
    from core.recipe import Recipe

    steps = ({"method": "weighted_svd", "keep": 0.6}, {"method": "obs", "keep": 0.5, "when": "once"})
    recipe = Recipe.model_validate({"steps": steps})  # no training step: legal, for nothing acts during training
    build = shared.student()
    for step in recipe.steps:
        assert isinstance(step, WeightedSvd | Obs)
        list(step.compile(build))
    assert any(name.endswith(".left") for name in build.masks)
    assert any(name.endswith(".right") for name in build.masks)
    assert not build.hooks
