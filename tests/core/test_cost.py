"""What a job will take: the measured widths come back, less of anything never takes longer."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.cost import Costs, Share, Spent, Training, share_of, training_of
from core.distill.distill import Distill
from core.forecast import forecast
from core.method import Tensor
from core.profile import Near
from core.recipe import PRESETS, Recipe, Target
from tests.core.test_hasten import minilm, profile

SHARES = st.builds(Share, st.floats(0.05, 1), st.floats(0.05, 1))
TIMES = st.floats(0.01, 1)
ROUNDED = Training(Distill(enough=0.01), rounded=True)
ROWS = {"train": 10_000, "eval": 500}


def spent(seconds: float) -> Spent:
    return Spent(seconds, 2 * seconds)


def costs(step: float = 0.5, narrow: float = 0.3, update: float = 0.1, more: float = 0.2) -> Costs:
    return Costs(
        machine="", training=ROUNDED.timed, tokens=20, whole=25, token=spent(1e-4), cpu_token=spent(1e-3),
        step=spent(step), narrow=spent(narrow), update=spent(update), share=Share(0.5, 0.7), rounded=spent(more),
        profile=spent(60), memory_bytes=10**9,
    )  # fmt: skip


COSTS = st.builds(costs, TIMES, TIMES, TIMES, TIMES)


def test_the_widths_that_were_measured_take_what_was_measured() -> None:
    found = costs(more=0)
    assert found.step_of(Share(1, 1)) == pytest.approx(found.step)
    assert found.step_of(found.share) == pytest.approx(found.narrow)
    assert costs().step_of(Share(1, 1)).seconds == pytest.approx(0.7)
    assert costs().step_of(Share(1, 0.5)).seconds == pytest.approx(0.5 - 0.05 + 0.1)


@given(COSTS, SHARES, SHARES)
def test_a_smaller_student_never_takes_longer(found: Costs, one: Share, other: Share) -> None:
    """However noisy the machine was that measured it."""
    small = Share(*map(min, one, other))
    assert found.step_of(small).cpu_s <= found.step_of(one).cpu_s + 1e-9


@given(COSTS, st.integers(100, 10**6), st.integers(1, 10**5), st.floats(1e-4, 1), st.floats(1e-4, 1))
def test_more_rows_and_a_farther_student_never_take_less(
    found: Costs, train: int, more: int, kl: float, farther: float
) -> None:
    def job(rows: int, of: float, minutes: float | None = None) -> float:
        rows_of = {"train": rows, "eval": 100}
        return found.job(ROUNDED, rows_of, Share(1, 1), kl=of, learnt=0.5, minutes=minutes).seconds

    assert job(train, kl) <= job(train + more, kl)
    assert job(train, min(kl, farther)) <= job(train, kl)
    assert job(train, kl, minutes=1e6) == job(train, kl)
    assert job(train, kl, minutes=1) <= job(train, kl)


def test_a_student_that_is_near_enough_is_not_trained() -> None:
    known = (0.01, 0.012, 0.02, 9, None)
    found = [costs().job(ROUNDED, ROWS, Share(1, 1), kl=kl, learnt=0.5).seconds for kl in known]
    assert found == sorted(found)
    assert costs().job(ROUNDED, ROWS, Share(1, 1), kl=0.0, learnt=0.5).seconds == found[0]
    steps, looks = ROUNDED.step.steps(-(-9_000 // 32)), 20
    assert found[3] - found[0] == pytest.approx(0.7 * steps + looks * 1_000 * 25 * 1e-4)
    assert found[2] == found[3] == found[4]


def test_training_takes_the_minutes_that_it_is_given() -> None:
    told = [costs().job(ROUNDED, ROWS, Share(1, 1), kl=None, learnt=0.5, minutes=each).seconds for each in (1, 2)]
    assert told[1] - told[0] == pytest.approx(60)


def test_rows_that_select_takes_are_not_trained_on() -> None:
    whole, given_ = (
        costs().job(ROUNDED, rows, Share(1, 1), kl=None, learnt=0.5).seconds
        for rows in (ROWS, {"train": 9_000, "select": 1_000, "eval": 500})
    )
    assert whole == pytest.approx(given_)


def test_the_training_of_a_recipe_knows_whether_weights_are_rounded_in_it() -> None:
    found = [training_of(PRESETS[name].recipe) for name in ("hybrid", "small", "fast", "balanced")]
    assert [one and one.rounded for one in found] == [False, True, False, True]
    distill = {"method": "distill"}
    for steps in ([{"method": "int8"}], [distill, {"method": "magnitude", "keep": 0.5}, distill]):
        assert training_of(Recipe.model_validate({"steps": steps})) is None


def test_the_teacher_has_all_of_itself() -> None:
    tensors = minilm().tensors()
    assert share_of(tensors, tensors) == (1, 1)
    halved = [replace(one, rows=one.rows // 2) if one.kind == "linear" else one for one in tensors]
    assert share_of(halved, tensors).multiplied == 0.5
    assert 0.5 < share_of(halved, tensors).stored < 1
    bare = [one for one in tensors if one.kind != "embedding"]
    assert share_of(bare, tensors).multiplied == 1
    assert isinstance(bare[0], Tensor)


def test_a_forecast_says_what_it_takes_where_somebody_measured_that() -> None:
    shape = minilm()
    nears = tuple(Near(kl=kl, agreement=1 - kl, retention=1 - kl / 2, sd=0.002) for kl in (1e-4, 1e-3, 1e-2, 0.1))
    bare = profile(shape, [0.1]).model_copy(update={"nears": nears, "kl_per_loss": 0.05})
    steps = [{"method": "structured"}, {"method": "distill"}, {"method": "int8"}]
    auto = Recipe.model_validate({"steps": steps})
    training = training_of(auto)
    assert training is not None
    known = bare.model_copy(update={"costs": costs().model_copy(update={"training": training.timed})})
    other = bare.model_copy(update={"costs": costs()})  # of another training
    for found, rows in ((bare, ROWS), (known, None), (other, ROWS)):
        told = forecast(auto, Target(latency_ratio=3), shape, found, rows)
        assert (told.seconds, told.cpu_s, told.memory_bytes) == (None, None, None)
    told, faster = (forecast(auto, Target(latency_ratio=ratio), shape, known, ROWS) for ratio in (3, 5))
    assert told.memory_bytes == 10**9
    assert 0 < (faster.seconds or 0) < (told.seconds or 0) < (told.cpu_s or 0)


def test_what_is_rounded_after_the_training_does_not_lengthen_it() -> None:
    """Where int8 alone is fast enough, the student that is trained is the teacher, and no step is made."""
    shape = minilm()
    near = Near(kl=0.1, agreement=0.9, retention=0.9, sd=0.002)
    steps = [{"method": "structured"}, {"method": "distill", "enough": 0.001}, {"method": "int8"}]
    auto = Recipe.model_validate({"steps": steps})
    training = training_of(auto)
    assert training is not None
    timed = costs().model_copy(update={"training": training.timed})
    bare = profile(shape, [0.1], int8_loss=0.1)
    known = bare.model_copy(update={"nears": (near,), "kl_per_loss": 0.05, "costs": timed})
    told = forecast(auto, Target(latency_ratio=1.2), shape, known, ROWS)
    assert sum((told.recipe.steps[0].each or {}).values()) == sum(  # type: ignore[union-attr]
        tensor.cols // tensor.unit for tensor in shape.tensors() if tensor.unit
    )
    share = share_of(told.recipe.stored(shape.tensors()), shape.tensors())
    assert told.seconds == timed.job(training, ROWS, share, kl=0.0, learnt=0.5).seconds
