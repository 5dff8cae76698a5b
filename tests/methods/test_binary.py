"""Two values a weight, and three values split into two of two: identities, files, and the relations of the paper."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.allocate import Option
from core.assign import _Search, assign
from core.binarize import Binary, binary, split
from core.export.code import decode
from core.export.weights import collect
from core.inspect import shape_of
from core.plan import Matrix, ModelShape, size_of
from core.recipe import Recipe, Target
from core.shared import Shared
from core.surgery import SumEmbedding, SumLinear
from core.ternarize import ternary
from tests.methods.test_gptq import TRAINING, compiled
from tests.methods.test_int8 import prove
from tests.methods.test_ternary import SIZES, drawn
from tests.methods.test_weighted_svd import logits_error

SPLIT: list[dict[str, object]] = [{"method": "ternary"}, TRAINING, {"method": "binary_split"}, TRAINING]
DIRECT: list[dict[str, object]] = [{"method": "binary"}, TRAINING]


def formed(half: torch.Tensor, shared: bool) -> torch.Tensor:
    """The binary form of a half, float64, with the scale as it is before a file rounds it."""
    flat = half.reshape(1, -1) if shared else half
    return torch.where(flat >= 0, 1.0, -1.0).mul(flat.abs().mean(dim=1, keepdim=True)).reshape(half.shape)


@given(SIZES, st.booleans(), st.sampled_from(["exact", "twn"]))
def test_halves_add_up_to_the_weight_and_their_forms_to_its_form(
    given: tuple[int, int, int], shared: bool, form: str
) -> None:
    """To 1e-12, whatever the scale is; where signs do not come out the form itself is what is split."""
    weight = drawn(*given).double()
    rounded = ternary(weight.float(), form, shared=shared).quick(weight.float()).double()  # type: ignore[arg-type]
    first, second = split(weight, rounded, shared=shared)
    rows = torch.arange(1) if shared else torch.arange(len(weight))
    for row in rows:
        here = slice(None) if shared else slice(int(row), int(row) + 1)
        whole, target = first[here] + second[here], rounded[here]
        assert min(float((whole - weight[here]).abs().max()), float((whole - target).abs().max())) < 1e-12
    assert float((formed(first, shared) + formed(second, shared) - rounded).abs().max()) < 1e-12


@given(st.integers(0, 10_000))
def test_an_ordinary_weight_is_split_as_it_was_trained(seed: int) -> None:
    """Else the law above could hold because the form is always what is split."""
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(seed)).double()
    rounded = ternary(weight.float(), "exact", shared=False).quick(weight.float()).double()
    first, second = split(weight, rounded, shared=False)
    torch.testing.assert_close(first + second, weight, rtol=0, atol=1e-12)
    assert ((first - weight / 2).abs().max() > 0.01).all()


@given(SIZES, st.booleans())
def test_two_values_err_least_at_the_mean_size(given: tuple[int, int, int], shared: bool) -> None:
    """No other scale is better, and every entry is one of the two."""
    weight = drawn(*given)
    grid = binary(weight, shared=shared)
    rounded = grid.quick(weight)
    assert torch.equal(rounded.abs(), grid.scales.expand_as(rounded))
    assert torch.equal(grid.quick(rounded), rounded)
    assert torch.equal(grid.values(grid.codes(rounded)), rounded)
    error = (weight - rounded).square().sum()
    for factor in (0.9, 1.1):
        assert error <= (weight - rounded * factor).square().sum() + 1e-3


@pytest.mark.parametrize("steps", [DIRECT, SPLIT], ids=["direct", "split"])
def test_files_hold_two_values_a_row_and_are_as_small_as_planned(
    shared: Shared, teacher: Path, tmp_path: Path, steps: list[dict[str, object]]
) -> None:
    """Of the trained weights; both forms answer as the student."""
    prove(steps, shared, teacher, tmp_path)
    build = compiled(shared, *steps)
    stored = collect(build.model, build.masks, build.values)
    bits = [name for name, one in stored.coded.items() if len(one.levels) == 2]
    assert len(bits) == len([*shared.student().compressible()]) * (2 if steps is SPLIT else 1)
    for name in bits:
        for row in decode(stored.coded[name]):
            (size,) = np.unique(np.abs(row))
            assert set(np.unique(row)) <= {-size, size}
            assert size > 0


def test_a_split_student_is_what_the_training_before_left(shared: Shared) -> None:
    """Its second training begins where the first ended."""
    before = compiled(shared, *SPLIT[:2])
    recipe = Recipe.model_validate({"steps": SPLIT})
    after = before
    ids = torch.arange(5, 11)[None]
    with torch.no_grad():
        ours = before.model.eval()(input_ids=ids).logits
        latent = dict(before.latent)
        list(recipe.steps[2].compile(after))
        for name, weight in latent.items():
            module = after.model.get_submodule(name.removesuffix(".weight"))
            as_trained = ((module.first + module.second - weight).abs() < 1e-5).all(dim=1)
            assert as_trained.float().mean() > 0.8  # the rest had scales below their mean: their form was split
        kinds = {type(module) for module in after.model.modules()}
        assert kinds >= {SumLinear, SumEmbedding}
        for name, grid in after.values.items():
            if isinstance(grid, Binary):
                parameter = after.model.get_parameter(name)
                parameter.copy_(grid.quick(parameter))
        theirs = after.model.eval()(input_ids=ids).logits
    torch.testing.assert_close(theirs, ours, rtol=0.05, atol=0.02)  # scales are fp16 numbers of a table


def test_splitting_beats_two_values_at_once(shared: Shared) -> None:
    """The paper's claim, with equal training; the split student has twice the entries, as there."""
    longer = {**TRAINING, "epochs": 2}
    direct = compiled(shared, {"method": "binary"}, {**TRAINING, "epochs": 4})
    halves = compiled(shared, {"method": "ternary"}, longer, {"method": "binary_split"}, longer)
    assert logits_error(halves, shared) < logits_error(direct, shared)


