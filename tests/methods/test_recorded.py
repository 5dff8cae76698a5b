"""The teacher's answers, recorded once: the same as asked anew, in any order and company."""

import copy
from pathlib import Path

import pytest
import torch

from core import shared as shared_module
from core.losses import Distillation
from core.model import Loaded
from core.shared import Shared

CPU = torch.device("cpu")
WEIGHTS = {"logits": 1.0, "hidden": 1.0, "attention": 0.0}


def test_recorded_answers_are_those_of_the_teacher(loaded: Loaded, shared: Shared) -> None:
    text = shared.text(50, 64)
    recorded = shared.recorded(text)
    assert recorded is not None
    assert shared.recorded(shared.text(50, 64)) is recorded
    student = copy.deepcopy(loaded.model)
    for parameter in student.parameters():
        parameter.mul_(0.9)
    batch = text.collate([31, 4, 15, 9], CPU)
    losses = [
        Distillation(
            student, loaded.model, loaded.family,
            weights=WEIGHTS, temperature=2.0, layer_map="identity", relative=True, recorded=source,
        ).step(batch, lambda _loss: None)
        for source in (recorded, None)
    ]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=2e-3)


def test_a_full_disk_or_no_folder_asks_the_teacher_anew(
    shared: Shared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Shared(shared.teacher, shared.family, shared.train, 0, CPU, None)
    assert bare.recorded(bare.text(None, 64)) is None
    monkeypatch.setattr(shared_module, "fits", lambda _folder, _size: False)
    full = Shared(shared.teacher, shared.family, shared.train, 0, CPU, tmp_path)
    assert full.recorded(full.text(None, 64)) is None
    assert list(tmp_path.iterdir()) == []
