"""The profile: right where it was measured, falling with every bit and every rank, and worth what it costs."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from core.export.weights import collect
from core.factorize.svd import rank_for
from core.factorize.weighted_svd import WeightedSvd
from core.inspect import shape_of
from core.method import LEVELS
from core.plan import ModelShape, size_of
from core.probe import Loss, Prober
from core.profile import Curve, Profile
from core.quantize.gptq import Gptq
from core.recipe import Recipe, Target
from core.resolve import Profiler
from core.sensitivity import CUT_AT, curves
from core.shared import Shared
from tests.methods.test_gptq import compiled

FACTORS = {"method": "weighted_svd", "calibration_rows": 64}
BITS = {"method": "gptq", "bits": "auto", "calibration_rows": 64, "group": 16}


@pytest.fixture(scope="module")
def measured(shared: Shared) -> Profile:
    return Profile(curves=profiled(shared, WeightedSvd.model_validate(FACTORS)))


def profiled(shared: Shared, factors: WeightedSvd | None) -> tuple[Curve, ...]:
    model = shared.student().model.eval().requires_grad_(False)
    return curves(shared.student(), factors, Gptq.model_validate(BITS), Prober(model, Loss(shared)))


@pytest.fixture(scope="module")
def shape(teacher: Path) -> ModelShape:
    return shape_of(teacher)[0]


def test_every_matrix_has_a_curve_that_never_rises(measured: Profile, shape: ModelShape) -> None:
    matrices = [m.name for m in shape.matrices] + [m.name for m in shape.rest if m.rows > 1]
    assert sorted(curve.name for curve in measured.curves) == sorted(matrices)
    for curve in measured.curves:
        curves = [curve.dense, curve.cut, curve.factors]
        assert sorted(curve.dense) == sorted(LEVELS)
        for losses in curves:
            in_order = [losses[key] for key in sorted(losses)]
            assert in_order == sorted(in_order, reverse=True)
            assert all(loss >= 0 for loss in in_order)


def test_a_curve_goes_through_the_loss_that_was_measured(measured: Profile, shared: Shared) -> None:
    build, loss = shared.student(), Loss(shared)
    build.model.eval()
    assert loss.of(build.model) == pytest.approx(0, abs=1e-9)
    name = build.family.embedding
    (curve,) = [curve for curve in measured.curves if curve.name == name]
    rank = rank_for(curve.rows, curve.cols, CUT_AT)
    left, right = WeightedSvd.model_validate(FACTORS).spectra(build)[name].factors(rank)
    with torch.no_grad():
        build.model.get_parameter(f"{name}.weight").copy_(left @ right)
    near = min(curve.cut, key=lambda one: abs(one - rank))
    assert curve.cut[near] == pytest.approx(loss.of(build.model), rel=0.35)  # of the rank beside it


@pytest.mark.parametrize("steps", [(BITS,), (FACTORS, BITS)], ids=["bits", "ranks and bits"])
def test_the_choice_is_stored_as_planned_and_beats_one_number_of_bits_for_all(
    shared: Shared, shape: ModelShape, steps: tuple[dict[str, object], ...]
) -> None:
    """Without training, on the loss that it was made for."""
    uniform = size_of(uniform_recipe := Recipe.model_validate({"steps": [{**BITS, "bits": 2}]}), shape)
    asked, recipe = Recipe.model_validate({"steps": steps}), uniform_recipe
    profiler = Profiler(shared, shape)
    # The graph around the codes weighs as much as the codes of so small a model, so those are compared.
    for limit in range(uniform.file_bytes, 2 * uniform.file_bytes, 128):
        target = Target(max_bytes=limit)
        profiler.measure(asked, target)
        found = profiler.resolve(asked, target).recipe
        assert size_of(found, shape).file_bytes <= limit
        if size_of(found, shape).size_bytes > uniform.size_bytes:
            break
        recipe = found
    loss = Loss(shared)
    ours, theirs = (compiled(shared, *one.model_dump()["steps"]) for one in (recipe, uniform_recipe))
    assert collect(ours.model, ours.masks, ours.values).size_bytes == size_of(recipe, shape).size_bytes
    assert loss.of(ours.model.eval()) < 0.8 * loss.of(theirs.model.eval())


def test_a_matrix_of_zeros_costs_nothing_to_store(shared: Shared) -> None:
    teacher = copy.deepcopy(shared.teacher)
    name = "bert.encoder.layer.0.attention.output.dense"
    with torch.no_grad():
        teacher.get_parameter(f"{name}.weight").zero_()
    found = profiled(replace(shared, teacher=teacher, _made={}), WeightedSvd.model_validate(FACTORS))
    (curve,) = [curve for curve in found if curve.name == name]
    assert set(curve.dense.values()) == {0.0}
    assert not curve.cut


def test_without_factors_nothing_is_cut(shared: Shared, measured: Profile) -> None:
    found = Profile(curves=profiled(shared, None))
    assert not any(curve.cut for curve in found.curves)
    assert [curve.dense for curve in found.curves] == [curve.dense for curve in measured.curves]
