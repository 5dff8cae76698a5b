"""The plan: size laws add up, the dial hits its target, and what cannot be is refused with the limit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import METHODS
from core.errors import RecipeInvalid, TargetImpossible
from core.factorize.svd import rank_for
from core.method import Tensor
from core.plan import Matrix, ModelShape, fill, misses, ratios, size_of
from core.recipe import PRESETS, Recipe, Target

HIDDEN, WIDE, WORDS, LAYERS = 384, 1536, 30522, 6


def minilm() -> ModelShape:
    """The shape of all-MiniLM-L6-v2 with two labels: 22,713,986 parameters."""
    blocks = [(HIDDEN, HIDDEN)] * 4 + [(WIDE, HIDDEN), (HIDDEN, WIDE)]
    matrices = [Matrix(name="emb", rows=WORDS, cols=HIDDEN, kind="embedding")] + [
        Matrix(name=f"l{layer}.{i}", rows=rows, cols=cols, kind="linear")
        for layer in range(LAYERS)
        for i, (rows, cols) in enumerate(blocks)
    ]
    return ModelShape(
        family="bert", task="classification", parameters=22_713_986, layers=LAYERS, hidden=HIDDEN,
        labels=("a", "b"), matrices=tuple(matrices),
    )  # fmt: skip


@given(st.floats(1.2, 50))
def test_ladabert_reaches_any_ratio_and_wastes_less_than_a_percent(ratio: float) -> None:
    shape, preset = minilm(), PRESETS["ladabert"]
    reached = ratios(size_of(fill(preset.recipe, Target(parameter_ratio=ratio), shape), shape), shape)
    assert ratio <= reached["parameter_ratio"] <= 1.01 * ratio


@given(st.floats(1.2, 20), st.floats(1.2, 20))
def test_a_tighter_target_never_gives_a_larger_model(one: float, two: float) -> None:
    shape, recipe = minilm(), PRESETS["ladabert"].recipe
    loose, tight = (size_of(fill(recipe, Target(bytes_ratio=ratio), shape), shape) for ratio in sorted((one, two)))
    assert tight.size_bytes <= loose.size_bytes


def test_the_named_presets_stand_where_the_paper_puts_them() -> None:
    wanted = {"ladabert-1": 2.5, "ladabert-2": 3.3, "ladabert-3": 5.0, "ladabert-4": 10.0}
    assert {name: PRESETS[name].target.parameter_ratio for name in wanted} == wanted
    assert all(PRESETS[name].recipe == PRESETS["ladabert"].recipe for name in wanted)


def test_several_sizes_are_all_met() -> None:
    shape = minilm()
    target = Target(parameter_ratio=3, max_bytes=20_000_000, max_nonzero=9_000_000)
    reached = ratios(size_of(fill(PRESETS["ladabert"].recipe, target, shape), shape), shape)
    assert misses(target.given(), reached) == {}


@given(st.floats(0.05, 0.9))
def test_a_recipe_without_a_dial_is_refused_exactly_where_its_size_misses(keep: float) -> None:
    """Nothing is trained for hours to tell what is known before."""
    shape = minilm()
    recipe = Recipe.model_validate({"steps": [{"method": "obs", "keep": keep, "when": "once"}]})
    gives = ratios(size_of(recipe, shape), shape)["parameter_ratio"]
    assert fill(recipe, Target(parameter_ratio=gives * 0.999), shape) == recipe
    with pytest.raises(TargetImpossible, match="cannot be reached by this recipe"):
        fill(recipe, Target(parameter_ratio=gives * 1.001 + 0.001), shape)


def test_an_impossible_ratio_names_the_limit_of_this_model() -> None:
    with pytest.raises(TargetImpossible, match="the limit for this model is") as caught:
        fill(PRESETS["ladabert"].recipe, Target(parameter_ratio=999), minilm())
    assert caught.value.param == "/target/parameter_ratio"


def test_auto_without_a_size_target_is_refused() -> None:
    with pytest.raises(RecipeInvalid, match="parameter_ratio"):
        fill(PRESETS["ladabert"].recipe, Target(min_retention=0.9), minilm())


def test_a_recipe_with_numbers_is_left_as_it_is() -> None:
    recipe = Recipe.model_validate({"steps": [{"method": "svd", "keep": 0.5}]})
    assert fill(recipe, Target(parameter_ratio=1.5), minilm()) == recipe


@given(st.integers(1, 3000), st.integers(1, 3000), st.floats(0.001, 1))
def test_factors_never_hold_more_than_the_matrix_or_than_asked(rows: int, cols: int, keep: float) -> None:
    rank = rank_for(rows, cols, keep)
    if rank is not None:
        assert rank * (rows + cols) < rows * cols
        assert rank == 1 or rank * (rows + cols) <= keep * rows * cols


@given(st.integers(1, 10_000), st.data())
def test_stored_bytes_never_exceed_dense_bytes(entries: int, data: st.DataObject) -> None:
    kept = data.draw(st.integers(0, entries))
    tensor = Tensor("t", 1, entries, kept, "linear")
    assert tensor.size_bytes <= 4 * entries


@pytest.mark.parametrize("name", METHODS)
def test_every_method_keeps_every_fixed_entry_and_adds_none(name: str) -> None:
    method = METHODS[name]
    step = method.model_validate({"keep": 0.4} if "keep" in method.model_fields else {})
    before = minilm().tensors()
    after = step.stored(before)
    fixed = [[(t.name, t.kept) for t in each if t.kind == "fixed" and t.counted] for each in (before, after)]
    assert fixed[0] == fixed[1]
    if not method.follows:  # which may double the entries that another left, and halves their bits
        assert sum(t.kept for t in after if t.counted) <= sum(t.kept for t in before)


def test_a_pattern_names_every_matrix_that_it_matches_and_a_name_of_its_own_comes_first() -> None:
    shape = minilm()
    names = [matrix.name for matrix in (*shape.matrices, *shape.rest)]
    first = names[0]
    step = {"method": "gptq", "bits": 8, "each": {first: 2, "*": 4}}
    (found,) = fill(Recipe.model_validate({"steps": [step]}), Target(), shape).steps
    assert found.each == {name: 2 if name == first else 4 for name in names}
    later = {"method": "gptq", "bits": 8, "each": {f"{first[:1]}*": 3, "*": 4}}
    (found,) = fill(Recipe.model_validate({"steps": [later]}), Target(), shape).steps
    assert found.each[first] == 3
    with pytest.raises(RecipeInvalid, match=r"steps\[0\]\.each names nothing\*, which is no matrix of this model"):
        fill(Recipe.model_validate({"steps": [{**step, "each": {"nothing*": 4}}]}), Target(), shape)
