"""Truncated SVD: the laws of the best low-rank approximation, and surgery that leaves the rest alone."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from core.errors import RecipeInvalid
from core.factorize.svd import truncate
from core.model import load
from core.surgery import factorize

SIZES = st.tuples(st.integers(2, 24), st.integers(2, 24), st.integers(0, 2**31 - 1))


def matrix(rows: int, cols: int, seed: int) -> torch.Tensor:
    return torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed))


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_the_error_is_the_energy_of_the_dropped_singular_values(size: tuple[int, int, int]) -> None:
    weight = matrix(*size)
    spectrum = torch.linalg.svdvals(weight.double())
    for rank in range(1, min(size[:2]) + 1):
        left, right = truncate(weight, rank)
        error = torch.linalg.norm((weight - left @ right).double())
        torch.testing.assert_close(error, spectrum[rank:].square().sum().sqrt(), atol=1e-4, rtol=1e-4)


@given(SIZES)
@settings(max_examples=40, deadline=None)
def test_more_rank_never_hurts(size: tuple[int, int, int]) -> None:
    weight = matrix(*size)
    errors = []
    for rank in range(1, min(size[:2]) + 1):
        left, right = truncate(weight, rank)
        errors.append(float(torch.linalg.norm(weight - left @ right)))
    assert all(later <= earlier + 1e-5 for earlier, later in pairwise(errors))


@given(SIZES, st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_a_matrix_of_low_rank_is_kept_exactly(size: tuple[int, int, int], rank: int) -> None:
    rows, cols, seed = size
    rank = min(rank, rows, cols)
    weight = matrix(rows, rank, seed) @ matrix(rank, cols, seed + 1)
    left, right = truncate(weight, rank)
    torch.testing.assert_close(left @ right, weight, atol=1e-4, rtol=1e-4)
    assert left.is_contiguous()
    assert right.is_contiguous()


def test_full_rank_factors_of_every_layer_leave_the_logits_alone(teacher: Path) -> None:
    loaded = load(teacher)
    ids = torch.randint(5, 40, (3, 11), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = loaded.model(input_ids=ids).logits
        for name in list(loaded.family.compressible(loaded.model)):
            weight = loaded.model.get_parameter(f"{name}.weight").detach()
            factorize(loaded.model, name, *truncate(weight, min(weight.shape)))
        after = loaded.model(input_ids=ids).logits
    torch.testing.assert_close(after, before, atol=1e-4, rtol=1e-4)


def test_a_module_that_is_neither_linear_nor_embedding_is_refused(teacher: Path) -> None:
    model = load(teacher).model
    with pytest.raises(RecipeInvalid, match="LayerNorm"):
        factorize(model, "bert.embeddings.LayerNorm", torch.ones(2, 1), torch.ones(1, 2))


def test_factors_go_where_their_matrix_was() -> None:
    """They are computed on the CPU; a student on another device must find them there."""
    model = nn.Sequential(nn.Linear(6, 5), nn.Embedding(7, 4)).to("meta")
    factorize(model, "0", torch.zeros(5, 2), torch.zeros(2, 6), torch.zeros(5, 6))
    factorize(model, "1", torch.zeros(7, 2), torch.zeros(2, 4))
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
