"""Heads and neurons go: the rest is the best of least squares, shapes are as planned, both forms are the student."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.data import Data
from core.errors import RecipeInvalid
from core.family import FAMILIES
from core.inspect import shape_of
from core.phase import Build
from core.pipeline import compress
from core.plan import ModelShape, fill, size_of
from core.recipe import Ladder, Recipe, Target
from core.removal import Reader, Score, columns_of, removal
from core.shared import Shared
from core.structure.structured import Structured
from tests import tiny
from tests.methods.test_weighted_svd import logits_error

NEURONS, HEADS = "bert.encoder.layer.1.output.dense", "bert.encoder.layer.0.attention.output.dense"
READERS = st.tuples(st.integers(0, 99), st.integers(1, 6), st.integers(2, 7), st.integers(1, 4))


def positive(generator: torch.Generator, size: int) -> torch.Tensor:
    root = torch.randn(size, size, generator=generator, dtype=torch.float64)
    return root @ root.T + 0.1 * torch.eye(size, dtype=torch.float64)


def made(case: tuple[int, int, int, int]) -> Reader:
    seed, out, units, unit = case
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, units * unit, generator=generator, dtype=torch.float64)
    mean = torch.randn(units * unit, generator=generator, dtype=torch.float64)
    covariance, felt = positive(generator, units * unit), positive(generator, out)
    return Reader(weight, torch.zeros(out).double(), mean, covariance, felt, unit)


def kept(reader: Reader, order: tuple[int, ...], gone: int) -> torch.Tensor:
    return columns_of(torch.tensor(sorted(order[gone:]), dtype=torch.long), reader.unit)


@given(READERS, st.sampled_from(["obs", "fisher"]))
def test_every_step_costs_what_the_refitted_reader_errs(case: tuple[int, int, int, int], score: Score) -> None:
    reader = made(case)
    way = removal(reader, score)
    assert sorted(way.order) == list(range(reader.units))
    assert list(way.errors) == sorted(way.errors)
    for gone in range(reader.units + 1):
        columns = kept(reader, way.order, gone)
        error = reader.error(columns, reader.refitted(columns)[0])
        assert way.errors[gone] == pytest.approx(error, rel=1e-4, abs=1e-4 * way.errors[-1])


@given(READERS, st.integers(0, 99))
def test_no_other_weight_on_the_same_columns_errs_less(case: tuple[int, int, int, int], seed: int) -> None:
    reader = made(case)
    columns = kept(reader, removal(reader, "obs").order, reader.units // 2)
    weight, _ = reader.refitted(columns)
    other = weight + 0.1 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
    assert reader.error(columns, weight) <= reader.error(columns, other) * (1 + 1e-6)


@given(READERS)
def test_the_first_unit_to_go_is_the_one_that_costs_least(case: tuple[int, int, int, int]) -> None:
    reader = made(case)
    every = range(reader.units)
    alone = []
    for unit in every:
        columns = columns_of(torch.tensor([other for other in every if other != unit], dtype=torch.long), reader.unit)
        alone.append(reader.error(columns, reader.refitted(columns)[0]))
    first = removal(reader, "obs").order[0]
    assert alone[first] == pytest.approx(min(alone), rel=1e-4, abs=1e-6)


def test_the_mean_of_what_went_is_in_the_bias(build: Build) -> None:
    step = Structured(each={NEURONS: 0}, calibration_rows=64)
    reader, _ = step.way(build, NEURONS)
    weight, bias = reader.refitted(torch.zeros(0, dtype=torch.long))
    assert weight.shape == (32, 0)
    assert torch.allclose(bias.double(), reader.bias + reader.weight @ reader.mean, atol=1e-5)
    assert float(reader.mean.abs().max()) > 0


@pytest.mark.parametrize(("keep", "least"), [(1.0, 0.0), (0.5, 1e-9)])
def test_more_units_never_hurt(shared: Shared, keep: float, least: float) -> None:
    def error(share: float) -> float:
        build = shared.student()
        list(Structured(keep=share, align=8, calibration_rows=128).compile(build))
        return logits_error(build, shared)

    assert error(keep) <= error(keep / 2)
    assert error(keep) >= least


def test_a_refit_beats_leaving_the_rest_as_it_is(shared: Shared) -> None:
    build, plain = shared.student(), shared.student()
    step = Structured(each={NEURONS: 16, HEADS: 2}, calibration_rows=128)
    for name, count in (step.each or {}).items():
        reader, way = step.way(plain, name)
        out = columns_of(torch.tensor(way.order[: reader.units - count]), reader.unit)
        with torch.no_grad():
            plain.model.get_parameter(f"{name}.weight")[:, out] = 0
    list(step.compile(build))
    assert logits_error(build, shared) < logits_error(plain, shared)


@given(st.fixed_dictionaries({}, optional={
    f"bert.encoder.layer.{layer}.{part}output.dense": st.integers(0, 4 if part else 64)
    for layer in range(2) for part in ("", "attention.")
}))  # fmt: skip
def test_the_planned_size_is_that_of_the_model(tiny_shape: ModelShape, shared: Shared, each: dict[str, int]) -> None:
    build, step = shared.student(), Structured(each=each, calibration_rows=64)
    list(step.compile(build))
    size = size_of(Recipe(steps=(step,)), tiny_shape)
    assert size.parameters == sum(parameter.numel() for parameter in build.model.parameters())
    with torch.no_grad():
        build.model(input_ids=torch.ones(2, 5, dtype=torch.long))


@pytest.fixture(scope="session")
def tiny_shape(teacher: Path) -> ModelShape:
    return shape_of(teacher)[0]


def test_keep_auto_is_filled_from_a_size(tiny_shape: ModelShape) -> None:
    auto = Recipe(steps=(Structured(align=4),))
    filled = fill(auto, Target(parameter_ratio=1.3), tiny_shape)
    assert tiny_shape.parameters / size_of(filled, tiny_shape).nonzero >= 1.3


STEPS = [
    {"method": "structured", "each": {NEURONS: 24, HEADS: 3, "bert.encoder.layer.1.attention.output.dense": 0}},
    {"method": "weighted_svd", "keep": 0.7, "calibration_rows": 64},
    {"method": "obs", "keep": 0.8, "when": "once", "calibration_rows": 64},
    {"method": "gptq", "bits": 4, "group": 16, "calibration_rows": 64},
    {"method": "distill", "epochs": 1, "batch_size": 16},
]


@pytest.mark.parametrize(
    "steps",
    [pytest.param(STEPS, marks=pytest.mark.long), [STEPS[0], {"method": "int8", "group": 16}]],
    ids=["gptq", "int8"],
)
def test_other_methods_go_on_with_what_is_left(steps: list[dict[str, object]], teacher: Path, tmp_path: Path) -> None:
    train, held = (tiny.write_csv(tmp_path / f"{n}.csv", tiny.sentences(n, seed=n)) for n in (100, 40))
    recipe = Recipe.model_validate({"steps": steps})
    result = compress(teacher, recipe, Data(train=train, eval=held), out=tmp_path / "out", threads=1)
    point = result.report.point
    assert point.sizes.parameters == size_of(recipe, shape_of(teacher)[0]).parameters
    assert {part.file for part in point.parity} == {"model.onnx", "pytorch"}
    assert all(np.isfinite(part.max_difference) for part in point.parity)


@pytest.mark.long
def test_milliseconds_out_of_reach_end_with_the_fastest_and_the_shortfall(teacher: Path, tmp_path: Path) -> None:
    train, held = (tiny.write_csv(tmp_path / f"{n}.csv", tiny.sentences(n, seed=n)) for n in (100, 40))
    steps = [{"method": "structured", "calibration_rows": 64}, {"method": "int8", "group": 16, "products": "auto"}]
    result = compress(
        teacher, Recipe.model_validate({"steps": [*steps, STEPS[-1]]}), Data(train=train, eval=held),
        ladder=Ladder(latency_ratio=(1.01, 900.0)), out=tmp_path / "out", threads=1,
    )  # fmt: skip
    slow, fast = (one.report for one in result.points)
    assert not fast.point.target_met
    assert fast.point.shortfall == {"latency_ratio": fast.point.latency_ratio}
    assert set(fast.recipe["steps"][0]["each"].values()) == {0}  # type: ignore[index]
    assert fast.point.sizes.parameters < slow.point.sizes.parameters
    assert (result.points[1].folder / "model.onnx").exists()


def test_attention_of_fewer_heads_is_not_to_be_followed() -> None:
    with pytest.raises(ValueError, match="attention"):
        Recipe.model_validate({"steps": [{"method": "structured", "keep": 0.5}, {"method": "distill", "attention": 1}]})


def test_a_name_that_is_no_reader_is_refused(tiny_shape: ModelShape) -> None:
    recipe = Recipe(steps=(Structured(each={"bert.encoder.layer.0.attention.self.query": 1}),))
    with pytest.raises(RecipeInvalid, match=r"attention.self.query.*output.dense"):
        fill(recipe, Target(), tiny_shape)


def test_blocks_are_told_apart_by_their_whole_name() -> None:
    family = FAMILIES["bert"]
    assert family.block(HEADS).what == "heads"  # type: ignore[union-attr]
    assert family.block(NEURONS).what == "neurons"  # type: ignore[union-attr]
    assert family.block("bert.encoder.layer.x.output.dense") is None
    assert family.block("bert.encoder.layer.1.output.dense.left") is None


def test_it_judges_the_teacher_and_so_comes_before_any_training() -> None:
    steps = [{"method": "distill"}, {"method": "structured", "keep": 0.5}, {"method": "distill"}]
    with pytest.raises(ValueError, match="cannot come after a training"):
        Recipe.model_validate({"steps": steps})
