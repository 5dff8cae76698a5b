"""Weights of three values, -a, 0 and a, whose a moves with what is trained beside them.

Three ways to choose a and which entries are zero, for a row or a whole matrix w:

- `twn`: zero up to 0.7 of the mean |w|, a the mean of the other |w| (Li and Liu 2016, arXiv 1605.04711).
- `exact`: the least sum of d (w - value)². Whatever a is, the best value of an entry is zero up to a / 2; so the
  entries that are not zero are the k largest |w| for some k, and a sort tries every k.
- one alternation: for an a, which entries are zero; for these, a (Hou and Kwok 2018, arXiv 1802.08635, in the form of
  TernaryBERT, Zhang et al. 2020, arXiv 2009.12812, with d the root of Adam's second moment). Never a step back, and
  cheap enough to be made after each step of a training.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from core.grid import SMALLEST
from core.moving import Moving

Form = Literal["twn", "exact"]
LEVELS = (-1.0, 0.0, 1.0)
TWN = 0.7


@dataclass(frozen=True)
class Ternary(Moving):
    """A grid of three levels. cut: (rows, 1), up to which an entry is zero. form: how `refit` finds both."""

    cut: torch.Tensor
    form: Form

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it is, by field."""
        return {**super().tensors(), "cut": self.cut}

    def rows(self, chosen: torch.Tensor) -> Self:
        """The grid of these rows alone."""
        return replace(self, scales=self.scales[chosen], cut=self.cut[chosen])

    def quick(self, weight: torch.Tensor) -> torch.Tensor:
        """Each entry's value, by `cut`; one that has a value already keeps it."""
        return weight.sign() * (weight.abs() > self.cut) * self.scales

    def refit(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Self:
        """By the rule of `form`; of "exact" one alternation."""
        size = self.flat(weight.abs())
        if self.form == "twn":
            return self._with(*twn(size))
        counted = (size > self.flat(self.cut.expand_as(weight))).float()
        if importance is not None:
            counted = counted * self.flat(importance)
        return self.scaled(self.mean(size, counted))

    def scaled(self, scale: torch.Tensor) -> Self:
        """The same with other scales, and each cut half of its scale."""
        return self._with(scale, scale / 2)

    def _with(self, scale: torch.Tensor, cut: torch.Tensor) -> Self:
        cut = torch.where(scale < SMALLEST, SMALLEST / 2, cut)  # the scale is that, and small weights are not to grow
        return replace(super().scaled(scale), cut=cut.expand(len(self.scales), 1).contiguous())


def ternary(weight: torch.Tensor, form: Form, *, shared: bool, loss_aware: bool = False) -> Ternary:
    """The grid to begin with.

    Args:
        weight: (rows, columns) fp32.
        shared: one scale for all rows, else one for each.
    """
    size = weight.abs().reshape(1, -1) if shared else weight.abs()
    scale, cut = twn(size) if form == "twn" else exact(size)
    blank = torch.zeros(len(weight), 1, device=weight.device)
    levels = torch.tensor(LEVELS, device=weight.device)
    begun = Ternary(levels, blank, weight.shape[1], shared, loss_aware and form == "exact", blank, form)
    return begun._with(scale, cut)


def twn(size: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and cut of |w| (rows, columns), one of each a row."""
    cut = TWN * size.mean(dim=1, keepdim=True)
    large = size > cut
    scale = (size * large).sum(dim=1, keepdim=True) / large.sum(dim=1, keepdim=True).clamp(min=1)
    return scale, cut


def exact(size: torch.Tensor, importance: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, of the least weighted square error: the k largest entries spare (sum d |w|)² / sum d of it."""
    ordered, order = size.double().sort(dim=1, descending=True)
    weights = torch.ones_like(ordered) if importance is None else importance.double().gather(1, order)
    mass, moment = weights.cumsum(dim=1), (weights * ordered).cumsum(dim=1)
    spared = torch.where(mass > 0, moment.square() / mass.clamp(min=1e-300), torch.zeros_like(mass))
    place = spared.argmax(dim=1, keepdim=True)
    scale = moment.gather(1, place) / mass.gather(1, place).clamp(min=1e-300)
    return scale.float(), scale.float() / 2
