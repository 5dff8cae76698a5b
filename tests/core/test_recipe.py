"""Recipes, targets and presets are closed schemas whose refusals say what is wrong."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.catalogue import METHODS
from core.method import Closed
from core.recipe import PRESETS, Ladder, Recipe, Target


@pytest.mark.parametrize("name", METHODS)
def test_every_method_round_trips_through_json_and_refuses_unknown_fields(name: str) -> None:
    method = METHODS[name]
    step = method()
    assert method.model_validate(json.loads(step.model_dump_json())) == step
    with pytest.raises(ValidationError, match="colour"):
        method.model_validate({"colour": "red"})


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_a_card_with_a_source_and_a_limit(name: str) -> None:
    card = METHODS[name].card()
    assert "arXiv" in card or "doi" in card
    assert "not" in card.lower()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_round_trips(name: str) -> None:
    recipe = PRESETS[name].recipe
    assert Recipe.model_validate(json.loads(recipe.model_dump_json())) == recipe


def test_a_step_that_acts_during_training_needs_training_after_it() -> None:
    with pytest.raises(ValidationError, match=r"steps\.0 \(magnitude\) acts during training"):
        Recipe.model_validate({"steps": [{"method": "magnitude", "keep": 0.5}]})
    with pytest.raises(ValidationError, match="acts during training"):
        Recipe.model_validate({"steps": [{"method": "distill"}, {"method": "magnitude", "keep": 0.5}]})


@pytest.mark.parametrize(
    "names",
    [
        ["svd", "svd", "distill"],
        ["magnitude", "svd", "distill"],
        ["magnitude", "distill", "svd", "distill"],
        ["svd", "magnitude", "magnitude", "distill"],
    ],
)
def test_steps_whose_sizes_would_not_add_up_are_refused(names: list[str]) -> None:
    with pytest.raises(ValidationError, match="cannot come after"):
        Recipe.model_validate({"steps": [{"method": name} for name in names]})


@pytest.mark.parametrize(
    "bad",
    [
        {"steps": []},
        {"steps": [{"method": "melt"}]},
        {"steps": [{"method": "svd", "keep": 0}]},
        {"steps": [{"method": "svd", "keep": 1.5}]},
        {"steps": [{"method": "svd", "keep": float("nan")}]},
        {"steps": [{"method": "svd"}], "version": 2},
        {"steps": [{"method": "svd"}], "extra": 1},
        {"steps": [{"method": "distill", "logits": 0, "hidden": 0, "attention": 0}]},
    ],
)
def test_bad_recipes_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Recipe.model_validate(bad)


@pytest.mark.parametrize(
    "bad", [{"parameter_ratio": 1.0}, {"parameter_ratio": float("inf")}, {"min_retention": 1.2}, {"size": 3}]
)
def test_bad_targets_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Target.model_validate(bad)


def test_a_size_given_by_the_user_replaces_every_size_of_the_preset_and_nothing_else() -> None:
    base = Target(parameter_ratio=2.5, min_retention=0.99)
    assert Target(bytes_ratio=4).over(base).given() == {"min_retention": 0.99, "bytes_ratio": 4}
    assert Target(min_retention=0.9).over(base).given() == {"min_retention": 0.9, "parameter_ratio": 2.5}


@pytest.mark.parametrize(
    ("first", "second"),
    [("svd", "weighted_svd"), ("svd", "low_rank_sparse"), ("low_rank_sparse", "svd"), ("obs", "magnitude")],
)
def test_one_factorization_and_one_pruning_a_recipe(first: str, second: str) -> None:
    """A factor has no matrix left to factorize, and of two masks the size law knows the last only."""
    with pytest.raises(ValidationError, match=rf"steps\.1 \({second}\) cannot follow {first}"):
        Recipe.model_validate({"steps": [{"method": first}, {"method": second}, {"method": "distill"}]})


@given(st.lists(st.floats(1.1, 100), min_size=1, max_size=4, unique=True).map(sorted))
def test_a_ladder_takes_the_place_of_its_own_target_and_of_no_other(ratios: list[float]) -> None:
    limits = Target(parameter_ratio=3, max_nonzero=5_000, max_bytes=9_000, min_retention=0.9)
    points = Ladder(parameter_ratio=tuple(ratios)).targets(limits)
    assert [point.parameter_ratio for point in points] == ratios
    assert all(point.model_copy(update={"parameter_ratio": 3.0}) == limits for point in points)
    assert Ladder().targets(limits) == [limits]


def test_a_preset_that_finds_a_size_leaves_its_retention_behind_where_the_size_is_given() -> None:
    small, fast, balanced = (PRESETS[name] for name in ("small", "fast", "balanced"))
    nothing = Ladder()
    assert small.asked(Target(), nothing).given() == {"min_retention": 0.99}
    assert small.asked(Target(bytes_ratio=12), nothing).given() == {"bytes_ratio": 12}
    assert small.asked(Target(bytes_ratio=12, min_retention=0.9), nothing).given() == {
        "bytes_ratio": 12, "min_retention": 0.9,
    }  # fmt: skip
    assert fast.asked(Target(), Ladder(latency_ratio=(2, 3))).given() == {}
    assert fast.asked(Target(bytes_ratio=8), nothing).given() == {"bytes_ratio": 8, "min_retention": 0.99}
    assert balanced.asked(Target(max_latency_ms=5), nothing).given() == {"max_latency_ms": 5, "min_retention": 0.995}
    assert balanced.asked(Target(bytes_ratio=10), nothing).given() == {"latency_ratio": 2, "bytes_ratio": 10}


@pytest.mark.parametrize("model", [Target, Ladder, *METHODS.values()])
def test_no_truth_value_is_taken_for_a_number(model: type[Closed]) -> None:
    """JSON's true is no 1: of no field but those that ask for a truth value."""
    for name, field in model.model_fields.items():
        for value in (True, [True], {"bert": True}):
            if field.annotation is bool and value is True:
                assert getattr(model.model_validate({name: value}), name) is True
                continue
            with pytest.raises(ValidationError, match=name):
                model.model_validate({name: value})
