"""Low bits: error feedback never loses to rounding, training keeps every weight on its grid, sizes are as promised."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from transformers import BertForSequenceClassification

from core import codes
from core.distill.distill import Distill
from core.errors import TrainingDiverged
from core.export import onnx
from core.export.weights import collect
from core.grid import BINS, Grid, Half, fit
from core.inspect import shape_of
from core.method import LEVELS
from core.model import load
from core.phase import Build
from core.plan import size_of
from core.progress import Meter, Silent
from core.quantize.gptq import Gptq
from core.recipe import Recipe
from core.rounding import on_grid
from core.shared import Shared
from core.surgeon import Judged, inverse_root, sweep
from core.train import train
from tests import tiny
from tests.methods.conftest import text
from tests.methods.test_surgeon import CASES, case
from tests.methods.test_weighted_svd import gaussian, logits_error

CPU = torch.device("cpu")
TRAINING = {"method": "distill", "epochs": 0.2, "batch_size": 16}


def compiled(shared: Shared, *steps: dict[str, object]) -> Build:
    """A student of these steps, trained where they train."""
    build = shared.student()
    for step in Recipe.model_validate({"steps": steps}).steps:
        for phase in step.compile(build):
            train(phase, Meter(Silent()), device=CPU)
    return build


@given(CASES, st.sampled_from([2, 3, 4, 8, 16]))
def test_error_feedback_is_never_above_rounding_to_nearest(given: tuple[int, int, int, float], levels: int) -> None:
    judged, mask = case(*given)
    judged.weight[~mask] = 0
    grid, rounded = on_grid(judged, mask, levels, 8)
    nearest = grid.round(judged.weight.float()).double() * mask
    assert judged.error(rounded) <= judged.error(nearest)
    assert not rounded[~mask].any()
    assert torch.equal(grid.round(rounded.float()).double() * mask, rounded)


def test_error_feedback_helps_where_inputs_depend_on_each_other() -> None:
    """Else the law above could hold because the sweep never wins."""
    directions = gaussian(80, 8, seed=1)
    hessian = directions @ directions.T + 0.1 * torch.eye(80, dtype=torch.float64)
    judged = Judged(gaussian(6, 80, seed=0), hessian, torch.ones(6, dtype=torch.float64))
    grid, rounded = on_grid(judged, torch.ones(6, 80, dtype=torch.bool), 8, 8)
    assert judged.error(rounded) < 0.5 * judged.error(grid.round(judged.weight.float()).double())


@given(CASES)
def test_a_grid_so_fine_that_nothing_is_rounded_is_pruning_alone(given: tuple[int, int, int, float]) -> None:
    judged, mask = case(*given)
    upper = inverse_root(judged.hessian)

    class Fine(Grid):
        def column(self, weight: torch.Tensor, number: int) -> torch.Tensor:
            return weight

    fine = Fine(torch.zeros(1), torch.ones(1, 1), 8)
    assert torch.equal(sweep(judged.weight, upper, mask, fine), sweep(judged.weight, upper, mask))


def test_more_bits_never_follow_the_teacher_worse(shared: Shared) -> None:
    errors = [
        logits_error(compiled(shared, {"method": "gptq", "bits": bits, "group": 16}), shared) for bits in (8, 4, 2, 1)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-3 * errors[-1]


RECIPES: dict[str, tuple[dict[str, object], ...]] = {
    "at once": ({"method": "gptq", "bits": 4},),
    "trained": ({"method": "gptq", "bits": 2.6, "embedding_bits": 1.6, "group": 8}, TRAINING),
    "factors, pruned, trained": (
        {"method": "weighted_svd", "keep": 0.5, "calibration_rows": 64},
        {"method": "obs", "keep": 0.5, "when": "once", "calibration_rows": 64},
        {"method": "gptq", "bits": 3, "calibration_rows": 64, "group": 8},
        TRAINING,
    ),
    "low rank plus sparse": (
        {"method": "low_rank_sparse", "keep": 0.5, "calibration_rows": 64, "rounds": 2},
        {"method": "gptq", "bits": 4, "calibration_rows": 64},
    ),
    "rest as it is": ({"method": "gptq", "rest_bits": 32},),
}


@pytest.mark.parametrize("steps", RECIPES.values(), ids=RECIPES)
def test_every_weight_ends_on_its_grid_and_takes_the_planned_bytes(
    shared: Shared, teacher: Path, tmp_path: Path, steps: tuple[dict[str, object], ...]
) -> None:
    build = compiled(shared, *steps)
    stored = collect(build.model, build.masks, build.values)  # refuses what is not on its grid
    planned = size_of(Recipe.model_validate({"steps": steps}), shape_of(teacher)[0])
    # One threshold for the whole model leaves a byte more in some matrices and a byte less in others.
    slack = 2 * len(stored.coded) if build.masks else 0
    assert stored.size_bytes == pytest.approx(planned.size_bytes, abs=slack)
    onnx.write(build.model.eval(), build.masks, tmp_path / "model.onnx", values=build.values)
    assert (tmp_path / "model.onnx").stat().st_size <= planned.file_bytes
    assert bool(build.values) == any(step["method"] == "gptq" for step in steps)
    trained = {name for name, value in build.values.items() if isinstance(value, Half)}
    assert bool(trained) == (steps[0].get("rest_bits") != 32)


def test_training_through_the_rounding_follows_the_teacher_better(shared: Shared) -> None:
    step = {"method": "gptq", "bits": 2, "group": 16}
    at_once = logits_error(compiled(shared, step), shared)
    trained = logits_error(compiled(shared, step, {"method": "distill", "epochs": 3, "batch_size": 16}), shared)
    assert trained < 0.7 * at_once


@pytest.mark.parametrize("patience", [0, 100])
def test_the_model_never_reads_a_weight_off_its_grid(shared: Shared, patience: int) -> None:
    """Of a table that is looked up, the rows that were asked for; in training, in looks at select, and at the end."""
    build = shared.student()
    training = {**TRAINING, "patience": patience, "look_every": 0.5, "learning_rate": 0.01}
    steps = Recipe.model_validate({"steps": [{"method": "gptq", "bits": 3}, training, training]}).steps
    seen: list[bool] = []

    def on_grid(name: str, rows: torch.Tensor | None) -> bool:
        value, parameter = build.values[name], build.model.get_parameter(name)
        if rows is not None and isinstance(value, Grid):
            value, parameter = value.rows(rows), parameter[rows]
        return torch.equal(value.quick(parameter), parameter)

    def look(path: str, module: torch.nn.Module, asked: tuple[torch.Tensor, ...], _: object) -> None:
        rows = asked[0].unique() if isinstance(module, torch.nn.Embedding) else None
        seen.extend(on_grid(f"{path}.{name}", rows) for name, _ in module.named_parameters(recurse=False))

    list(steps[0].compile(build))
    for path, module in build.model.named_modules():
        if any(True for _ in module.parameters(recurse=False)):
            module.register_forward_hook(partial(look, path))
    for step in steps[1:]:
        before = {name: build.model.get_parameter(name).clone() for name in build.values}
        for phase in step.compile(build):
            train(phase, Meter(Silent()), device=CPU)
        assert all(on_grid(name, None) for name in build.values)
        moved = [name for name, old in before.items() if not torch.equal(old, build.model.get_parameter(name))]
        assert f"{build.family.embedding}.weight" in moved
        assert len(moved) > len(before) / 2
    assert len(seen) > 100
    assert all(seen)


def test_rounding_quickly_errs_by_no_more_than_a_bin() -> None:
    weight = gaussian(200, 100, seed=0).float()
    for levels in (2, 3, 12, 256):
        grid = fit(weight, torch.ones(1), None, levels, 16)
        quick, nearest = (each.sub(weight).abs() for each in (grid.quick(weight), grid.round(weight)))
        bin_width = float(grid.levels[-1] - grid.levels[0]) / BINS * grid.scale_of(100)
        assert bool((quick - nearest <= bin_width).all())
        assert torch.equal(grid.rows(torch.tensor([7, 3])).quick(weight[[7, 3]]), grid.quick(weight)[[7, 3]])
        assert torch.equal(grid.values(grid.codes(grid.quick(weight))), grid.quick(weight))


def test_pruning_during_a_training_does_not_reach_into_rounding() -> None:
    steps = [{"method": "obs", "keep": 0.5}, {"method": "gptq"}, {"method": "distill"}]
    with pytest.raises(ValidationError, match="put a training between the two"):
        Recipe.model_validate({"steps": steps})
    Recipe.model_validate({"steps": [steps[0], steps[2], *steps[1:]]})


@pytest.mark.parametrize("bits", [0, 7, 2.5, 32])
def test_bits_that_are_not_stored_are_refused(bits: float) -> None:
    with pytest.raises(ValidationError, match="legal are"):
        Gptq(bits=bits)


def test_bits_are_what_codes_take() -> None:
    assert {bits: codes.bits(levels) for bits, levels in LEVELS.items()} == {b: pytest.approx(b) for b in LEVELS}
    assert sorted(LEVELS) == [1, 1.6, 2, 2.6, 3, 3.6, 4, 5, 6, 8]


FEW = {"group": 16, "calibration_rows": 32}


def test_training_that_diverges_on_grids_has_its_own_name(shared: Shared) -> None:
    """Not that of whatever a grid does with NaN."""

    class Lost:
        def step(self, _batch: object, backward: Callable[..., None]) -> dict[str, float]:
            backward(build.model.get_parameter("classifier.weight").sum() * float("nan"))
            return {"loss": float("nan")}

    build = compiled(shared, {"method": "gptq", "bits": 4, **FEW})
    (phase,) = Distill().compile(build)
    with pytest.raises(TrainingDiverged, match="lower the learning rate"):
        train(replace(phase, objective=Lost()), Meter(Silent()), device=CPU)
    assert all(torch.isfinite(parameter).all() for parameter in build.model.parameters())


def test_one_row_is_a_vector_in_the_plan_and_in_the_file(tmp_path: Path) -> None:
    config = tiny.config()
    config.type_vocab_size = 1
    torch.manual_seed(0)
    folder = tiny.write_model(tmp_path / "model", steps=0)
    model = BertForSequenceClassification(config).eval()
    model.save_pretrained(folder)
    loaded, split = load(folder), text(folder, 60, seed=1)
    loaded.model.requires_grad_(False)
    for steps in (
        [{"method": "gptq", "bits": 4, "group": 16, "calibration_rows": 32}],
        [{"method": "int8", "group": 16, "calibration_rows": 32}],
    ):
        recipe = Recipe.model_validate({"steps": steps})
        build = Shared(loaded.model, loaded.family, split, 0, CPU, tmp_path).student()
        list(recipe.steps[0].compile(build))
        planned = size_of(recipe, shape_of(folder)[0]).size_bytes
        assert collect(build.model, build.masks, build.values).size_bytes == planned


def test_groups_wider_than_the_matrix_are_as_wide_as_it() -> None:
    weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(0))
    wide, whole = (fit(weight, torch.ones(1), None, 4, group) for group in (65_536, 6))
    assert wide.group == 6
    assert torch.equal(wide.quick(weight), whole.quick(weight))


@pytest.mark.parametrize("bits", [True, False, "4 bits", 7, None])
def test_bits_that_are_no_number_of_bits_are_refused(bits: object) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate({"steps": [{"method": "gptq", "bits": bits}]})
