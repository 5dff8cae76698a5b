"""Three values a weight: the least error of all, values that follow the training, files as small as promised."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import load as load_graph
from pydantic import ValidationError

from core.export import onnx
from core.export.code import decode
from core.export.weights import collect
from core.inspect import shape_of
from core.plan import size_of
from core.recipe import Recipe
from core.rounding import StraightThrough
from core.shared import Shared
from core.ternarize import Ternary, exact, ternary, twn
from tests.methods.conftest import text
from tests.methods.test_gptq import TRAINING, compiled
from tests.methods.test_int8 import prove
from tests.methods.test_weighted_svd import logits_error

SIZES = st.tuples(st.integers(1, 5), st.integers(1, 12), st.integers(0, 10_000))


def drawn(rows: int, columns: int, seed: int) -> torch.Tensor:
    """Weights of which some are equal and some zero."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=generator)
    return torch.where(torch.rand(rows, columns, generator=generator) < 0.2, weight.round(), weight)


def error(weight: torch.Tensor, scale: torch.Tensor, cut: torch.Tensor, d: torch.Tensor | float = 1.0) -> torch.Tensor:
    """Of each row, in float64."""
    value = weight.sign() * (weight.abs() > cut) * scale
    return ((weight - value).double().square() * d).sum(dim=1)


@given(SIZES)
def test_exact_is_never_above_the_sign_and_its_scale_nor_the_rule_of_the_mean(given: tuple[int, int, int]) -> None:
    weight = drawn(*given)
    best = error(weight, *exact(weight.abs()))
    binary = error(weight, weight.abs().mean(dim=1, keepdim=True), torch.zeros(len(weight), 1))
    assert (best <= binary + 1e-6).all()
    assert (best <= error(weight, *twn(weight.abs())) + 1e-6).all()


@given(SIZES, st.booleans())
def test_exact_is_the_least_of_all_choices_of_zeros(given: tuple[int, int, int], weighted: bool) -> None:
    """By trying every set of entries of a row; the scale of each is its weighted mean."""
    weight = drawn(1, min(given[1], 8), given[2])
    d = torch.rand(weight.shape, generator=torch.Generator().manual_seed(given[2])) + 0.01 if weighted else None
    d_or_one = torch.ones_like(weight) if d is None else d
    found = error(weight, *exact(weight.abs(), d), d_or_one)
    least = np.inf
    for chosen in range(2 ** weight.shape[1]):
        kept = torch.tensor([[bool(chosen >> place & 1) for place in range(weight.shape[1])]])
        mass = (d_or_one * kept).sum()
        scale = (d_or_one * weight.abs() * kept).sum() / mass if mass > 0 else torch.tensor(0.0)
        value = weight.sign() * kept * scale
        least = min(least, float(((weight - value).double().square() * d_or_one).sum()))
    assert float(found) == pytest.approx(least, abs=1e-5)


@given(SIZES, st.booleans(), st.booleans())
def test_following_the_weights_never_makes_the_error_larger(
    given: tuple[int, int, int], shared: bool, weighted: bool
) -> None:
    """Beside the scale that was right before the weights moved; up to what a file can hold of a scale."""
    weight = drawn(*given)
    grid = ternary(weight, "exact", shared=shared)
    moved = weight + 0.3 * drawn(*given[:2], given[2] + 1)
    d = torch.rand(moved.shape, generator=torch.Generator().manual_seed(1)) + 0.01 if weighted else None
    after, count = grid.refit(moved, d), 1.0 if d is None else d
    before_it, after_it = (error(moved, one.scales, one.scales / 2, count).sum() for one in (grid, after))
    assert after_it <= before_it * (1 + 1e-3) + 1e-6
    assert not shared or len(after.scales.unique()) == 1


@given(SIZES, st.sampled_from(["exact", "twn"]), st.booleans())
def test_a_weight_that_is_on_its_values_stays_to_the_bit(given: tuple[int, int, int], form: str, shared: bool) -> None:
    weight = drawn(*given)
    grid = ternary(weight, form, shared=shared)  # type: ignore[arg-type]
    rounded = grid.quick(weight)
    assert torch.equal(grid.quick(rounded), rounded)
    assert torch.equal(grid.like(rounded).quick(rounded), rounded)
    assert torch.equal(grid.values(grid.codes(rounded)), rounded)


RECIPES: dict[str, dict[str, object]] = {
    "one scale a row": {"method": "ternary"},
    "one scale a matrix": {"method": "ternary", "scale": "matrix", "loss_aware": False},
    "inputs of 8 bits": {"method": "ternary", "inputs": "int8"},
    "the rule of the mean": {"method": "ternary", "form": "twn", "rest_bits": 32},
}


