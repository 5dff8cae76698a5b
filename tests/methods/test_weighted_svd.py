"""Weighted SVD: the laws of the best approximation in the weighted norm, and of spending a pooled budget."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.batches import predict
from core.factorize.svd import rank_for, truncate
from core.factorize.weighted_svd import WeightedSvd, _entries, pooled_ranks, weighted
from core.inspect import shape_of
from core.phase import Build
from core.plan import fill, size_of
from core.recipe import Recipe, Target
from core.shared import Shared
from core.surgery import LowRankEmbedding

SIZES = st.tuples(st.integers(2, 16), st.integers(2, 16), st.integers(0, 2**31 - 1))


def gaussian(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def covariance(size: int, seed: int) -> torch.Tensor:
    """Positive definite, far from the identity."""
    x = gaussian(3 * size, size, seed=seed) * torch.logspace(0, 1.5, size, dtype=torch.float64)
    return x.T @ x / len(x)


def error(weight: torch.Tensor, other: torch.Tensor, inputs: torch.Tensor, outputs: torch.Tensor) -> float:
    """tr(G D C Dᵀ)."""
    d = other.double() - weight
    return float(torch.trace(outputs @ d @ inputs @ d.T))


@given(SIZES)
def test_the_weighted_error_is_the_dropped_energy_and_falls_with_the_rank(size: tuple[int, int, int]) -> None:
    rows, cols, seed = size
    weight, c, g = gaussian(rows, cols, seed=seed), covariance(cols, seed + 1), covariance(rows, seed + 2)
    found = weighted(weight, c, g)
    errors = []
    for rank in range(1, min(rows, cols) + 1):
        left, right = found.factors(rank)
        errors.append(error(weight, left @ right, c, g))
        dropped = float(found.values[rank:].square().sum())
        assert abs(errors[-1] - dropped) <= 1e-4 * float(found.values.square().sum())
    assert all(later <= earlier * (1 + 1e-4) + 1e-6 for earlier, later in pairwise(errors))


@given(SIZES)
def test_nothing_of_the_same_rank_is_better_in_the_weighted_norm(size: tuple[int, int, int]) -> None:
    """Neither plain SVD nor whitening of one side."""
    rows, cols, seed = size
    weight, c, g = gaussian(rows, cols, seed=seed), covariance(cols, seed + 1), covariance(rows, seed + 2)
    rank = max(1, min(rows, cols) // 2)
    best = error(weight, torch.matmul(*weighted(weight, c, g).factors(rank)), c, g)
    eye = torch.eye(rows, dtype=torch.float64)
    for left, right in (truncate(weight, rank), weighted(weight, c, eye).factors(rank)):
        assert best <= error(weight, left.double() @ right.double(), c, g) * (1 + 1e-4) + 1e-9


@given(SIZES, st.integers(1, 3))
def test_a_matrix_of_low_rank_is_kept_exactly(size: tuple[int, int, int], rank: int) -> None:
    rows, cols, seed = size
    rank = min(rank, rows, cols)
    weight = gaussian(rows, rank, seed=seed) @ gaussian(rank, cols, seed=seed + 3)
    left, right = weighted(weight, covariance(cols, seed + 1), covariance(rows, seed + 2)).factors(rank)
    torch.testing.assert_close((left @ right).double(), weight, atol=1e-3, rtol=1e-3)


@given(SIZES)
def test_an_embedding_is_a_linear_whose_inputs_are_one_hot(size: tuple[int, int, int]) -> None:
    """The shortcut for the diagonal side gives what the general form gives on the transposed table."""
    rows, cols, seed = size
    table, share = gaussian(rows, cols, seed=seed), gaussian(rows, seed=seed + 1).abs() + 0.1
    g = covariance(cols, seed + 2)
    short, whole = weighted(table, share, g), weighted(table.T.contiguous(), share.diag(), g)
    count = min(rows, cols)
    torch.testing.assert_close(short.values[:count], whole.values[:count], atol=1e-5, rtol=1e-5)
    rank = max(1, count // 2)
    ours, theirs = (torch.matmul(*found.factors(rank)).double() for found in (short, whole))
    assert abs(error(table.T, ours.T, share.diag(), g) - error(table.T, theirs, share.diag(), g)) < 1e-4


SPECTRA = st.lists(st.tuples(st.integers(2, 30), st.integers(2, 30), st.integers(0, 999)), min_size=1, max_size=5)


@given(SPECTRA, st.floats(0.05, 1.2))
def test_pooled_ranks_are_the_best_at_one_price_and_spend_the_budget(
    matrices: list[tuple[int, int, int]], keep: float
) -> None:
    """A Lagrangian optimum by brute force: one price of an entry at which no matrix has a better choice, and a little
    below that price the best choices would not fit."""
    shapes = {str(i): (rows, cols) for i, (rows, cols, _) in enumerate(matrices)}
    spectra = {
        str(i): sorted(gaussian(min(rows, cols), seed=seed).abs().tolist(), reverse=True)
        for i, (rows, cols, seed) in enumerate(matrices)
    }
    uniform = {name: rank_for(*shape, keep) for name, shape in shapes.items()}
    least = {name: 1 if sum(shape) < shape[0] * shape[1] else None for name, shape in shapes.items()}
    budget = max(_entries(uniform, shapes), _entries(least, shapes))
    pooled = pooled_ranks(spectra, shapes, budget)
    assert _entries(pooled, shapes) <= budget

    choices: dict[str, dict[int | None, tuple[float, int]]] = {}  # per matrix: rank -> error, entries
    low, high = 0.0, float("inf")  # the prices at which every choice made is the best one
    for name, (rows, cols) in shapes.items():
        ranks = [r for r in range(1, min(rows, cols) + 1) if r * (rows + cols) < rows * cols]
        energy = [v * v for v in spectra[name]]
        choices[name] = {None: (0.0, rows * cols)} | {r: (sum(energy[r:]), r * (rows + cols)) for r in ranks}
        error, held = choices[name][pooled[name]]
        for other, entries in choices[name].values():
            if entries > held:
                low = max(low, (error - other) / (entries - held))
            elif entries < held:
                high = min(high, (other - error) / (held - entries))
    assert low <= high * (1 + 1e-6)
    cheaper = low * (1 - 1e-6)
    best = [min(each.values(), key=lambda it: it[0] + cheaper * it[1])[1] for each in choices.values()]
    assert low == 0 or sum(best) > budget


def logits_error(build: Build, shared: Shared) -> float:
    split = shared.train.sample(60, 7)
    theirs, ours = (
        torch.from_numpy(predict(model, split, torch.device("cpu"))) for model in (shared.teacher, build.model)
    )
    return float((theirs - ours).square().mean())


def test_on_a_model_weighting_beats_plain_svd_at_equal_size(shared: Shared) -> None:
    from core.factorize.svd import Svd

    errors = {}
    for step in (Svd(keep=0.4), WeightedSvd(keep=0.4, calibration_rows=200)):
        build = shared.student()
        list(step.compile(build))
        assert isinstance(build.model.get_submodule(shared.family.embedding), LowRankEmbedding)
        errors[step.name()] = logits_error(build, shared)
    assert errors["weighted_svd"] < errors["svd"]


@pytest.mark.parametrize("embedding", [True, False])
def test_ranks_by_name_are_planned_as_they_are_made(shared: Shared, teacher: Path, embedding: bool) -> None:
    """Of what the step may factorize: the pooler and, where it is left out, the embedding stay dense in both."""
    each = {"bert.pooler.dense.weight": 4, "bert.embeddings.word_embeddings": 4, "bert.encoder.layer.0.output.dense": 3}
    steps = [{"method": "weighted_svd", "each": each, "embedding": embedding, "calibration_rows": 64}]
    recipe = fill(Recipe.model_validate({"steps": steps}), Target(), shape_of(teacher)[0])
    build = shared.student()
    for step in recipe.steps:
        list(step.compile(build))
    planned = size_of(recipe, shape_of(teacher)[0])
    assert planned.parameters == sum(parameter.numel() for parameter in build.model.parameters())


def test_what_is_computed_once_is_of_the_matrices_that_are_there(shared: Shared) -> None:
    """A student with a block skipped has fewer than the next point of its ladder, and both have the teacher's."""
    skip = {"method": "structured", "each": {"bert.encoder.layer.0.attention.output.dense": 0}, "align": 1}
    for steps in ([skip], []):
        build = shared.student()
        for step in Recipe.model_validate({"steps": [*steps, {"method": "weighted_svd", "keep": 0.5}]}).steps:
            assert [*step.compile(build)] == []
