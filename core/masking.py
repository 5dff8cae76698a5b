"""Masks that grow during a phase by magnitude and are held to the end."""

from __future__ import annotations

import torch

from core.phase import Build, Hook, Phase
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


def largest(weight: torch.Tensor, mask: torch.Tensor, count: int) -> torch.Tensor:
    """Mask (same shape) of the `count` largest |entries| among those that `mask` still holds."""
    # Masked entries sort below every survivor, so a mask never grows back.
    scores = torch.where(mask, weight.abs(), torch.full_like(weight, -1.0)).flatten()
    chosen = torch.zeros_like(scores, dtype=torch.bool)
    chosen[scores.topk(count, sorted=False).indices] = True
    return chosen.view_as(mask) & mask


class Masking(Hook):
    """Removes entries along the cubic schedule and re-zeroes them after every optimizer step."""

    def __init__(self, build: Build, *, keep: float, ramp: float, increments: int) -> None:
        self.build, self.keep, self.ramp, self.increments = build, keep, ramp, increments
        self.parameters: dict[str, torch.nn.Parameter] = {}
        self.jumps = 0

    def start(self, phase: Phase) -> None:
        self.parameters = prunable(self.build)
        for name, parameter in self.parameters.items():
            self.build.masks.setdefault(name, torch.ones_like(parameter, dtype=torch.bool))

    def before_step(self, fraction: float) -> bool:
        due = min(self.increments, int(self.increments * fraction / self.ramp))
        if due > self.jumps:
            self._shrink(density(due / self.increments * self.ramp, self.keep, self.ramp))
            self.jumps = due
        return False

    def after_step(self, fraction: float) -> None:
        self._apply()

    def end(self) -> None:
        if self.jumps < self.increments:  # a budget ended the phase before the ramp did
            self._shrink(self.keep)
            self.jumps = self.increments

    @torch.no_grad()
    def _shrink(self, share: float) -> None:
        for name, parameter in self.parameters.items():
            mask = self.build.masks[name]
            count = kept_entries(parameter.numel(), share)
            self.build.masks[name] = largest(parameter, mask, count)
        self._apply()

    @torch.no_grad()
    def _apply(self) -> None:
        for name, parameter in self.parameters.items():
            parameter.mul_(self.build.masks[name])
