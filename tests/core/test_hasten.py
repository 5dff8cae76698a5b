"""Milliseconds spent on heads and neurons: within the target, little left over, never worse with more of them."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from core.errors import RecipeInvalid, TargetImpossible
from core.family import FAMILIES
from core.forecast import forecast
from core.hasten import SPARE, hasten, hasten_timed, widths_of
from core.method import LEVELS
from core.plan import ModelShape, check_ladder, fill, ratios, size_of
from core.profile import Curve, LatencyTable, Near, Products, Profile, Units
from core.recipe import PRESETS, Ladder, Recipe, Target
from core.spend import spend
from tests.core.test_plan import minilm as nameless

STEPS = [{"method": "structured"}, {"method": "int8", "products": "auto", "embedding_bits": "auto"}]
JOINT = Recipe.model_validate({"steps": [{"method": "structured"}, {"method": "gptq", "bits": "auto"}]})
BITS = Recipe.model_validate({"steps": [{"method": "gptq", "bits": "auto"}]})
AUTO = Recipe.model_validate({"steps": STEPS})
HEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=7)
TEACHER_MS = 12.0


def minilm() -> ModelShape:
    """Its matrices as BERT calls them, and what heads and neurons span."""
    family, matrices = FAMILIES["bert"], []
    for place, matrix in enumerate(nameless().matrices):
        layer, which = divmod(place - 1, len(family.linears))
        name = family.linears[which].replace("*", str(layer)) if place else family.embedding
        block = family.block(name)
        unit = 0 if block is None else {"heads": 32, "neurons": 1}[block.what]
        matrices.append(matrix.model_copy(update={"name": name, "unit": unit}))
    return nameless().model_copy(update={"matrices": tuple(matrices)})


def profile(shape: ModelShape, heights: list[float], *, int8_ms: float = 0.4, int8_loss: float = 0.01) -> Profile:
    """Losses rise eightfold from half to none; 12 layers' blocks take 1 ms each in fp32 when all units stay."""
    units = []
    for place, matrix in enumerate(matrix for matrix in shape.matrices if matrix.unit):
        every, height = matrix.cols // matrix.unit, heights[place % len(heights)]
        counts = range(every + 1) if matrix.unit > 1 else range(0, every + 1, 32)
        loss = {count: height * ((every - count) / every) ** 3 for count in counts}
        units.append(Units(reader=matrix.name, unit=matrix.unit, every=every, loss=loss))
    times: dict[Products, float] = {"fp32": 1.0, "int8": int8_ms}
    table = LatencyTable(
        batch=1,
        tokens=128,
        threads=1,
        machine="here",
        teacher_ms=TEACHER_MS,
        base={"fp32": 0.2, "int8": 0.2},
        heads={kind: {0: 0.0, 12: one} for kind, one in times.items()},
        neurons={kind: {0: 0.0, 768: one / 2, 1536: one} for kind, one in times.items()},
    )
    rounding = {bits: 4.0**-bits for bits in LEVELS}
    curves = (Curve(name=m.name, rows=m.rows, cols=m.cols, kind=m.kind, dense=rounding) for m in shape.matrices)
    return Profile(curves=tuple(curves), units=tuple(units), int8=int8_loss, latency=table)


@given(HEIGHTS, st.floats(2.5, 20))
def test_the_milliseconds_are_kept_and_those_left_buy_no_more(heights: list[float], ratio: float) -> None:
    shape = minilm()
    found = hasten(AUTO, Target(latency_ratio=ratio), shape, profile(shape, heights))
    limit = SPARE * TEACHER_MS / ratio
    assert found.ms <= limit
    assert '"auto"' not in found.recipe.model_dump_json()
    each = found.recipe.steps[0].model_dump()["each"]
    if any(count < 12 for name, count in each.items() if "attention" in name):
        assert limit - found.ms < 0.4 / 12 + 1e-9  # a head of one layer


