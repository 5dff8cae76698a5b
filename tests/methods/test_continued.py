"""A point of a ladder that goes on from the point before it: the same units, fewer steps, nearer its teacher."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from core.checkpoint import Checkpoints, Keeper, Place
from core.data import Data
from core.metrics import divergence
from core.model import Loaded
from core.pipeline import Result, compress
from core.progress import Meter, Silent
from core.recipe import Ladder, Recipe
from core.removal import removal
from core.seek import Student, Trained, student
from core.shared import Shared
from core.structure.structured import Structured
from tests import tiny
from tests.methods.conftest import text
from tests.methods.test_resume import in_index, killed, same
from tests.methods.test_structured import HEADS, NEURONS, READERS, kept, made

WIDE, NARROW = {NEURONS: 48, HEADS: 3}, {NEURONS: 20, HEADS: 1}
LAYERS = [f"bert.encoder.layer.{layer}." for layer in range(2)]
HALF, LITTLE = (
    {f"{layer}{part}output.dense": count for layer in LAYERS for part, count in (("", neurons), ("attention.", heads))}
    for neurons, heads in ((32, 2), (2, 1))
)
Train = Callable[..., Student]


def recipe(each: dict[str, int] | None, *, keep: float = 1.0, align: int = 1, **training: float) -> Recipe:
    return Recipe.model_validate(
        {
            "steps": [
                {"method": "structured", "each": each, "keep": keep, "align": align, "calibration_rows": 64},
                {"method": "distill", "epochs": 4, "batch_size": 16, "continued": 0.4, **training},
                {"method": "int8"},
            ]
        }
    )


@given(READERS, st.data())
def test_to_narrow_in_two_steps_is_to_narrow_in_one(case: tuple[int, int, int, int], data: st.DataObject) -> None:
    reader = made(case)
    order = removal(reader, "obs").order
    first = data.draw(st.integers(0, reader.units - 1))
    wide, narrow = (kept(reader, order, gone) for gone in (first, data.draw(st.integers(first, reader.units - 1))))
    halfway = reader.narrowed(wide, *reader.refitted(wide))
    places = torch.searchsorted(wide, narrow)
    for ours, theirs in zip(halfway.refitted(places), reader.refitted(narrow), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4 * float(reader.weight.abs().max()), rtol=1e-3)


@given(st.integers(0, 4), st.integers(0, 4), st.integers(0, 64), st.integers(0, 64))
def test_a_build_that_is_narrowed_again_is_the_one_that_was_narrowed_once(
    shared: Shared, heads: int, fewer: int, neurons: int, less: int
) -> None:
    once, twice = shared.student(), shared.student()
    last = {HEADS: min(heads, fewer), NEURONS: min(neurons, less)}
    for build, each in ((twice, {HEADS: heads, NEURONS: neurons}), (twice, last), (once, last)):
        list(Structured(each=each, calibration_rows=64).compile(build))
    ours, theirs = once.model.state_dict(), twice.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-4) for name in ours)
    for name, each in once.left.items():
        assert all(a is b or torch.equal(a, b) for a, b in zip(each, twice.left[name], strict=True))


@pytest.mark.parametrize(
    ("before", "after", "goes_on"),
    [
        (recipe(WIDE), recipe(NARROW), True),
        (recipe(WIDE), recipe(WIDE), True),
        (recipe(NARROW), recipe(WIDE), False),
        (recipe(WIDE), recipe({NEURONS: 20}), False),  # heads come back
        (recipe({NEURONS: 48}), recipe(NARROW), True),
        (recipe(None, keep=0.5), recipe(None, keep=0.4), True),
        (recipe(None, keep=0.4), recipe(None, keep=0.5), False),
        (recipe(None, keep=0.5), recipe(NARROW), False),
        (recipe(WIDE, continued=0), recipe(NARROW, continued=0), False),
        (recipe(WIDE, align=8), recipe(NARROW), False),
        (recipe(WIDE, continued=0.5), recipe(NARROW), False),
        (recipe(WIDE), Recipe.model_validate({"steps": [{"method": "int8"}]}), False),
    ],
)
def test_only_a_student_with_fewer_of_the_same_units_goes_on(before: Recipe, after: Recipe, goes_on: bool) -> None:
    assert after.goes_on_from(before) == goes_on


GOES_ON = {"method": "distill", "continued": 0.5}


@pytest.mark.parametrize(
    "steps",
    [
        [GOES_ON],
        [{"method": "weighted_svd"}, GOES_ON],
        [{"method": "structured"}, {"method": "gptq"}, GOES_ON],
        [{"method": "structured"}, GOES_ON, {"method": "gptq"}, {"method": "distill"}],
    ],
)
def test_a_training_that_nothing_goes_on_to_says_so(steps: list[dict[str, object]]) -> None:
    with pytest.raises(ValueError, match=r"continued \(distill\) needs the step before it"):
        Recipe.model_validate({"steps": steps})


@pytest.fixture
def trained(loaded: Loaded, teacher: Path, tmp_path: Path) -> Train:
    """A student as a new process would train it."""
    train, select = text(teacher, 160, seed=1), text(teacher, 60, seed=2)

    def run(
        asked: Recipe, before: Trained | None = None, checkpoints: Checkpoints | None = None, point: int = 1
    ) -> Student:
        shared = Shared(loaded.model, loaded.family, train, 0, torch.device("cpu"), tmp_path, select)
        keeper = Keeper(checkpoints or Checkpoints(), "")
        return student(shared, asked, Meter(Silent()), None, keeper, Place(point, 0, 0, 0), before)

    return run


def kl(found: Student) -> float:
    return divergence(found.logits, found.build.shared.followed())


def test_who_goes_on_is_nearer_the_teacher_than_who_begins_there_with_as_many_steps(trained: Train) -> None:
    before = trained(recipe(HALF), point=0).trained
    goes_on = trained(recipe(LITTLE), before)
    assert goes_on.build.continued
    begins = trained(recipe(LITTLE, epochs=4 * 0.4, continued=0))
    assert not begins.build.continued
    shapes = [
        {name: tensor.shape for name, tensor in one.build.model.state_dict().items()} for one in (goes_on, begins)
    ]
    assert shapes[0] == shapes[1]
    assert kl(goes_on) < kl(begins)


def test_the_student_that_is_gone_on_from_stays_as_it_was(trained: Train) -> None:
    wide = trained(recipe(WIDE), point=0)
    assert wide.trained is not None
    was = {name: tensor.clone() for name, tensor in wide.trained.build.model.state_dict().items()}
    ends = {name: tensor.clone() for name, tensor in wide.build.model.state_dict().items()}
    trained(recipe(NARROW), wide.trained)
    for model, then in ((wide.trained.build.model, was), (wide.build.model, ends)):
        assert all(torch.equal(tensor, then[name]) for name, tensor in model.state_dict().items())
    assert any(not torch.equal(was[name], ends[name]) for name in was)  # int8 came after


@pytest.mark.parametrize("count", [1, 9, 16])
def test_a_point_that_died_while_it_went_on_is_what_it_would_have_been(
    trained: Train, tmp_path: Path, count: int
) -> None:
    """The student before it is gone with the process that trained it."""
    before = trained(recipe(WIDE), point=0).trained
    left = killed(
        lambda kept: trained(recipe(NARROW), before, kept), tmp_path / "kept", lambda told: len(told) == count
    )
    resumed = trained(recipe(NARROW), None, left)
    assert resumed.build.continued
    assert same(resumed.build, trained(recipe(NARROW), before).build)


def test_who_had_no_step_to_make_hands_on_what_was_trained_before(trained: Train) -> None:
    before = trained(recipe(WIDE), point=0).trained
    same_again = trained(recipe(WIDE, enough=100), Trained(recipe(WIDE, enough=100), before.build))
    assert same_again.build.continued
    assert same_again.trained is not None


def test_nobody_goes_on_from_a_student_that_was_near_enough_untrained(trained: Train) -> None:
    """The point after it has all its steps."""
    assert trained(recipe(WIDE, enough=100), point=0).trained is None
    assert trained(recipe(WIDE), point=0).trained is not None


@pytest.mark.long
def test_a_ladder_goes_on_and_says_so_also_where_it_died_in_the_second_rung(teacher: Path, tmp_path: Path) -> None:
    train, held = (tiny.write_csv(tmp_path / f"{n}.csv", tiny.sentences(n, seed=n)) for n in (100, 40))
    asked = recipe(None, keep="auto", align=4)  # type: ignore[arg-type]

    def run(name: str, checkpoints: Checkpoints | None = None) -> Result:
        return compress(
            teacher, asked, Data(train=train, eval=held), ladder=Ladder(parameter_ratio=(1.1, 1.4)),
            out=tmp_path / name, threads=1, checkpoints=checkpoints,
        )  # fmt: skip

    left = killed(lambda kept: run("died", kept), tmp_path / "kept", in_index('"point": 1'))
    whole, resumed = run("whole"), run("resumed", left)
    for found in (whole, resumed):
        assert [point.report.continued for point in found.points] == [False, True]
    files = [[(one.folder / "model.onnx").read_bytes() for one in found.points] for found in (whole, resumed)]
    assert files[0] == files[1]