def base() -> ModelShape:
    """The shape of bert-base-uncased with two labels: 109,483,778 parameters."""
    blocks = [(768, 768)] * 4 + [(3072, 768), (768, 3072)]
    tables = {"embedding": (30_522, 768), "fixed": (512, 768)}
    matrices = [Matrix(name=kind, rows=rows, cols=cols, kind=kind) for kind, (rows, cols) in tables.items()]  # type: ignore[arg-type]
    matrices += [
        Matrix(name=f"l{layer}.{place}", rows=rows, cols=cols, kind="linear")
        for layer in range(12)
        for place, (rows, cols) in enumerate(blocks)
    ]
    return ModelShape(
        family="bert", task="classification", parameters=109_483_778, layers=12, hidden=768, labels=("a", "b"),
        matrices=tuple(one for one in matrices if one.kind != "fixed"), rest=(matrices[1],),
    )  # fmt: skip


@pytest.mark.parametrize(("steps", "fewer"), [([{"method": "ternary"}, TRAINING], 14), (DIRECT, 22)])
def test_bytes_on_the_shape_of_bert_base_are_as_the_papers_say(steps: list[dict[str, object]], fewer: float) -> None:
    """Of the file, embedding included."""
    size = size_of(Recipe.model_validate({"steps": steps}), base())
    assert 4 * base().parameters / size.file_bytes >= fewer


@pytest.mark.parametrize(
    ("steps", "says"),
    [
        ([{"method": "binary_split"}, TRAINING], "needs a step ternary and a training before it"),
        ([{"method": "ternary"}, {"method": "binary_split"}, TRAINING], "put a training between the two"),
        ([{"method": "ternary", "inputs": "int8"}, TRAINING, {"method": "binary_split"}, TRAINING], "leave `inputs`"),
        ([{"method": "weighted_svd", "keep": 0.5}, *SPLIT], "leave out the factors"),
        (SPLIT[:3], "add one of"),
        ([*SPLIT[:2], {"method": "binary_split", "each": {"a": "1"}}, TRAINING], 'goes with matrices "auto"'),
        ([{"method": "binary"}, TRAINING, {"method": "gptq"}], "one step of quantize a recipe"),
    ],
)
def test_what_cannot_be_split_is_refused_before_a_job(steps: list[dict[str, object]], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Recipe.model_validate({"steps": steps})


def test_a_planned_size_is_the_sum_of_both_halves(teacher: Path) -> None:
    shape = shape_of(teacher)[0]
    sizes = [size_of(Recipe.model_validate({"steps": steps}), shape) for steps in (DIRECT, SPLIT)]
    entries = [one.parameters for one in sizes]
    linears = sum(matrix.rows * matrix.cols for matrix in shape.matrices)
    assert entries[1] - entries[0] == linears


ADAPTIVE: list[dict[str, object]] = [
    {"method": "ternary"}, TRAINING, {"method": "binary_split", "matrices": "auto", "calibration_rows": 64}, TRAINING,
]  # fmt: skip


def test_within_the_bytes_of_a_target_the_matrices_that_gain_most_are_split(
    shared: Shared, teacher: Path, tmp_path: Path
) -> None:
    """Adaptive splitting: more than no split, less than all; the rest stays of three values, as it was trained."""
    shape = shape_of(teacher)[0]
    recipe = Recipe.model_validate({"steps": ADAPTIVE})
    none, every = (
        size_of(recipe.with_assigned(dict.fromkeys([m.name for m in shape.matrices], digit)), shape).file_bytes
        for digit in "01"
    )
    limit = (none + every) // 2
    ((found, *_),) = [assign(recipe, Target(max_bytes=limit), shape, shared)]
    assert {*found.each.values()} == {"0", "1"}
    steps = [*ADAPTIVE[:2], {**ADAPTIVE[2], "each": found.each}, TRAINING]
    resolved = Recipe.model_validate({"steps": steps})
    assert none < size_of(resolved, shape).file_bytes <= limit
    prove(steps, shared, teacher, tmp_path)
    build = compiled(shared, *steps)
    split_up = {name.rpartition(".")[0] for name in build.values if name.endswith(".first")}
    assert split_up == {name for name, digit in found.each.items() if digit == "1"}
    bytes_of = {m.name: m.rows * m.cols for m in shape.matrices}
    worth = {name: each[0].loss - each[1].loss for name, each in gains(recipe, shape, shared).items()}
    gained = {name: worth[f"{name}/0"] / bytes_of[name] for name in found.each}
    best = max(gained, key=lambda name: gained[name])
    assert found.each[best] == "1"


def gains(recipe: Recipe, shape: ModelShape, shared: Shared) -> dict[str, list[Option[int]]]:
    """What each choice costs and loses."""
    return _Search(recipe, shape, shared, 10**9)._options()


def test_what_stays_of_three_values_goes_on_with_what_it_was_trained_to(shared: Shared) -> None:
    """Not with its rounded form: a training would begin anew."""
    build = compiled(shared, *ADAPTIVE[:2])
    latent = {name: weight.clone() for name, weight in build.latent.items()}
    each = dict.fromkeys([*build.compressible()], "0")
    step = Recipe.model_validate({"steps": [*ADAPTIVE[:2], {**ADAPTIVE[2], "each": each}, TRAINING]}).steps[2]
    list(step.compile(build))
    linears = [name for name in latent if "embeddings" not in name]
    assert linears
    for name in linears:
        torch.testing.assert_close(build.model.get_parameter(name).detach(), latent[name])