@given(HEIGHTS, st.floats(2.5, 10), st.floats(1.05, 2))
def test_more_time_never_costs_more(heights: list[float], ratio: float, more: float) -> None:
    shape = minilm()
    made = profile(shape, heights)
    slow, fast = (hasten(AUTO, Target(latency_ratio=one), shape, made) for one in (ratio, ratio * more))
    step = max(max(units.loss.values()) / 12 for units in made.units)  # what one purchase that no longer fits may cost
    assert slow.loss <= fast.loss + step


def test_units_that_cost_less_go_first() -> None:
    shape = minilm()
    names = [matrix.name for matrix in shape.matrices if matrix.unit]
    found = hasten(AUTO, Target(latency_ratio=4), shape, profile(shape, [0.01, 0.01, 100, 100]))
    each = found.recipe.steps[0].model_dump()["each"]
    assert each[names[0]] < each[names[2]]
    assert each[names[1]] < each[names[3]]


@pytest.mark.parametrize(
    ("ms", "loss", "expected"), [(0.4, 0.01, "int8"), (0.4, 1e6, "fp32"), (1.2, 0.0, "fp32")]
)  # slower than fp32: never
def test_products_are_those_that_lose_less(ms: float, loss: float, expected: str) -> None:
    shape = minilm()
    made = profile(shape, [1.0], int8_ms=ms, int8_loss=loss)
    found = hasten(AUTO, Target(latency_ratio=3), shape, made)
    assert found.recipe.steps[1].model_dump()["products"] == expected


def test_out_of_reach_gives_the_fastest() -> None:
    shape = minilm()
    found = hasten(AUTO, Target(max_latency_ms=0.01), shape, profile(shape, [1.0]))
    assert set(found.recipe.steps[0].model_dump()["each"].values()) == {0}
    assert found.recipe.steps[1].model_dump()["embedding_bits"] == 8  # fewer would save no time


@settings(max_examples=25)
@given(st.floats(4.5, 16), st.sampled_from(["bytes_ratio", "parameter_ratio"]))
def test_sizes_are_kept_beside_milliseconds(ratio: float, name: str) -> None:
    shape = minilm()
    ratio = ratio if name == "bytes_ratio" else 1 + ratio / 40
    target = Target.model_validate({"latency_ratio": 3, name: ratio})
    found = hasten(AUTO, target, shape, profile(shape, [1.0, 3.0]))
    assert spend(fill(AUTO, target, shape), target, shape, profile(shape, [1.0, 3.0])) == found
    assert not found.too_large
    assert ratios(size_of(found.recipe, shape), shape)[name] >= ratio
    assert found.ms <= TEACHER_MS / 3
    alone = hasten(AUTO, Target(latency_ratio=3), shape, profile(shape, [1.0, 3.0]))
    assert alone.loss <= found.loss + 1e-9  # a second wish is not free


def test_bytes_are_taken_from_the_embedding_where_that_costs_less() -> None:
    shape = minilm()
    found = hasten(AUTO, Target(latency_ratio=2.5, bytes_ratio=6), shape, profile(shape, [1.0]))
    assert found.recipe.steps[1].model_dump()["embedding_bits"] < 8
    free = hasten(AUTO, Target(latency_ratio=2.5), shape, profile(shape, [1.0]))
    assert free.recipe.steps[1].model_dump()["embedding_bits"] == 8


def test_sizes_out_of_reach_are_refused_beside_milliseconds_too() -> None:
    for target in (
        Target(max_bytes=1000),
        Target(max_bytes=1000, latency_ratio=2),
        Target(max_nonzero=9, latency_ratio=2),
    ):
        with pytest.raises(TargetImpossible):
            fill(AUTO, target, minilm())


def test_where_milliseconds_leave_too_many_bytes_the_smallest_is_taken() -> None:
    shape = minilm()
    made = profile(shape, [1.0], int8_ms=1.0)
    tight = Target(latency_ratio=1.2, bytes_ratio=30)
    found = hasten(AUTO, tight, shape, made)
    free = hasten(AUTO, Target(latency_ratio=1.2), shape, made)
    assert size_of(found.recipe, shape).file_bytes < size_of(free.recipe, shape).file_bytes / 2


