"""Low rank plus sparse: the error of its turns, what it recovers, what it promises to store."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.export import torch_form
from core.export.weights import collect
from core.factorize.low_rank_sparse import LowRankSparse, decompose, parts
from core.factorize.weighted_svd import weighted
from core.inspect import shape_of
from core.phase import Build
from core.plan import fill, size_of
from core.recipe import Recipe, Target
from core.surgeon import Judged
from core.surgery import LowRankEmbedding, LowRankLinear
from tests.methods.test_weighted_svd import covariance, gaussian

CASES = st.tuples(st.integers(3, 30), st.integers(3, 40), st.integers(0, 2**31 - 1))


def case(rows: int, cols: int, seed: int) -> Judged:
    return Judged(gaussian(rows, cols, seed=seed), covariance(cols, seed + 1), gaussian(rows, seed=seed).abs() + 0.1)


@given(CASES, st.integers(1, 3), st.floats(0.02, 0.5))
def test_another_round_never_hurts_and_survivors_never_do(
    case_of: tuple[int, int, int], rank: int, share: float
) -> None:
    """The error falls with every turn, and lies below that of the factors alone."""
    judged = case(*case_of)
    count = max(1, int(share * judged.weight.numel()))
    alone = weighted(judged.weight, judged.rows, judged.hessian).factors(rank)
    errors = [judged.error(alone[0].double() @ alone[1].double())]
    for rounds in (1, 2, 4):
        found = decompose(judged, rank, count, rounds)
        assert int(found.mask.sum()) == count
        assert not found.sparse[~found.mask].any()
        errors.append(judged.error((found.left @ found.right + found.sparse).double()))
    for before, after in pairwise(errors):
        assert after <= before * (1 + 1e-4) + 1e-6


def test_what_is_low_rank_plus_sparse_is_found() -> None:
    """A few outliers on a matrix of low rank: the sum says it all, where neither part alone does."""
    low = gaussian(40, 3, seed=1) @ gaussian(3, 50, seed=2)
    outliers = torch.zeros(40, 50).double()
    outliers.view(-1)[torch.randperm(2000, generator=torch.Generator().manual_seed(3))[:30]] = 40.0
    judged = Judged(low + outliers, torch.eye(50).double(), torch.ones(40).double())
    found = decompose(judged, 3, 30, 20)
    assert found.error < 1e-6 * judged.error(torch.zeros_like(judged.weight))
    assert torch.equal(found.mask, outliers != 0)


@given(st.integers(1, 300), st.integers(1, 300), st.floats(0.01, 1), st.floats(0.05, 0.95))
def test_factors_and_survivors_hold_what_was_asked(rows: int, cols: int, keep: float, low_rank: float) -> None:
    held = parts(rows, cols, keep, low_rank)
    if held is not None:
        rank, survivors = held
        smallest = rows + cols + 1  # one component, one survivor
        assert rank * (rows + cols) + survivors == max(round(keep * rows * cols), smallest)


def test_the_student_is_as_large_as_planned_and_loads_without_us(build: Build, teacher: Path, tmp_path: Path) -> None:
    shape, _ = shape_of(teacher)
    recipe = fill(Recipe(steps=(LowRankSparse(),)), Target(parameter_ratio=2.0), shape)
    assert not [*recipe.steps[0].compile(build)]
    kinds = {type(build.model.get_submodule(name)) for name in build.compressible()}
    assert kinds == {LowRankEmbedding, LowRankLinear}
    stored = collect(build.model, build.masks)
    assert stored.size_bytes == size_of(recipe, shape).size_bytes
    kept = sum(p.numel() for p in build.model.parameters()) - sum(int((~m).sum()) for m in build.masks.values())
    assert kept == size_of(recipe, shape).nonzero
    torch_form.write(build.model, build.masks, teacher, tmp_path / "form")
    names: dict[str, object] = {}
    exec(compile((tmp_path / "form" / "load.py").read_text(), "load.py", "exec"), names)
    loaded = names["load"](tmp_path / "form")  # type: ignore[operator]
    batch = build.shared.train.collate([0, 1, 2], torch.device("cpu"))
    given_ = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    build.model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**given_).logits, build.model(**given_).logits)


def test_no_pruning_may_follow() -> None:
    with pytest.raises(ValidationError, match=r"steps\.1 \(obs\) cannot follow low_rank_sparse"):
        Recipe.model_validate({"steps": [{"method": "low_rank_sparse"}, {"method": "obs", "when": "once"}]})
