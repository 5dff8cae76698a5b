"""Weights of two values, -a and a, and how a weight of three values becomes the sum of two of two.

Binary: a is the mean |w| of a row or matrix (Rastegari et al. 2016, arXiv 1603.05279, equation 6), which is the least
square error. Ternary weight splitting (Bai et al. 2021, BinaryBERT, arXiv 2012.15701, section 3.2): w with ternary form
t of scale a becomes w1 + w2 = w, such that both have mean |.| a / 2, and so their binary forms add up to t exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch

from core.grid import SMALLEST
from core.moving import Moving

LEVELS = (-1.0, 1.0)


@dataclass(frozen=True)
class Binary(Moving):
    """A grid of two levels."""

    def quick(self, weight: torch.Tensor) -> torch.Tensor:
        """The scale with the sign of each entry; that of zero is plus."""
        return torch.where(weight >= 0, self.scales, -self.scales)

    def refit(self, weight: torch.Tensor, importance: torch.Tensor | None = None) -> Self:
        """The mean size of the entries, as they count."""
        size = self.flat(weight.abs())
        counted = torch.ones_like(size) if importance is None else self.flat(importance)
        return self.scaled(self.mean(size, counted))


def binary(weight: torch.Tensor, *, shared: bool) -> Binary:
    """The grid to begin with.

    Args:
        weight: (rows, columns) fp32.
        shared: one scale for all rows, else one for each.
    """
    blank = torch.ones(len(weight), 1, device=weight.device)
    levels = torch.tensor(LEVELS, device=weight.device)
    return Binary(levels, blank, weight.shape[1], shared, loss_aware=False).refit(weight)


def split(weight: torch.Tensor, rounded: torch.Tensor, *, shared: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Two weights that add up to `weight`, float64, and whose binary forms add up to `rounded`.

    Args:
        weight: (rows, columns), as it was trained.
        rounded: its ternary form: 0, or the scale of its row with its sign.
        shared: one scale for all rows.

    Where no such two are (a scale below the mean size, or one that a few entries dwarf), it is `rounded` that they
    add up to.
    """
    w, t = (each.double().reshape(1, -1) if shared else each.double() for each in (weight, rounded))
    first = _halves(w, t)
    bad = first.isnan().any(dim=1, keepdim=True)
    w = torch.where(bad, t, w)
    first = torch.where(bad, _halves(t, t), first)
    first = torch.where(first.isnan(), SMALLEST, first)  # of a row of zeros: two that are each other's opposite
    return first.reshape(weight.shape), (w - first).reshape(weight.shape)


def _halves(w: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """w1 of each row; all of it NaN where signs would not come out right."""
    size, large = w.abs(), t != 0
    above, below = ~large & (w > 0), ~large & (w <= 0)
    scale, zeros = t.abs().amax(dim=1, keepdim=True), (~large).sum(dim=1, keepdim=True)
    count, whole = w.shape[1], size.sum(dim=1, keepdim=True)
    sums = [(size * chosen).sum(dim=1, keepdim=True) for chosen in (large, above, below)]
    share = (sums[0] + sums[2] - sums[1]) / (2 * sums[0])
    shift = (count * scale - whole) / (2 * zeros)
    shift = torch.where(zeros > 0, shift, torch.full_like(shift, torch.inf))
    first = torch.where(large, share * w, torch.where(above, w + shift, shift))
    good = (shift > 0) & (((share > 0) & (share < 1)) | (sums[0] == 0))
    agree = (w.sign() == t.sign()).logical_or(~large).all(dim=1, keepdim=True)
    agree &= (zeros > 0) | (w == t).all(dim=1, keepdim=True)  # without zeros the mean is what it is
    return torch.where(good & agree, first, torch.full_like(first, torch.nan))