def test_a_plan_that_was_timed_and_took_longer_is_made_anew_by_forecast_and_job_alike() -> None:
    shape, target = minilm(), Target(latency_ratio=3)
    made = profile(shape, [1.0, 3.0])
    first = hasten(AUTO, target, shape, made)
    slow = {widths_of(first.recipe): 1.06 / 3}
    found = hasten_timed(
        AUTO, target, shape, made, lambda widths: TEACHER_MS * slow[widths] if widths in slow else None
    )
    assert found.ms < first.ms
    told = forecast(AUTO, target, shape, made.model_copy(update={"timed": slow}))
    assert told.recipe == found.recipe
    assert told.target_met


def test_nothing_is_said_to_be_met_that_nobody_knows() -> None:
    shape, hybrid = minilm(), PRESETS["hybrid"].recipe
    for target in (Target(parameter_ratio=5, latency_ratio=2), Target(parameter_ratio=5, min_retention=0.9)):
        assert forecast(hybrid, target, shape, Profile(curves=())).target_met is None
    assert forecast(hybrid, Target(parameter_ratio=5, max_minutes=3), shape, Profile(curves=())).target_met


def test_a_ladder_over_time_needs_what_time_decides() -> None:
    check_ladder(AUTO, Ladder(latency_ratio=(2, 3)))
    check_ladder(PRESETS["hybrid"].recipe, Ladder(parameter_ratio=(2, 3)))
    with pytest.raises(RecipeInvalid, match="structured"):
        check_ladder(PRESETS["hybrid"].recipe, Ladder(latency_ratio=(2, 3)))


@pytest.mark.parametrize(
    "step", [{"method": "weighted_svd"}, {"method": "svd", "keep": 0.5}, {"method": "low_rank_sparse"}]
)
def test_what_milliseconds_do_not_fill_is_refused(step: dict[str, object]) -> None:
    recipe = Recipe.model_validate({"steps": [{"method": "structured"}, step, {"method": "distill"}]})
    with pytest.raises(RecipeInvalid, match=r"steps\[1\]"):
        fill(recipe, Target(latency_ratio=2), minilm())


def test_without_milliseconds_products_are_int8_and_a_size_fills_the_rest() -> None:
    shape = minilm()
    found = fill(AUTO, Target(bytes_ratio=6), shape)
    assert '"auto"' not in found.model_dump_json()
    assert size_of(found, shape).file_bytes <= 4 * shape.parameters / 6
    assert fill(AUTO, Target(latency_ratio=2), shape) == AUTO  # left to the job


def test_a_target_turns_one_dial_and_leaves_the_other() -> None:
    base = Target(latency_ratio=3, bytes_ratio=12, min_retention=0.99)
    assert Target(max_latency_ms=8).over(base).given() == {
        "max_latency_ms": 8, "bytes_ratio": 12, "min_retention": 0.99,
    }  # fmt: skip
    assert Target(parameter_ratio=5).over(base).given() == {
        "latency_ratio": 3, "parameter_ratio": 5, "min_retention": 0.99,
    }  # fmt: skip


@pytest.mark.parametrize("values", [(2.0, 3.0), (8.0, 4.0)])
def test_a_ladder_goes_towards_less(values: tuple[float, float]) -> None:
    rises = values[0] < values[1]
    name, other = ("latency_ratio", "max_latency_ms") if rises else ("max_latency_ms", "latency_ratio")
    assert len(Ladder.model_validate({name: values}).targets(Target())) == 2
    with pytest.raises(ValueError, match="each value once"):
        Ladder.model_validate({other: values})


@settings(max_examples=20)
@example([1.0, 27.0], 1.2, 5.0)  # the milliseconds are met to the last digit
@given(HEIGHTS, st.floats(1.2, 4), st.floats(5, 20))
def test_units_and_bits_are_planned_together(heights: list[float], ratio: float, smaller: float) -> None:
    shape, target = minilm(), Target(latency_ratio=ratio, bytes_ratio=smaller)
    found = hasten(fill(JOINT, target, shape), target, shape, profile(shape, heights))
    assert '"auto"' not in found.recipe.model_dump_json()
    assert found.ms <= SPARE * TEACHER_MS / ratio * (1 + 1e-9)
    assert size_of(found.recipe, shape).file_bytes <= 4 * shape.parameters / smaller


