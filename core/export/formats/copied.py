"""A copy of a student to be changed, in modules that every runtime multiplies as they are."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import nn

from core.method import PARTS
from core.mixed import MixedLinear
from core.phase import Build
from core.surgery import LowRankLinear, SumLinear, rounding_inputs


@torch.no_grad()
def copied(build: Build, *, rounding: bool) -> Build:
    """`build` with a model of its own. A linear whose weight is a sum, or sorted by bits, is one matrix in it: a
    runtime that folds nothing would put it together at every call.

    Args:
        rounding: linears that round their inputs go on doing so; else they take them as they come.
    """
    model = copy.deepcopy(build.model).cpu().eval()
    masks, values = dict(build.masks), dict(build.values)
    for name, module in [*model.named_modules()]:
        if (weight := _summed(module)) is not None:
            bias: nn.Parameter | None = module.bias  # of a linear
            summed = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
            summed.weight = nn.Parameter(weight)
            if bias is not None:
                summed.bias = bias
            model.set_submodule(name, summed.eval())
            for part in PARTS:
                masks.pop(f"{name}{part}", None)
                values.pop(f"{name}{part}", None)
    if not rounding:
        for module in rounding_inputs(model).values():
            module.dynamic = False  # type: ignore[assignment]
    return replace(build, model=model, hooks=[], masks=masks, values=values)


def _summed(module: nn.Module) -> torch.Tensor | None:
    """The weight of a linear that is a sum, or sorted by bits."""
    if isinstance(module, SumLinear | MixedLinear):
        return module.dense()
    if isinstance(module, LowRankLinear) and module.sparse is not None and not module.dynamic:
        return module.dense()
    return None
