"""Multi-step distillation: the student of one training teaches the next."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from core import seek
from core.checkpoint import Checkpoints, Keeper, Place
from core.followed import Followed, kept
from core.progress import Meter, Silent
from core.recipe import Recipe
from core.shared import Shared
from tests.methods.conftest import text
from tests.methods.test_gptq import TRAINING

AGAIN = {**TRAINING, "teacher": "previous"}
STEPS = [{"method": "ternary"}, TRAINING, {"method": "binary_split"}, AGAIN]


@pytest.fixture
def judged(shared: Shared, teacher: Path) -> Shared:
    """The same, with rows to decide by."""
    return Shared(shared.teacher, shared.family, shared.train, 0, shared.device, shared.folder, text(teacher, 80, 3))


def made(shared: Shared, steps: list[dict[str, object]]) -> tuple[seek.Student, list[torch.Tensor]]:
    """A student, and what its last teacher said of some tokens; nothing where that was the original."""
    recipe, said = Recipe.model_validate({"steps": steps}), []
    student = seek.student(shared, recipe, Meter(Silent()), None, Keeper(Checkpoints(), "mark"), Place(0, 0, 0, 0))
    if student.build.previous is not None:
        with torch.no_grad():
            said.append(student.build.previous(input_ids=torch.arange(5, 11)[None]).logits)
    return student, said


def test_the_next_training_follows_what_the_last_one_made(judged: Shared) -> None:
    """And that does not change while it teaches."""
    _, said = made(judged, STEPS)
    first, none = made(judged, STEPS[:2])
    assert not none
    with torch.no_grad():
        ours = first.build.model.eval()(input_ids=torch.arange(5, 11)[None]).logits
    torch.testing.assert_close(said[0], ours)


def test_a_checkpoint_holds_the_teacher_of_the_training_that_runs(judged: Shared) -> None:
    """After a resume the weights that it had are nowhere else."""
    teacher = kept(judged.teacher)
    other = kept(judged.teacher)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.zero_()
    Followed(other).load_tensors(Followed(teacher).tensors())
    for ours, theirs in zip(other.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert not any(parameter.requires_grad for parameter in other.parameters())


def test_without_a_training_before_there_is_nobody_to_follow() -> None:
    with pytest.raises(ValidationError, match='is "previous", and there is no training before it'):
        Recipe.model_validate({"steps": [{"method": "ternary"}, AGAIN]})


def test_outputs_of_attention_may_be_followed_where_heads_are_gone() -> None:
    narrowed = {"method": "structured", "keep": 0.5}
    follows = {"method": "distill", "attention": 1}
    with pytest.raises(ValidationError, match="attention_outputs true"):
        Recipe.model_validate({"steps": [narrowed, follows]})
    Recipe.model_validate({"steps": [narrowed, {**follows, "attention_outputs": True}]})
