"""Second moments of a model's layers on text: what each layer sees, and what the distillation loss feels of it.

For y = W x the loss that an error D of W causes is, to second order and with inputs and gradients taken as
independent (K-FAC: Martens and Grosse 2015, arXiv 1503.05671), 1/2 tr(G D C Dᵀ) with C = E[x xᵀ] over tokens and
G = sum over a row's tokens of E[g gᵀ], g = dL/dy. A word embedding is W = tableᵀ on one-hot inputs: C is diagonal,
the frequency of each token. A linear that also projects a table of positions (DeBERTa) is one whose every position that
a text reads is a token more.

At the teacher itself the gradient of the distillation loss is zero; its curvature is not. One backward of a random
vector whose covariance is the curvature gives g (Gauss-Newton): for the outputs `core.likelihood.Likelihood.root`, for
the squared error of a hidden state a Gaussian of the error's scale.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from core.batches import Batch, inputs
from core.errors import TrainingDiverged
from core.family import Family
from core.forward import logits_of
from core.likelihood import Likelihood

UNSEEN = 0.3  # count given to every token of the vocabulary, so that words beyond the sample keep some weight


@dataclass(frozen=True)
class Moments:
    """Of one layer, float64 on the CPU, never singular after `damped`.

    inputs: (in, in) mean of x xᵀ for a linear; (vocabulary,) share of each token for the embedding.
    outputs: (out, out) for a linear, (width, width) for the embedding: sum over a row's tokens of g gᵀ, mean over rows.
    mean: (in,) mean of x for a linear; None where nothing needs it.
    """

    inputs: torch.Tensor
    outputs: torch.Tensor
    mean: torch.Tensor | None = None

    def of(self, rows: torch.Tensor | None, columns: torch.Tensor | None) -> Moments:
        """Those of a linear of which only these rows and columns are left, or of an embedding with these rows."""
        inputs, outputs, mean = self.inputs, self.outputs, self.mean
        if inputs.dim() == 1:
            return Moments(inputs if rows is None else inputs[rows.cpu()], outputs, mean)
        if columns is not None:
            inputs, mean = inputs[columns][:, columns], None if mean is None else mean[columns]
        return Moments(inputs, outputs if rows is None else outputs[rows][:, rows], mean)


def damped(moment: torch.Tensor, share: float) -> torch.Tensor:
    """`moment` + share x its mean diagonal on the diagonal; the identity where it is zero (a layer without effect).

    Raises TrainingDiverged where it is not finite.
    """
    mean = moment.diagonal().mean()
    if not math.isfinite(float(mean)):
        raise TrainingDiverged(
            "calibration: the teacher's states or their gradients are not finite on the training rows"
        )
    if not float(mean) > 0:
        return torch.eye(len(moment), dtype=moment.dtype)
    return moment + share * mean * torch.eye(len(moment), dtype=moment.dtype)


def moments(
    model: nn.Module,
    family: Family,
    batches: Iterable[Batch],
    *,
    temperature: float = 2.0,
    hidden: float = 1.0,
    seed: int = 0,
    likelihood: Likelihood | None = None,
) -> dict[str, Moments]:
    """Moments of every compressible layer of `model` over `batches`. The model is unchanged, in evaluation mode.

    Args:
        temperature: of the soft-logit term.
        hidden: weight of the hidden states, each in units of its own variance, beside the logits' weight of 1.
    """
    model.eval()
    taps = {name: _Tap(model.get_submodule(name)) for name in family.compressible(model)}
    generator = torch.Generator(device=next(model.parameters()).device).manual_seed(seed)
    rows = 0
    try:
        for batch in batches:
            valid = batch["attention_mask"].bool()
            with torch.enable_grad():
                out = model(**inputs(batch), output_hidden_states=bool(hidden))
                total = (likelihood or Likelihood()).root(logits_of(out), valid, temperature, generator)
                root = total + _of_states(out, valid, hidden, generator) if hidden else total
            root.backward()  # type: ignore[no-untyped-call]
            model.zero_grad(set_to_none=True)
            for tap in taps.values():
                tap.take(batch["input_ids"], valid)
            rows += len(valid)
    finally:
        for tap in taps.values():
            tap.handle.remove()
    return {name: tap.moments(rows) for name, tap in taps.items()}


def _of_states(out: Any, valid: torch.Tensor, hidden: float, generator: torch.Generator) -> torch.Tensor:
    """A scalar whose gradient is one draw of the root of the curvature of the hidden states' error, over rows."""
    states: tuple[torch.Tensor, ...] = out.hidden_states
    total = states[0].new_zeros(())
    mask = valid[:, :, None].to(total.dtype)
    per_row = mask.sum(dim=1, keepdim=True)  # (rows, 1, 1) tokens
    for state in states:
        variance = (state.detach().square() * mask).sum() / (mask.sum() * state.shape[-1])
        noise = torch.randn(state.shape, generator=generator, device=state.device, dtype=state.dtype)
        scale = (2 * hidden / (per_row * state.shape[-1] * variance)).sqrt()
        total = total + (noise * mask * scale * state).sum()
    return total


class _Tap:
    """Sums x xᵀ and g gᵀ of one layer over valid tokens."""

    def __init__(self, module: nn.Module) -> None:
        weight = module.get_parameter("weight")
        self.embedding = isinstance(module, nn.Embedding)
        rows, cols = weight.shape
        width = cols if self.embedding else rows  # of the output
        self.tokens = 0
        self.inputs = torch.zeros(rows, dtype=torch.float64) if self.embedding else torch.zeros(cols, cols).double()
        self.sum = torch.zeros(0 if self.embedding else cols, dtype=torch.float64)
        self.outputs = torch.zeros(width, width, dtype=torch.float64)
        # Of one batch, call by call: what came in, then the gradient of what went out. The text comes first.
        self._calls: list[list[torch.Tensor]] = []
        self.handle = module.register_forward_hook(self._forward)

    def _forward(self, _module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
        call = [inputs[0].detach()]
        self._calls.append(call)
        if not output.requires_grad:  # of a frozen model the graph begins here, and no weight's gradient is computed
            output = output.detach().requires_grad_()
        output.register_hook(lambda gradient: call.append(gradient.detach()))  # type: ignore[no-untyped-call]
        return output

    def take(self, ids: torch.Tensor, valid: torch.Tensor) -> None:
        """Add the last batch."""
        for number, (entered, felt) in enumerate(self._calls):
            here = felt.any(dim=-1) if number else valid
            g = felt[here]
            self.outputs += (g.T @ g).double().cpu()
            if self.embedding:
                self.inputs += torch.bincount(ids[here], minlength=len(self.inputs)).double().cpu()
            else:
                x = entered[here]
                self.inputs += (x.T @ x).double().cpu()
                self.sum += x.sum(dim=0).double().cpu()
            self.tokens += int(here.sum())
        self._calls.clear()

    def moments(self, rows: int) -> Moments:
        if self.embedding:
            count = self.inputs + UNSEEN
            return Moments(count / count.sum(), self.outputs / rows)
        return Moments(self.inputs / self.tokens, self.outputs / rows, self.sum / self.tokens)
