"""Weights whose rows are stored in different numbers of bits: the modules, and putting them in place."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn
from torch.nn import functional as F

from core import codes
from core.errors import RecipeInvalid
from core.method import part_of
from core.surgery import place_type, put_module


class Mixed(nn.Module):
    """Rows of one weight, sorted by how many levels they have: a matrix each, named by `core.method.part_of`.

    row: which row of those matrices, stacked in rising order of levels, stands where; the number after the last is a
    row of zeros. shape: that of the weight; a table whose rows several tokens share has fewer than `row`.
    """

    row: torch.Tensor

    def __init__(self, parts: Mapping[int, torch.Tensor], row: torch.Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shape, self.kinds = shape, sorted(parts)
        for levels in self.kinds:
            self.register_parameter(part_of(levels), nn.Parameter(parts[levels]))
        self.register_buffer("row", row)

    def stacked(self) -> torch.Tensor:
        """All rows that are stored, and one of zeros."""
        return torch.cat([*self.matrices(), torch.zeros(1, self.shape[1], device=self.row.device)])

    def matrices(self) -> list[nn.Parameter]:
        return [self.get_parameter(part_of(levels)) for levels in self.kinds]

    def within(self, part: str, ids: torch.Tensor) -> torch.Tensor:
        """Of the rows that are read for `ids` those of one part, counted from its first."""
        asked, start = self.row[ids].long(), 0
        for levels, matrix in zip(self.kinds, self.matrices(), strict=True):
            if part == part_of(levels):
                return asked[(asked >= start) & (asked < start + len(matrix))] - start
            start += len(matrix)
        raise KeyError(part)


class MixedLinear(Mixed):
    """y = x weightᵀ + bias."""

    def __init__(
        self,
        parts: Mapping[int, torch.Tensor],
        row: torch.Tensor,
        shape: tuple[int, int],
        bias: torch.Tensor | None,
    ) -> None:
        super().__init__(parts, row, shape)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def dense(self) -> torch.Tensor:
        """The weight, (out, in)."""
        return self.stacked()[self.row.long()]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        # The order of rows, not that of outputs: a runtime puts it right once, when it loads.
        return F.linear(x, self.dense(), self.bias)


class MixedEmbedding(Mixed):
    """A table of which a token reads one row."""

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(self.row[ids].long(), self.stacked())


@torch.no_grad()
def mix_rows(model: nn.Module, name: str, levels: torch.Tensor, weight: torch.Tensor) -> None:
    """Replace the linear or embedding called `name`, which keeps its bias and the rows that its tokens share.

    Args:
        levels: (rows,) of each row of `weight`; 0 is a row of zeros.
        weight: (rows, columns).
    """
    old = model.get_submodule(name)
    here = next(old.parameters()).device
    weight, levels = weight.to(here), levels.to(here)
    parts = {count: weight[levels == count] for count in codes.DIGITS if bool((levels == count).any())}
    row = torch.full((len(levels),), int((levels > 0).sum()), device=here)
    start = 0
    for count in sorted(parts):
        row[levels == count] = torch.arange(start, start + len(parts[count]), device=here)
        start += len(parts[count])
    row = row.to(place_type(len(levels)))
    shape = (len(weight), weight.shape[1])
    if isinstance(old, nn.Embedding):
        shared = getattr(old, "row", None)
        put_module(model, name, MixedEmbedding(parts, row if shared is None else row[shared.long()], shape))
    elif isinstance(old, nn.Linear) and not getattr(old, "dynamic", False):
        put_module(model, name, MixedLinear(parts, row, shape, old.bias))
    else:
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear or embedding has rows to sort")
