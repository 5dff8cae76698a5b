"""The few values that a weight may take: a level from a short list times the scale of its group.

An entry of row i and column j is levels[code] x scales[i, j // group]. Levels belong to one matrix and are not
uniform: they are fitted to it (Lloyd 1982, least squares quantization), so that any number of them is used well and a
pruned matrix spends none on the zeros that its bitmap holds already. Levels and scales are fp16 numbers: their product
in fp32 is exact, so that every runtime rebuilds the same bits. Scales of one matrix are at most `codes.SCALES`
different numbers, evenly spaced in their logarithm, so that a byte names each: between the smallest and one a hundred
times as large that is a step of 1.8 %, far below what a level is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Self

import torch

from core import codes

FITTED_ON = 1 << 18  # entries that the levels are fitted on
SAMPLED = 1 << 20  # entries that levels and scales are fitted on together
ROUNDS = 6
STILL = 1e-3  # of the mean distance between levels: when none moves further they stay
SMALLEST = 2.0**-14  # normal fp16 number
BINS = 1 << 12


@dataclass(frozen=True)
class Grid:
    """levels: (k,) rising; scales: (rows, groups), above zero. Both fp32 that hold fp16 numbers."""

    levels: torch.Tensor
    scales: torch.Tensor
    group: int

    @property
    def int8(self) -> bool:
        """Whether it is that of `whole`."""
        return len(self.levels) == codes.INT8

    def scale_of(self, columns: int) -> torch.Tensor:
        """The scale of every entry, (rows, columns)."""
        return self.scales.repeat_interleave(self.group, dim=1)[:, :columns]

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it is, by field."""
        return {"levels": self.levels, "scales": self.scales}

    def of(self, tensors: Mapping[str, torch.Tensor]) -> Self:
        """The same kind of grid, of other `tensors`."""
        changed: dict[str, Any] = {name: tensors[name] for name in self.tensors()}
        return replace(self, **changed)

    def to(self, device: torch.device) -> Self:
        return self.of({name: tensor.to(device) for name, tensor in self.tensors().items()})

    def rows(self, chosen: torch.Tensor) -> Grid:
        """The grid of these rows alone."""
        found = replace(self, scales=self.scales[chosen])
        vars(found)["_binned"] = self._binned
        return found

    def column(self, weight: torch.Tensor, number: int) -> torch.Tensor:
        """The nearest value for every entry of one column (rows,)."""
        scale = self.scales[:, number // self.group]
        return self.levels[torch.bucketize(weight.float() / scale, self._middles)] * scale

    def codes(self, weight: torch.Tensor) -> torch.Tensor:
        """Number of the nearest level for every entry of `weight` (rows, columns)."""
        return torch.bucketize(weight / self.scale_of(weight.shape[1]), self._middles, out_int32=True)

    def values(self, codes: torch.Tensor) -> torch.Tensor:
        """The entries (rows, columns) that these codes stand for."""
        return self.levels[codes] * self.scale_of(codes.shape[1])

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest value of the grid for every entry."""
        return self.values(self.codes(weight))

    def quick(self, weight: torch.Tensor) -> torch.Tensor:
        """A value of the grid for every entry, at about a fifth of the cost of `round`.

        The nearest but for entries within 1 / BINS of the levels' span of a middle between two, which may go to either.
        """
        table, lowest, per = self._binned
        rows, columns = weight.shape
        short = -columns % self.group
        padded = torch.nn.functional.pad(weight, (0, short)) if short else weight
        place = padded.view(rows, self.scales.shape[1], self.group) * (self.scales.reciprocal() * per)[:, :, None]
        place = place.sub_(lowest * per).clamp_(0, BINS - 1).int()
        found = table.index_select(0, place.view(-1)).view(place.shape) * self.scales[:, :, None]
        return found.view(padded.shape)[:, :columns]

    @property
    def _middles(self) -> torch.Tensor:
        return (self.levels[1:] + self.levels[:-1]) / 2

    @cached_property
    def _binned(self) -> tuple[torch.Tensor, float, float]:
        """The nearest level of each of BINS places between the first level and the last; the first; places per unit."""
        lowest, span = float(self.levels[0]), float(self.levels[-1] - self.levels[0])
        per = BINS / span if span > 0 else 0.0
        centres = lowest + (torch.arange(BINS, device=self.levels.device) + 0.5) * (span / BINS)
        return self.levels[torch.bucketize(centres, self._middles)], lowest, per


def whole(weight: torch.Tensor) -> Grid:
    """-64 to 64 times one scale a row (fp16), the largest entry at the end: int8 that every runtime multiplies exactly.

    A scale for the whole matrix would be no faster: the product of integers is scaled afterwards, column by column.
    """
    largest = weight.abs().amax(dim=1, keepdim=True)
    most = codes.INT8 // 2
    return Grid(torch.arange(-most, most + 1.0), half(largest / most).clamp(min=SMALLEST), weight.shape[1])


@dataclass(frozen=True)
class Half:
    """Any fp16 number."""

    def round(self, weight: torch.Tensor) -> torch.Tensor:
        """The nearest fp16 number for every entry."""
        return half(weight)

    def quick(self, weight: torch.Tensor) -> torch.Tensor:
        """The same."""
        return half(weight)


Values = Grid | Half  # what the entries of a parameter may be


def groups_of(columns: int, group: int) -> int:
    """How many scales a row has."""
    return -(-columns // group)


def half(values: torch.Tensor) -> torch.Tensor:
    """The nearest fp16 numbers, in fp32; what would vanish or overflow is kept at the ends of the range."""
    return values.clamp(-65504, 65504).half().float()


def fit(weight: torch.Tensor, importance: torch.Tensor, mask: torch.Tensor | None, levels: int, group: int) -> Grid:
    """A grid of so many levels near the least loss: the sum over entries of importance x (weight - rounded)².

    Levels and scales are fitted in turn, on every n-th row where the matrix is large; then the scales of every row to
    these levels. Never more than the evenly spaced levels between the extremes of each group, rounding to nearest.

    Args:
        weight: (rows, columns) fp32.
        importance: of the same shape or broadcast to it, not negative.
        mask: entries that are not False count; None is all of them.
    """
    group = min(group, weight.shape[1])
    counted = importance.expand_as(weight).float()
    if mask is not None:
        counted = counted * mask

    def loss(grid: Grid) -> float:
        return float((counted * (grid.quick(weight) - weight).square()).sum(dtype=torch.float64))

    few = slice(None, None, -(-weight.numel() // SAMPLED))
    begun = _start(weight, counted, levels, group)
    found = _fitted(weight[few], counted[few], replace(begun, scales=begun.scales[few])).levels
    fitted = _rescaled(weight, counted, replace(begun, levels=found))
    candidates = (even(weight, levels, group), replace(begun, levels=found), fitted, _rescaled(weight, counted, fitted))
    return min(candidates, key=loss)


def _start(weight: torch.Tensor, counted: torch.Tensor, levels: int, group: int) -> Grid:
    """Scales that are the root mean square of what counts in each group; levels of no account."""
    here = (counted > 0).float()
    mean = (_per_group(weight.square() * here, group) / _per_group(here, group).clamp(min=1)).sqrt()
    return Grid(torch.zeros(levels), _scales(mean, torch.round), group)


def _fitted(weight: torch.Tensor, counted: torch.Tensor, grid: Grid) -> Grid:
    """Levels for these scales and scales for these levels, in turn; the last levels."""
    for number in range(ROUNDS):
        spread, start = grid.scale_of(weight.shape[1]), grid.levels if number else None
        grid = replace(grid, levels=_lloyd(weight / spread, counted * spread.square(), len(grid.levels), start))
        grid = _rescaled(weight, counted, grid)
    return grid


def _rescaled(weight: torch.Tensor, counted: torch.Tensor, grid: Grid) -> Grid:
    """The scales that lose least with the levels that are nearest now."""
    chosen = grid.quick(weight) / grid.scale_of(weight.shape[1])
    best = _per_group(counted * weight * chosen, grid.group) / _per_group(counted * chosen.square(), grid.group)
    return replace(grid, scales=_scales(torch.where(best > 0, best, grid.scales), torch.round))


def even(weight: torch.Tensor, levels: int, group: int) -> Grid:
    """Evenly spaced levels, zero among them where their number is odd; each group's largest entry within the ends."""
    padded = torch.nn.functional.pad(weight.abs(), (0, -weight.shape[1] % group))
    largest = padded.view(len(weight), -1, group).amax(dim=2)
    return Grid(half(torch.linspace(-1, 1, levels)), _scales(largest, torch.ceil), group)


def _scales(values: torch.Tensor, to: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """fp16 numbers near `values`; of at most SCALES different ones where the file holds them in a table.

    Args:
        to: which number of the table a value between two takes.
    """
    exact = half(values).clamp(min=SMALLEST)
    if not codes.scales_in_table(exact.numel()):
        return exact
    low, high = (math.log(float(end)) for end in exact.aminmax())
    if low == high:
        return exact
    step = (high - low) / (codes.SCALES - 1)
    places = to((exact.log() - low) / step).clamp(0, codes.SCALES - 1)
    table = half((low + step * torch.arange(codes.SCALES, device=values.device)).exp())
    return table.clamp(min=SMALLEST)[places.long()]


def representable(scales: torch.Tensor) -> torch.Tensor:
    """The nearest scales that a file can hold, where so many stand in one matrix."""
    return _scales(scales, torch.round)


def _per_group(values: torch.Tensor, group: int) -> torch.Tensor:
    """Sums over the groups of each row, (rows, groups)."""
    padded = torch.nn.functional.pad(values, (0, -values.shape[1] % group))
    return padded.view(len(values), -1, group).sum(dim=2)


def _lloyd(values: torch.Tensor, weights: torch.Tensor, count: int, start: torch.Tensor | None = None) -> torch.Tensor:
    """`count` levels (rising, fp16 numbers) near a minimum of sum weights x (value - nearest level)².

    Args:
        start: levels to begin with; None spaces them evenly.
    """
    x, w = values.flatten(), weights.flatten()
    if len(x) > FITTED_ON:
        x, w = (t[:: -(-len(t) // FITTED_ON) | 1] for t in (x, w))  # odd: no stride that sees some columns only
    x, order = x[w > 0].sort()
    w = w[w > 0][order].double()
    if not len(x):
        return half(torch.linspace(-1, 1, count))
    total = w.cumsum(0)
    levels = torch.linspace(float(x[0]), float(x[-1]), 2 * count + 1)[1::2] if start is None else start
    levels, x = levels.double(), x.double()
    sums, near = (w * x).cumsum(0), STILL * float(x[-1] - x[0]) / count
    for _ in range(50):
        ends = torch.searchsorted(x, (levels[1:] + levels[:-1]) / 2)
        edges = torch.cat([torch.zeros(1, dtype=torch.long), ends, torch.tensor([len(x)])])
        mass, moment = (torch.cat([torch.zeros(1, dtype=torch.float64), t])[edges].diff() for t in (total, sums))
        before, levels = levels, torch.where(mass > 0, moment / mass.clamp(min=1e-300), levels).sort().values
        if float((levels - before).abs().max()) <= near:
            break
    return half(levels.float()).sort().values
