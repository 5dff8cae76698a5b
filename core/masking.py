"""Masks that grow during a phase, whoever chooses them, and masks that are held to the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from core.phase import Build, Hook
from core.prune.magnitude import density, kept_entries


def prunable(build: Build) -> dict[str, torch.nn.Parameter]:
    """Parameters that pruning may touch: the factors, or the weight, of every compressible module."""
    found: dict[str, torch.nn.Parameter] = {}
    for name in build.compressible():
        module = build.model.get_submodule(name)
        for part, parameter in module.named_parameters(recurse=False):
            if parameter.dim() == 2:
                found[f"{name}.{part}"] = parameter
    return found


def largest(score: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
    """Mask (same shape) of the `count` largest scores, none below zero, among those that `mask` still holds."""
    # Masked entries sort below every survivor, so a mask never grows back.
    scores = torch.where(mask, score, torch.full_like(score, -1.0)).flatten()
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[scores.topk(count, sorted=False).indices] = True
    return chosen.view_as(mask) & mask


@torch.no_grad()
def put(build: Build, name: str, mask: torch.Tensor) -> None:
    """Make `mask` the one of this parameter, and its masked entries zero."""
    parameter = build.model.get_parameter(name)
    build.masks[name] = mask.to(parameter.device)
    parameter.mul_(build.masks[name])


def keep_largest(build: Build, share: float) -> None:
    """Mask all but the largest `share` of every prunable parameter's entries."""
    for name, parameter in prunable(build).items():
        held = build.masks.get(name, torch.ones_like(parameter, dtype=torch.bool))
        put(build, name, largest(parameter.detach().abs(), held, kept_entries(parameter.numel(), share)))


class Gradual(Hook):
    """Prunes along the cubic schedule, in jumps. `Held` keeps entries at zero in between.

    Args:
        prune: called with the share of the entries that stays from now on.
    """

    def __init__(self, prune: Callable[[float], None], *, keep: float, ramp: float, increments: int) -> None:
        self.prune, self.keep, self.ramp, self.increments = prune, keep, ramp, increments
        self.jumps = 0

    def before_step(self, fraction: float) -> bool:
        due = min(self.increments, int(self.increments * fraction / self.ramp))
        if due > self.jumps:
            self.prune(density(due / self.increments * self.ramp, self.keep, self.ramp))
            self.jumps = due
        return False

    def settled(self) -> bool:
        return self.jumps == self.increments

    def end(self) -> None:
        if self.jumps < self.increments:  # a budget ended the phase before the ramp did
            self.prune(self.keep)
            self.jumps = self.increments

    def state_dict(self) -> dict[str, Any]:
        return {"jumps": self.jumps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.jumps = state["jumps"]


class Held(Hook):
    """Zeroes masked entries again after every optimizer step; part of every phase."""

    def __init__(self, build: Build) -> None:
        self.build = build

    @torch.no_grad()
    def after_step(self, fraction: float) -> None:
        for name, mask in self.build.masks.items():
            self.build.model.get_parameter(name).mul_(mask)
