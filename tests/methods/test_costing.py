"""The costs of a job are measured on its own text, and measuring changes nothing."""

import pytest
import torch

from core.cost import Training, share_of
from core.costing import costs
from core.distill.distill import Distill
from core.inspect import shape_of
from core.model import Loaded
from core.shared import Shared
from core.structure.structured import Structured

TRAINING = Distill(batch_size=16, max_length=64)


@pytest.mark.parametrize("rounded", [False, True])
def test_every_part_is_measured(shared: Shared, teacher: object, rounded: bool) -> None:
    found = costs(shared, Training(TRAINING, rounded), machine="here")
    shape, _ = shape_of(teacher)  # type: ignore[arg-type]
    half = Structured(keep=0.5, align=1).stored(shape.tensors())
    assert found.share == pytest.approx(share_of(half, shape.tensors()), rel=1e-3)
    assert min(*found.token, *found.step, *found.narrow, *found.update) > 0
    assert rounded or found.rounded == (0, 0)
    assert found.memory_bytes > 10**7
    lengths = [len(row) for row in shared.train.ids]
    assert sum(lengths) / len(lengths) <= found.tokens <= max(lengths)
    assert (found.machine, found.training) == ("here", Training(TRAINING, rounded).timed)
    assert found.whole == pytest.approx(sum(lengths) / len(lengths), rel=0.2)


def test_the_teacher_and_the_next_student_are_as_they_were(shared: Shared, loaded: Loaded) -> None:
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    assert shared.folder is not None
    recordings = {*shared.folder.rglob("*")}  # of the tests before this one
    costs(shared, Training(TRAINING, rounded=True), machine="here")
    after = loaded.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert all(parameter.grad is None for parameter in loaded.model.parameters())
    assert {*shared.folder.rglob("*")} == recordings  # of its own there is none, as nobody reads it again
