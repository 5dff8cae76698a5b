"""Low bits: error feedback never loses to rounding, training keeps every weight on its grid, sizes are as promised."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core import codes
from core.export import onnx
from core.export.weights import collect
from core.grid import Grid, Half
from core.inspect import shape_of
from core.phase import Build
from core.plan import size_of
from core.progress import Meter, Silent
from core.quantize.gptq import LEVELS, Gptq
from core.recipe import Recipe
from core.rounding import on_grid
from core.shared import Shared
from core.surgeon import Judged, inverse_root, sweep
from core.train import train
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
        logits_error(compiled(shared, {"method": "gptq", "bits": bits, "group": 16, "when": "once"}), shared)
        for bits in (8, 4, 2, 1)
    ]
    assert errors == sorted(errors)
    assert errors[0] < 1e-3 * errors[-1]


RECIPES: dict[str, tuple[dict[str, object], ...]] = {
    "at once": ({"method": "gptq", "bits": 4, "when": "once"},),
    "trained": ({"method": "gptq", "bits": 2.6, "embedding_bits": 1.6, "group": 8}, TRAINING),
    "factors, pruned, trained": (
        {"method": "weighted_svd", "keep": 0.5, "calibration_rows": 64},
        {"method": "obs", "keep": 0.5, "when": "once", "calibration_rows": 64},
        {"method": "gptq", "bits": 3, "calibration_rows": 64, "group": 8},
        TRAINING,
    ),
    "low rank plus sparse": (
        {"method": "low_rank_sparse", "keep": 0.5, "calibration_rows": 64, "rounds": 2},
        {"method": "gptq", "bits": 4, "calibration_rows": 64, "when": "once"},
    ),
    "rest as it is": ({"method": "gptq", "rest_bits": 32, "when": "once"},),
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
    at_once = logits_error(compiled(shared, {**step, "when": "once"}), shared)
    trained = logits_error(compiled(shared, step, {"method": "distill", "epochs": 3, "batch_size": 16}), shared)
    assert trained < 0.7 * at_once


def test_the_model_is_never_run_off_its_grid(shared: Shared, monkeypatch: pytest.MonkeyPatch) -> None:
    build = shared.student()
    steps = Recipe.model_validate({"steps": [{"method": "gptq", "bits": 3}, TRAINING]}).steps
    seen = []

    def look(*_: object) -> None:
        seen.append(all(torch.equal(v.round(p := build.model.get_parameter(n)), p) for n, v in build.values.items()))

    list(steps[0].compile(build))
    build.model.register_forward_pre_hook(look)
    for phase in steps[1].compile(build):
        train(phase, Meter(Silent()), device=CPU)
    assert len(seen) > 2
    assert all(seen)
    name = next(iter(build.values))
    assert not torch.equal(build.model.get_parameter(name), load_like(shared, name))


def load_like(shared: Shared, name: str) -> torch.Tensor:
    return shared.teacher.get_parameter(name)


@pytest.mark.parametrize("bits", [0, 5, 2.5, 32])
def test_bits_that_are_not_stored_are_refused(bits: float) -> None:
    with pytest.raises(ValidationError, match="legal are"):
        Gptq(bits=bits)


def test_bits_are_what_codes_take() -> None:
    assert {bits: codes.bits(levels) for bits, levels in LEVELS.items()} == {b: pytest.approx(b) for b in LEVELS}
    assert sorted(LEVELS) == [1, 1.6, 2, 2.6, 3, 3.6, 4, 8]
