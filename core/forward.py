"""What a model of any task gives back, as tensors."""

from __future__ import annotations

from typing import Any

import torch

from core.task import TASKS

NAMES = tuple(dict.fromkeys(task.outputs for task in TASKS.values()))


def named(out: Any) -> dict[str, torch.Tensor]:
    """The outputs that are the model's answer, called as in model.onnx."""
    for names in NAMES:
        if all(getattr(out, name, None) is not None for name in names):
            return {name: getattr(out, name) for name in names}
    raise TypeError(f"{type(out).__name__} has none of {NAMES}")


def logits_of(out: Any) -> torch.Tensor:
    """(rows, width), or (rows, tokens, width) where a model answers token by token: start and end side by side."""
    found = list(named(out).values())
    return found[0] if len(found) == 1 else torch.stack(found, dim=-1)
