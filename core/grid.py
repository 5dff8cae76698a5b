"""The few values that a weight may take: a level from a short list times the scale of its group.

An entry of row i and column j is levels[code] x scales[i, j // group]. Levels belong to one matrix and are not
uniform: they are fitted to it (Lloyd 1982, least squares quantization), so that any number of them is used well and a
pruned matrix spends none on the zeros that its bitmap holds already. Levels and scales are fp16 numbers: their product
in fp32 is exact, so that every runtime rebuilds the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

FITTED_ON = 1 << 18  # entries that the levels are fitted on
ROUNDS = 8


@dataclass(frozen=True)
class Grid:
    """levels: (k,) rising; scales: (rows, groups), above zero. Both fp32 that hold fp16 numbers."""

    levels: torch.Tensor
    scales: torch.Tensor
    group: int

    def scale_of(self, columns: int) -> torch.Tensor:
        """The scale of every entry, (rows, columns)."""
        return self.scales.repeat_interleave(self.group, dim=1)[:, :columns]

    def to(self, device: torch.device) -> Grid:
        return replace(self, levels=self.levels.to(device), scales=self.scales.to(device))

    def column(self, weight: torch.Tensor, number: int) -> torch.Tensor:
        """The nearest value for every entry of one column (rows,)."""
        scale = self.scales[:, number // self.group]
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return self.levels[torch.bucketize(weight.float() / scale, middles)] * scale

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """Number of the nearest level for every entry of `weight` (rows, columns)."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        return torch.bucketize(weight / self.scale_of(weight.shape[1]), middles, out_int32=True)

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """The entries (rows, columns) that these codes stand for."""
        return self.levels[codes] * self.scale_of(codes.shape[1])

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest value of the grid for every entry."""
        return self.values(self.codes(weight))


@dataclass(frozen=True)
class Half:
    """Any fp16 number."""

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest fp16 number for every entry."""
        return half(weight)


Values = Grid | Half  # what the entries of a parameter may be


def groups_of(columns: int, group: int) -> int:
    """How many scales a row has."""
    return -(-columns // group)


def half(values: torch.Tensor) -> torch.Tensor:
    """The nearest fp16 numbers, in fp32; what would vanish or overflow is kept at the ends of the range."""
    return values.clamp(-65504, 65504).half().float()


def fit(weight: torch.Tensor, importance: torch.Tensor, mask: torch.Tensor | None, levels: int, group: int) -> Grid:
    """The grid of so many levels that loses least: the sum over entries of importance x (weight - rounded)².

    Never more than the evenly spaced levels between the extremes of each group, which is rounding to nearest.

    Args:
        weight: (rows, columns) fp32.
        importance: of the same shape or broadcast to it, not negative.
        mask: entries that are not False count; None is all of them.
    """
    counted = importance.expand_as(weight).float()
    if mask is not None:
        counted = counted * mask
    here = (counted > 0).float()
    mean = (_per_group(weight.square() * here, group) / _per_group(here, group).clamp(min=1)).sqrt()
    grid = Grid(torch.zeros(levels), _scales(mean), group)
    spread = grid.scale_of(weight.shape[1])
    fitted = replace(grid, levels=_lloyd(weight / spread, counted * spread.square(), levels))
    found = [even(weight, levels, group), fitted]
    for _ in range(ROUNDS):  # the best scales for the levels that were chosen, then the levels for these scales
        chosen = fitted.levels[fitted.codes(weight)]
        best = _per_group(counted * weight * chosen, group) / _per_group(counted * chosen.square(), group)
        fitted = replace(fitted, scales=_scales(torch.where(best > 0, best, fitted.scales)))
        found.append(fitted)
    return min(found, key=lambda one: float((counted * (one.round(weight) - weight).square()).sum(dtype=torch.float64)))


def even(weight: torch.Tensor, levels: int, group: int) -> Grid:
    """Evenly spaced levels, zero among them where their number is odd; each group's largest entry at an end."""
    padded = torch.nn.functional.pad(weight.abs(), (0, -weight.shape[1] % group))
    return Grid(half(torch.linspace(-1, 1, levels)), _scales(padded.view(len(weight), -1, group).amax(dim=2)), group)


def _scales(values: torch.Tensor) -> torch.Tensor:
    return half(values).clamp(min=2.0**-14)  # the smallest normal fp16 number


def _per_group(values: torch.Tensor, group: int) -> torch.Tensor:
    """Sums over the groups of each row, (rows, groups)."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[1] % group))
    return padded.view(len(values), -1, group).sum(dim=2)


def _lloyd(values: torch.Tensor, weights: torch.Tensor, count: int) -> torch.Tensor:
    """`count` levels (rising, fp16 numbers) near a minimum of sum weights x (value - nearest level)²."""
    x, w = values.flatten(), weights.flatten()
    if len(x) > FITTED_ON:  # every n-th: the same entries at every call
        x, w = (t[:: -(-len(t) // FITTED_ON)] for t in (x, w))
    x, order = x[w > 0].sort()
    w = w[w > 0][order].double()
    if not len(x):
        return half(torch.linspace(-1, 1, count))
    total = w.cumsum(0)
    levels = torch.linspace(float(x[0]), float(x[-1]), 2 * count + 1)[1::2].double()
    sums = (w * x.double()).cumsum(0)
    for _ in range(50):
        ends = torch.searchsorted(x.double(), (levels[1:] + levels[:-1]) / 2)
        edges = torch.cat([torch.zeros(1, dtype=torch.long), ends, torch.tensor([len(x)])])
        mass, moment = (torch.cat([torch.zeros(1, dtype=torch.float64), t])[edges].diff() for t in (total, sums))
        levels = torch.where(mass > 0, moment / mass.clamp(min=1e-300), levels).sort().values
    return half(levels.float()).sort().values
