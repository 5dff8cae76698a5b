"""Low-rank modules and the surgery that puts them in place of dense ones."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from core.errors import RecipeInvalid


class LowRankLinear(nn.Module):
    """y = x (left right + sparse)ᵀ + bias, with left (out, r), right (r, in), sparse (out, in) or none."""

    def __init__(
        self, left: torch.Tensor, right: torch.Tensor, sparse: torch.Tensor | None, bias: torch.Tensor | None
    ) -> None:
        super().__init__()
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)
        self.sparse = None if sparse is None else nn.Parameter(sparse)
        self.bias = None if bias is None else nn.Parameter(bias.detach().clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.sparse is None:
            return F.linear(F.linear(x, self.right), self.left, self.bias)
        # One dense product costs less than a dense and two thin ones; a runtime folds the sum when it loads.
        return F.linear(x, self.left @ self.right + self.sparse, self.bias)


class LowRankEmbedding(nn.Module):
    """Rows of left (vocabulary, r) times right (r, width), plus those of sparse (vocabulary, width) or none."""

    def __init__(self, left: torch.Tensor, right: torch.Tensor, sparse: torch.Tensor | None = None) -> None:
        super().__init__()
        self.left = nn.Parameter(left)
        self.right = nn.Parameter(right)
        self.sparse = None if sparse is None else nn.Parameter(sparse)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows = F.embedding(ids, self.left) @ self.right
        return rows if self.sparse is None else rows + F.embedding(ids, self.sparse)


LowRank = LowRankLinear | LowRankEmbedding


def factorize(
    model: nn.Module, name: str, left: torch.Tensor, right: torch.Tensor, sparse: torch.Tensor | None = None
) -> None:
    """Replace the linear or embedding called `name` by two factors, and a third part added to their product if given.

    A linear keeps its bias.
    """
    old = model.get_submodule(name)
    here = next(old.parameters(), torch.empty(0)).device  # factors are computed on the CPU, in float64
    left, right = left.to(here), right.to(here)
    sparse = None if sparse is None else sparse.to(here)
    new: LowRank
    if isinstance(old, nn.Embedding):
        new = LowRankEmbedding(left, right, sparse)
    elif isinstance(old, nn.Linear):
        new = LowRankLinear(left, right, sparse, old.bias)
    else:
        raise RecipeInvalid(f"{name} is a {type(old).__name__}: only a dense linear or embedding can be factorized")
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, new.train(old.training))
