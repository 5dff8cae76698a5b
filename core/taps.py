"""Forward hooks that hear what layers say of attention: queries and keys, from which scores follow, or outputs.

Attention scores are rebuilt from the outputs of the query and key projections (names in the family's row), so every
attention implementation serves and no probability matrix is materialised by the model. They are what tokens say of one
another: turned by position where the model does so (RoPE), without the terms of a table of relative positions (MPNet,
DeBERTa), and of all pairs also where a layer looks no further than a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from core.family import Family
from core.recorded import Projected


def turned(x: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Q or K (batch, tokens, hidden) turned by position: RoPE (Su et al. 2021, arXiv 2104.09864) on halves of a head.

    Args:
        cosines, sines: (1 or batch, tokens, d_head).
    """
    heads = x.view(*x.shape[:-1], -1, cosines.shape[-1])
    first, second = heads.chunk(2, dim=-1)
    return (heads * cosines[:, :, None] + torch.cat([-second, first], dim=-1) * sines[:, :, None]).flatten(2)


class ScoreTap:
    """While entered, collects Q and K of every layer; gives Q K^T / sqrt(d_head), (batch, heads, tokens, tokens)."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        self.heads = int(getattr(model.config, family.heads))
        self.queries: dict[str, torch.Tensor] = {}  # by layer's module
        self.keys: dict[str, torch.Tensor] = {}
        self._turns: tuple[torch.Tensor, ...] = ()  # cosines and sines of the attention that runs
        self._handles: list[RemovableHandle] = []
        self._parts, self._rotary = family.attention.stacked, family.rotary
        self._tapped = [
            (module, partial(self._keep, kept, name, place))
            for name, module in model.named_modules()
            for place, (pattern, kept) in enumerate(((family.query, self.queries), (family.key, self.keys)))
            if fnmatchcase(name, pattern)
        ]
        self._turning = [
            module
            for name, module in model.named_modules()
            if family.rotary and fnmatchcase(name, family.attention.inside)
        ]

    def __enter__(self) -> ScoreTap:
        self._handles = [module.register_forward_hook(keep) for module, keep in self._tapped]
        self._handles += [module.register_forward_pre_hook(self._begin, with_kwargs=True) for module in self._turning]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Left in place, the hooks would keep the activations of every later forward, evaluation included.
        for handle in self._handles:
            handle.remove()
        if kind is not None:  # a forward that was broken off: the next one is another's
            self.queries.clear()
            self.keys.clear()
            self._turns = ()

    def _begin(self, _module: nn.Module, _inputs: Any, named: Mapping[str, Any]) -> None:
        self._turns = named[self._rotary]

    def _keep(
        self, kept: dict[str, torch.Tensor], name: str, place: int, _module: nn.Module, _inputs: Any, out: torch.Tensor
    ) -> None:
        if self._parts > 1:
            out = out.chunk(self._parts, dim=-1)[place]
        if self._turns:
            out = turned(out, *self._turns)
        kept.setdefault(name, out)  # a second call projects the table of positions: the text comes first

    def take(self) -> list[Projected]:
        """Q and K per layer of the last forward; forgets them."""
        pairs = list(zip(self.queries.values(), self.keys.values(), strict=True))
        self.queries.clear()
        self.keys.clear()
        return pairs

    def scores(self, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
        """From (batch, tokens, hidden) twice."""
        batch, tokens, hidden = query.shape
        split = (batch, tokens, self.heads, hidden // self.heads)
        q, k = query.view(split).transpose(1, 2), key.view(split).transpose(1, 2)
        return q @ k.transpose(-1, -2) / math.sqrt(split[-1])


class OutputTap:
    """While entered, collects what the attention of each layer adds to its input, (batch, tokens, hidden)."""

    def __init__(self, model: nn.Module, family: Family) -> None:
        self.outputs: dict[int, torch.Tensor] = {}  # by layer; of one without heads there is none
        self._handles: list[RemovableHandle] = []
        modules = dict(model.named_modules())
        readers = ((layer, family.attention.at(str(layer)).reader) for layer in range(depth(model, family)))
        self._tapped = [(modules[name], partial(self._keep, layer)) for layer, name in readers if name in modules]

    def __enter__(self) -> OutputTap:
        self._handles = [module.register_forward_hook(keep) for module, keep in self._tapped]
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        if kind is not None:
            self.outputs.clear()

    def _keep(self, layer: int, _module: nn.Module, _inputs: Any, out: torch.Tensor) -> None:
        self.outputs[layer] = out

    def take(self) -> dict[int, torch.Tensor]:
        """Those of the last forward; forgets them."""
        found, self.outputs = self.outputs, {}
        return found


def depth(model: nn.Module, family: Family) -> int:
    """Layers of a model."""
    return int(getattr(model.config, family.layers))