@settings(max_examples=20)
@given(HEIGHTS, st.floats(5, 14))
def test_both_together_lose_no_more_than_bits_alone(heights: list[float], smaller: float) -> None:
    shape, target = minilm(), Target(bytes_ratio=smaller)
    made = profile(shape, heights)
    both, alone = (spend(fill(one, target, shape), target, shape, made) for one in (JOINT, BITS))
    assert both.loss <= 1.5 * alone.loss  # the matrices of a block share their bits


@pytest.mark.parametrize(("recipe", "dial"), [(AUTO, "latency_ratio"), (JOINT, "bytes_ratio"), (BITS, "bytes_ratio")])
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(HEIGHTS, st.floats(0.05, 50), st.floats(1.1, 4))
def test_a_free_dial_goes_as_far_as_the_loss_allows(
    recipe: Recipe, dial: str, heights: list[float], loss: float, more: float
) -> None:
    shape, target = minilm(), Target(min_retention=0.99)
    made = profile(shape, heights)
    assert recipe.aim(target) == dial
    assert fill(recipe, target, shape).open_for(target)

    def turned(most: float) -> tuple[float, float]:
        found = spend(fill(recipe, target, shape), target, shape, made, most_loss=most)
        assert '"auto"' not in found.recipe.model_dump_json()
        left = found.ms if dial == "latency_ratio" else size_of(found.recipe, shape).file_bytes
        return found.loss, left

    (lost, left), (_, left_less), (least, most) = turned(loss), turned(loss * more), turned(0)
    assert lost <= loss or lost == least
    assert left_less <= 1.02 * left
    assert left <= 1.001 * most


def test_a_free_dial_leaves_the_other_where_it_is() -> None:
    shape, target = minilm(), Target(latency_ratio=2, min_retention=0.99)
    assert JOINT.aim(target) == "bytes_ratio"
    assert AUTO.aim(target) is None
    found = spend(JOINT, target, shape, profile(shape, [1.0]), most_loss=3)
    assert found.ms <= SPARE * TEACHER_MS / 2
    assert found.loss <= 3
    looser = spend(JOINT, target, shape, profile(shape, [1.0]), most_loss=8)
    assert size_of(looser.recipe, shape).file_bytes < size_of(found.recipe, shape).file_bytes


def test_a_recipe_of_which_nothing_is_asked_is_refused() -> None:
    for recipe in (AUTO, JOINT, BITS):
        with pytest.raises(RecipeInvalid, match="min_retention"):
            fill(recipe, Target(), minilm())
    with pytest.raises(RecipeInvalid, match="bytes_ratio or max_bytes in place of parameter_ratio"):
        fill(JOINT, Target(parameter_ratio=3, latency_ratio=2), minilm())


def test_a_forecast_says_what_is_retained_where_the_profile_can_tell() -> None:
    shape, target = minilm(), Target(latency_ratio=3)
    bare = forecast(AUTO, target, shape, profile(shape, [0.1]))
    assert (bare.retention, bare.retention_low, bare.retention_high) == (None, None, None)
    nears = tuple(Near(kl=kl, agreement=1 - kl, retention=1 - kl / 2, sd=0.002) for kl in (1e-4, 1e-3, 1e-2, 0.1))
    made = profile(shape, [0.1]).model_copy(update={"nears": nears, "kl_per_loss": 0.05})
    told = forecast(AUTO, target, shape, made)
    assert told.retention is not None
    assert told.retention_low < told.retention < told.retention_high
    tighter = forecast(AUTO, Target(latency_ratio=5), shape, made)
    assert tighter.retention < told.retention
    assert forecast(AUTO, Target(latency_ratio=5, min_retention=0.999999), shape, made).shortfall["min_retention"] < 1
    free = forecast(AUTO, Target(min_retention=0.99), shape, made)
    assert free.target_met
    assert free.latency_ratio > 1
