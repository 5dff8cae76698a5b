"""Bytes spent over ranks and bits: within the target, little left over, nothing left "auto", honest limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import RecipeInvalid, TargetImpossible
from core.method import LEVELS
from core.plan import KIND_BYTES, ModelShape, fill, size_of
from core.profile import Curve, Profile
from core.recipe import Recipe, Target
from core.spend import spend
from tests.core.test_plan import minilm

BOTH = Recipe.model_validate({"steps": [{"method": "weighted_svd"}, {"method": "gptq", "bits": "auto"}]})
BITS = Recipe.model_validate({"steps": [{"method": "gptq", "bits": "auto"}]})


def profile(shape: ModelShape, heights: list[float]) -> Profile:
    """Curves of the usual form: a loss falls fourfold a bit, and by half from rank to rank."""
    curves = []
    for place, matrix in enumerate(shape.matrices):
        height = heights[place % len(heights)]
        rounding = {bits: height * 4.0**-bits for bits in LEVELS}
        most = matrix.rows * matrix.cols // (matrix.rows + matrix.cols)
        cut = {rank: height * 2.0 ** (-8 * rank / most) for rank in range(4, most + 1, max(1, most // 16))}
        curves.append(
            Curve(
                name=matrix.name,
                rows=matrix.rows,
                cols=matrix.cols,
                kind=matrix.kind,
                dense=rounding,
                cut=cut,
                whole=height,
                factors={bits: 2 * loss for bits, loss in rounding.items()},
            )
        )
    return Profile(curves=tuple(curves))


HEIGHTS = st.lists(st.floats(0.01, 100), min_size=1, max_size=7)


@given(st.sampled_from([BOTH, BITS]), st.floats(4.5, 15), HEIGHTS)
def test_the_bytes_are_kept_and_those_left_do_not_buy_another_bit(
    recipe: Recipe, ratio: float, heights: list[float]
) -> None:
    shape = minilm()
    target = Target(bytes_ratio=ratio)
    found = spend(fill(recipe, target, shape), target, shape, profile(shape, heights)).recipe
    limit = 4 * shape.parameters / ratio
    assert size_of(found, shape).file_bytes <= limit
    assert '"auto"' not in found.model_dump_json()
    step, widths = found.steps[-1], sorted(LEVELS)
    for name, bits in step.each.items() if recipe is BITS else ():
        if bits < widths[-1]:
            finer = step.each | {name: widths[widths.index(bits) + 1]}
            more = Recipe(steps=(step.model_copy(update={"each": finer}),))
            assert size_of(more, shape).file_bytes > limit - len(LEVELS) * KIND_BYTES


@given(HEIGHTS)
def test_what_costs_more_when_it_errs_is_stored_no_coarser(heights: list[float]) -> None:
    """Of two matrices of one shape, in bits alone."""
    shape = minilm()
    (step,) = spend(BITS, Target(bytes_ratio=9), shape, profile(shape, heights)).recipe.steps
    queries = [(heights[place % len(heights)], step.each[m.name]) for place, m in enumerate(shape.matrices)
               if (m.rows, m.cols) == (384, 384)]  # fmt: skip
    for low, high in ((a, b) for a in queries for b in queries if a[0] * 16 < b[0]):
        assert low[1] <= high[1]


def test_ranks_are_cut_where_bits_alone_cannot_reach() -> None:
    shape = minilm()
    first, second = spend(BOTH, Target(bytes_ratio=30), shape, profile(shape, [1.0])).recipe.steps
    assert first.each
    assert set(second.each) == {curve.name for curve in profile(shape, [1.0]).curves}
    with pytest.raises(TargetImpossible):
        spend(BITS, Target(bytes_ratio=30), shape, profile(shape, [1.0]))


def test_the_limit_that_is_named_can_be_reached() -> None:
    shape = minilm()
    with pytest.raises(TargetImpossible, match=r"the limit for this model is (\d+)") as caught:
        spend(BITS, Target(max_bytes=2_000_000), shape, profile(shape, [1.0]))
    limit = int(str(caught.value).rsplit(" ", 1)[1])
    assert size_of(spend(BITS, Target(max_bytes=limit), shape, profile(shape, [1.0])).recipe, shape).file_bytes <= limit


def test_bytes_that_cannot_be_enough_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(TargetImpossible, match="the limit for this model is"):
        fill(BITS, Target(bytes_ratio=60), minilm())
    assert fill(BITS, Target(bytes_ratio=10), minilm()) == BITS


def test_bits_are_not_spent_on_a_count_of_parameters() -> None:
    with pytest.raises(RecipeInvalid, match=r"give bytes_ratio or max_bytes in place of parameter_ratio"):
        fill(BITS, Target(parameter_ratio=3), minilm())
    with pytest.raises(RecipeInvalid, match=r'steps\[0\]\.bits is "auto"'):
        fill(BITS, Target(), minilm())


@pytest.mark.parametrize(
    "steps",
    [
        [{"method": "svd"}],
        [{"method": "weighted_svd", "keep": 0.2}],
        [{"method": "weighted_svd", "each": {"emb": 8}}],
        [{"method": "obs", "keep": 0.2}, {"method": "distill"}],
        [{"method": "magnitude"}, {"method": "distill"}],
        [{"method": "low_rank_sparse"}, {"method": "distill"}],
        [{"method": "weighted_svd"}, {"method": "obs"}, {"method": "distill"}],
    ],
)
def test_what_does_not_go_with_auto_bits_is_refused_before_anything_runs(steps: list[dict[str, object]]) -> None:
    recipe = Recipe.model_validate({"steps": [*steps, {"method": "gptq", "bits": "auto"}]})
    with pytest.raises(RecipeInvalid, match=r'does not go with bits "auto"') as caught:
        fill(recipe, Target(bytes_ratio=12), minilm())
    assert str(caught.value.param).startswith("/recipe/steps/")


@pytest.mark.parametrize("fixed", [{"embedding_bits": 8}, {"rest_bits": 32}, {"each": {"emb": 4}}])
def test_auto_bits_choose_for_every_matrix(fixed: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="which chooses for every matrix"):
        Recipe.model_validate({"steps": [{"method": "gptq", "bits": "auto", **fixed}]})


def test_a_matrix_that_is_not_there_is_refused() -> None:
    for step in ({"method": "gptq", "each": {"l9": 4}}, {"method": "weighted_svd", "each": {"l9": 4}}):
        with pytest.raises(RecipeInvalid, match=r"steps\[0\]\.each names l9, which is no matrix of this model"):
            fill(Recipe.model_validate({"steps": [step]}), Target(), minilm())


def test_a_recipe_with_numbers_is_left_as_it_is() -> None:
    recipe = Recipe.model_validate({"steps": [{"method": "gptq", "bits": 4}]})
    assert spend(recipe, Target(bytes_ratio=4), minilm(), profile(minilm(), [1.0])).recipe == recipe
