"""How far a student's outputs are from its teacher's, as the loss of a training sees it, for every task.

Where a task chooses, the outputs of each choice are a distribution, and the loss is T^2 KL(teacher/T || student/T)
(Hinton et al. 2015, arXiv 1503.02531), mean over choices: of one class a row; of each label, to hold or not; of the
class of each token; of the token that an answer starts with, and of that it ends with. Numbers and embeddings are means
of Gaussians: of a number, as wide as `NEAR` of the spread that the teacher's own numbers have; of an embedding, as wide
as sqrt(1/2) of its length, so that an angle between the two costs 2 - 2 cos.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional as F

NEAR = 0.25
NOTHING = -1e4  # logit of what cannot be chosen


def soft_logits(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """T^2 KL(softmax(teacher/T) || softmax(student/T)), mean over rows; logits are (rows, classes)."""
    log_p = F.log_softmax(teacher / temperature, dim=-1)
    log_q = F.log_softmax(student / temperature, dim=-1)
    return F.kl_div(log_q, log_p, reduction="batchmean", log_target=True) * temperature**2


@dataclass(frozen=True)
class Likelihood:
    """Of a task. `spread`: variance of the teacher's own outputs over rows; only numbers have one."""

    task: str = "classification"
    spread: float = 1.0

    def choices(self, outputs: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Logits (choices, options). `valid`: (rows, tokens), real ones."""
        if self.task == "multi_label":
            return torch.stack([torch.zeros_like(outputs), outputs], dim=-1).flatten(0, 1)
        if self.task == "token_classification":
            return outputs[valid.bool()]
        if self.task == "question_answering":
            return outputs.masked_fill(~valid.bool()[:, :, None], NOTHING).transpose(1, 2).flatten(0, 1)
        return outputs

    def loss(
        self, student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor, temperature: float
    ) -> torch.Tensor:
        """Of outputs (rows, width) or (rows, tokens, width)."""
        if (weights := self._weights(teacher)) is not None:
            return ((student - teacher).square() * weights).sum(dim=-1).mean() / 2
        return soft_logits(self.choices(student, valid), self.choices(teacher, valid), temperature)

    def chooses(self, valid: torch.Tensor) -> torch.Tensor:
        """How many choices of equal weight a batch has that `loss` is the mean of, up to a factor."""
        return valid.sum() if self.task == "token_classification" else valid.new_tensor(len(valid))

    def root(
        self, outputs: torch.Tensor, valid: torch.Tensor, temperature: float, generator: torch.Generator
    ) -> torch.Tensor:
        """A scalar whose gradient is one draw of the square root of the loss' curvature at the teacher, over rows.

        For a distribution p that is onehot(y) - p with y drawn from it, for a Gaussian one of its width.
        """
        if (weights := self._weights(outputs)) is not None:
            noise = torch.randn(outputs.shape, generator=generator, device=outputs.device, dtype=outputs.dtype)
            return (noise * weights.sqrt() * outputs).sum()
        logits = self.choices(outputs, valid)
        p = (logits.detach() / temperature).softmax(dim=-1)
        drawn = torch.multinomial(p, 1, generator=generator)[:, 0]
        score = (F.one_hot(drawn, p.shape[-1]) - p) * logits
        if self.task == "classification":
            return score.sum()
        if self.task == "token_classification":
            counts = valid.sum(dim=1)
            each = counts.repeat_interleave(counts)
        else:
            each = torch.full((len(score),), len(score) // len(outputs), device=score.device)
        return (score / each.to(score.dtype).sqrt()[:, None]).sum()

    @torch.no_grad()
    def _weights(self, teacher: torch.Tensor) -> torch.Tensor | None:
        """One over the variance of each output; None where the task chooses."""
        if self.task == "regression":
            return torch.full_like(teacher, 1 / (NEAR**2 * self.spread))
        if self.task == "sentence_embedding":
            return (2 / teacher.square().sum(dim=-1, keepdim=True).clamp(min=1e-12)).expand_as(teacher)
        return None
