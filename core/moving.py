"""Grids whose scales follow the weights that are trained beside them, of one scale a row or one a matrix."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import torch

from core.grid import SMALLEST, Grid, representable


@dataclass(frozen=True)
class Moving(Grid, ABC):
    """shared: one scale for all rows. loss_aware: `refit` wants to be told how much each entry counts."""

    shared: bool
    loss_aware: bool

    @abstractmethod
    def refit(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Self:
        """The grid after the weights have moved to these.

        Args:
            importance: of the shape of `weight`; every entry counts alike where None.
        """

    def like(self, rounded: torch.Tensor) -> Self:
        """The grid that these weights, rounded before, are on; a row of zeros gets the scale of another."""
        largest = rounded.abs().amax(dim=1, keepdim=True)
        return self.scaled(torch.where(largest > 0, largest, largest.amax().clamp(min=SMALLEST)))

    def scaled(self, scale: torch.Tensor) -> Self:
        """The same with other scales, (rows, 1) or (1, 1)."""
        return replace(self, scales=representable(scale.expand(len(self.scales), 1)))

    def mean(self, size: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
        """Of each row of `flat` the mean of what counts, as much as it counts; the scale of now where nothing does."""
        mass = counted.sum(dim=1, keepdim=True)
        found = (counted * size).sum(dim=1, keepdim=True) / mass.clamp(min=torch.finfo(mass.dtype).tiny)
        return torch.where(mass > 0, found, self.scales[: len(mass)])

    def flat(self, weight: torch.Tensor) -> torch.Tensor:
        """`weight` with a row for each scale."""
        return weight.reshape(1, -1) if self.shared else weight
