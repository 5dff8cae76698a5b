"""Low-rank modules and the surgery that puts them in place of dense ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F


class LowRankLinear(nn.Module):
    """y = (x rightᵀ) leftᵀ + bias, with left (out, r) and right (r, in)."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.left = nn.Parameter(left.contiguous())
        self.right = nn.Parameter(right.contiguous())
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.right), self.left, self.bias)


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, r) times right (r, width)."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.left = nn.Parameter(left.contiguous())
        self.right = nn.Parameter(right.contiguous())

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.left) @ self.right


LowRank = LowRankLinear | LowRankEmbedding


def factorize(model: nn.Module, name: str, left: torch.Tensor, right: torch.Tensor) -> None:
    """Replace the linear or embedding called `name` by its two factors. A linear keeps its bias."""
    old = model.get_submodule(name)
    new = LowRankEmbedding(left, right) if isinstance(old, nn.Embedding) else LowRankLinear(left, right, old.bias)
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new.train(old.training))
