"""Low-rank modules and the surgery that puts them in place of dense ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import RecipeInvalid


class LowRankLinear(nn.Module):
    """y = (x rightᵀ) leftᵀ + bias, with left (out, r) and right (r, in)."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(F.linear(x, self.right), self.left, self.bias)


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, r) times right (r, width)."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor) -> None:
        super().__init__()
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return F.embedding(ids, self.left) @ self.right


LowRank = LowRankLinear | LowRankEmbedding


def factorize(model: nn.Module, name: str, left: torch.Tensor, right: torch.Tensor) -> None:
    """Replace the linear or embedding called `name` by its two factors. A linear keeps its bias."""
    old = model.get_submodule(name)
    new: LowRank
    if isinstance(old, nn.Embedding):
        new = LowRankEmbedding(left, right)
    elif isinstance(old, nn.Linear):
        new = LowRankLinear(left, right, old.bias)
    else:
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear or embedding can be factorized")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new.train(old.training))