@pytest.mark.parametrize("patience", [0, 100])
@pytest.mark.parametrize("step", RECIPES.values(), ids=RECIPES)
def test_trained_weights_have_three_values_and_take_the_planned_bytes(
    shared: Shared, teacher: Path, tmp_path: Path, step: dict[str, object], patience: int
) -> None:
    """Whatever was trained last, and where the best weights seen are taken."""
    steps = (step, {**TRAINING, "patience": patience, "look_every": 0.3})
    build = compiled(shared, *steps)
    stored = collect(build.model, build.masks, build.values)  # refuses what is not on its values
    planned = size_of(Recipe.model_validate({"steps": steps}), shape_of(teacher)[0])
    assert stored.size_bytes == planned.size_bytes
    onnx.write(build.model.eval(), build.masks, tmp_path / "model.onnx", values=build.values)
    assert (tmp_path / "model.onnx").stat().st_size <= planned.file_bytes
    for name in build.compressible():
        weight = decode(stored.coded[f"{name}.weight"])
        shared_by = weight if step.get("scale") == "matrix" and name != build.family.embedding else None
        for row in weight if shared_by is None else [weight]:
            assert len(np.unique(np.abs(row[row != 0]))) <= 1


@pytest.mark.parametrize("step", RECIPES.values(), ids=RECIPES)
def test_both_forms_are_the_student(shared: Shared, teacher: Path, tmp_path: Path, step: dict[str, object]) -> None:
    prove([step, TRAINING], shared, teacher, tmp_path)
    graph = load_graph(tmp_path / "model.onnx").graph
    products = sum(node.op_type == "MatMulInteger" for node in graph.node)
    linears = len([*shared.student().compressible()]) - 1
    assert products == (linears if step.get("inputs") == "int8" else 0)


def test_the_best_weights_seen_keep_the_values_that_they_were_on(shared: Shared, teacher: Path) -> None:
    """Also of words that `select` does not ask for, and where the best were not the last."""
    looked = replace(shared, select=text(teacher, 40, seed=3), _made={})
    unsteady = {**TRAINING, "epochs": 3, "learning_rate": 0.02, "patience": 1, "look_every": 0.1}
    build = compiled(looked, {"method": "ternary"}, unsteady)
    table = f"{build.family.embedding}.weight"
    begun = ternary(build.teacher.get_parameter(table).detach(), "exact", shared=False)
    assert torch.equal(build.values[table].scales, begun.scales)  # type: ignore[union-attr]
    collect(build.model, build.masks, build.values)  # refuses what is not on its values


def test_training_moves_the_values(shared: Shared) -> None:
    """Of a linear; not of the word embedding, of which a step sees few rows."""
    begun = shared.student()
    for step in Recipe.model_validate({"steps": [{"method": "ternary"}, TRAINING]}).steps[:1]:
        list(step.compile(begun))
    before = dict(begun.values)
    after = compiled(shared, {"method": "ternary"}, {**TRAINING, "learning_rate": 0.01}).values
    moved = {
        name
        for name, grid in after.items()
        if isinstance(grid, Ternary) and not torch.equal(grid.scales, before[name].scales)  # type: ignore[union-attr]
    }
    assert moved == {f"{name}.weight" for name in begun.compressible() if name != begun.family.embedding}


def test_the_gradient_of_the_rounded_weight_moves_the_one_beside_it(shared: Shared) -> None:
    """Straight through: plain descent takes latent - rate x gradient, and the model reads what that rounds to."""
    build = shared.student()
    name = next(name for name in build.compressible() if name != build.family.embedding)
    for step in Recipe.model_validate({"steps": [{"method": "ternary"}, TRAINING]}).steps[:1]:
        list(step.compile(build))
    parameter = build.model.get_parameter(f"{name}.weight")
    teacher = parameter.detach().clone()
    hook, optimizer = StraightThrough(build), torch.optim.SGD([parameter], lr=0.5)

    class Bare:
        optimizers = (optimizer,)

    hook.start(Bare())  # type: ignore[arg-type]
    assert torch.equal(hook.latent[f"{name}.weight"], teacher)
    assert len(parameter.detach()[0].abs().unique()) <= 2
    gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    parameter.grad = gradient.clone()
    hook.before_update()
    optimizer.step()
    hook.after_step(0.0)
    torch.testing.assert_close(hook.latent[f"{name}.weight"], teacher - 0.5 * gradient)
    assert len(parameter.detach()[0].abs().unique()) <= 2


def test_training_makes_of_three_values_what_rounding_cannot(shared: Shared) -> None:
    """The relation that the paper rests on."""
    trained = logits_error(compiled(shared, {"method": "ternary"}, {**TRAINING, "epochs": 3}), shared)
    nearest = shared.student()
    for step in Recipe.model_validate({"steps": [{"method": "ternary"}, TRAINING]}).steps[:1]:
        list(step.compile(nearest))
    for name, grid in nearest.values.items():
        parameter = nearest.model.get_parameter(name)
        parameter.data.copy_(grid.quick(parameter.detach()))
    assert trained < 0.5 * logits_error(nearest, shared)


def test_integer_products_of_a_sum_are_refused() -> None:
    steps = [{"method": "low_rank_sparse", "keep": 0.5}, {"method": "ternary", "inputs": "int8"}, TRAINING]
    with pytest.raises(ValidationError, match="leave out low_rank_sparse"):
        Recipe.model_validate({"steps": steps})


def test_without_a_training_it_is_refused() -> None:
    with pytest.raises(ValidationError, match="train"):
        Recipe.model_validate({"steps": [{"method": "ternary"}]})
