"""The student of an earlier training as the teacher of the next one (`distill.teacher` "previous")."""

from __future__ import annotations

import copy

import torch
from torch import nn

from core.phase import Hook


def kept(model: nn.Module) -> nn.Module:
    """The model as it is now, to be asked and not to be trained."""
    return copy.deepcopy(model).eval().requires_grad_(False)


class Followed(Hook):
    """Keeps that teacher's weights in checkpoints: after a resume nothing else knows what they were."""

    def __init__(self, teacher: nn.Module) -> None:
        self.teacher = teacher

    def tensors(self) -> dict[str, torch.Tensor]:
        return dict(self.teacher.state_dict())

    def load_tensors(self, tensors: dict[str, torch.Tensor]) -> None:
        self.teacher.load_state_dict(tensors)
