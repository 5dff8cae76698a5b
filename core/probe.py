"""The distillation loss of a model with some of its weights changed, measured on a few rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from core.batches import Batches, Split, inputs
from core.forward import logits_of
from core.losses import relative_mse
from core.shared import Shared

PROBES, PROBE_TOKENS, PROBE_BATCH = 128, 128, 16  # training rows that the loss is measured on, at most
PROBED = 512  # tokens of them
SMALL = 1.0  # losses below it are of models that still do their task
TINY = 1e-30
LEAST_KL = 0.005


class Loss:
    """The distillation loss of a changed teacher against itself on some rows: logits at T = 2, hidden states.

    Args:
        text: the rows; those of the training where None.
    """

    def __init__(self, shared: Shared, text: Split | None = None) -> None:
        sample: Split = (shared.train if text is None else text).sample(PROBES, shared.seed).cut(PROBE_TOKENS)
        sample = sample.sample(max(2 * PROBE_BATCH, PROBED * len(sample) // sum(map(len, sample.ids))), shared.seed)
        self.likelihood = shared.likelihood
        self.batches = list(Batches(sample, PROBE_BATCH, seed=shared.seed, device=shared.device))
        self.answers = [self._run(shared.teacher, batch) for batch in self.batches]
        self.seen: list[tuple[float, float]] = []  # every loss that was measured, and the KL of the logits beside it

    @torch.no_grad()
    def of(self, model: nn.Module) -> float:
        """Mean over batches."""
        total = kl = 0.0
        for batch, (logits, hidden) in zip(self.batches, self.answers, strict=True):
            ours, states = self._run(model, batch)
            valid = batch["attention_mask"].to(ours.dtype)
            mask = valid[:, :, None]
            total += float(self.likelihood.loss(ours, logits, valid, 2.0))
            kl += float(self.likelihood.loss(ours, logits, valid, 1.0))
            total += sum(float(relative_mse(s, t, mask)) for s, t in zip(states, hidden, strict=True))
        self.seen.append((total / len(self.batches), kl / len(self.batches)))
        return self.seen[-1][0]

    def kl_per_loss(self) -> float:
        """KL(teacher || student) a row, in units of the loss, over the small changes that were measured.

        Not below `LEAST_KL`: of a teacher that is sure of every probed row its logits tell nothing.
        """
        small = [pair for pair in self.seen if 0 < pair[0] < SMALL] or self.seen
        return max(sum(kl for _, kl in small) / max(sum(loss for loss, _ in small), TINY), LEAST_KL)

    @torch.no_grad()
    def _run(
        self, model: nn.Module, batch: Mapping[str, torch.Tensor]
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        out = model(**inputs(batch), output_hidden_states=True)
        return logits_of(out), out.hidden_states


@dataclass(frozen=True)
class Prober:
    """Puts other weights in the place of some parameters and tells the loss."""

    model: nn.Module
    loss: Loss
    base: float = 0.0  # of the model as it is, where it is not the teacher

    @torch.no_grad()
    def __call__(self, others: Mapping[str, torch.Tensor]) -> float:
        before = {name: self.model.get_parameter(name).detach().clone() for name in others}
        self._put(others)
        found = self.loss.of(self.model)
        self._put(before)
        return max(found - self.base, 0.0)  # a divergence of nothing may be rounded below zero

    def _put(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in weights.items():
            self.model.get_parameter(name).copy_(weight)
