"""The distillation objective: outputs (`core.likelihood`), hidden states and attention, padding left out.

Of attention either the maps that `core.taps` rebuilds, as a KL or as an error of scores before the softmax, or what it
adds to its input.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from core.batches import Batch, inputs
from core.errors import RecipeInvalid
from core.family import Family
from core.forward import logits_of
from core.likelihood import Likelihood
from core.parts import Parts
from core.phase import Backward, Metrics
from core.recorded import Answers, Projected, Recorded
from core.taps import OutputTap, ScoreTap, depth

Pair = tuple[torch.Tensor, torch.Tensor, torch.Tensor | float]
Attention = Literal["maps", "scores", "outputs"]


def layer_pairs(student: int, teacher: int, layer_map: str) -> list[tuple[int, int]]:
    """(student layer, teacher layer), counted from 0. Uniform pairs m with m k + k - 1, k = teacher / student.

    Raises:
        RecipeInvalid: identity with unequal depths, or depths that do not divide.
    """
    if layer_map == "identity" and student != teacher:
        raise RecipeInvalid(
            f'layer_map "identity" needs equal depth: the student has {student} layers, the teacher {teacher}',
            param="/recipe/steps",
        )
    if teacher % student:
        raise RecipeInvalid(
            f'layer_map "uniform" needs a teacher depth that is a multiple of the student\'s: {teacher} and {student}',
            param="/recipe/steps",
        )
    k = teacher // student
    return [(m, m * k + k - 1) for m in range(student)]


@dataclass(frozen=True)
class Share:
    """What part of a batch each mean over the batch has in some of its rows; all of it where there is one part."""

    choices: torch.Tensor | float = 1.0
    tokens: torch.Tensor | float = 1.0
    pairs: torch.Tensor | float = 1.0
    energy: Sequence[torch.Tensor | float] = ()  # of the teacher's hidden states, by number
    outputs: Sequence[torch.Tensor | float] = ()  # of what its attention adds, by layer


def masked_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean squared error over the entries that `mask` (broadcastable, 0 or 1) holds."""
    squared = (student - teacher).square() * mask
    return squared.sum() / mask.expand_as(squared).sum().clamp(min=1)


def relative_mse(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Squared error over what `mask` holds, in units of the teacher's own energy there: 1 for a student of zeros."""
    return ((student - teacher).square() * mask).sum() / energy(teacher, mask)


def energy(teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Sum of squares over what `mask` holds, never 0."""
    return (teacher.square() * mask).sum().clamp(min=1e-12)


def map_kl(student: torch.Tensor, teacher: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """KL(softmax(teacher) || softmax(student)) of attention scores (batch, heads, tokens, tokens).

    Mean over heads and real queries; `valid` (batch, tokens) also takes padding out of the keys.
    """
    keys = valid[:, None, None, :].bool()
    log_p, log_q = (F.log_softmax(s.masked_fill(~keys, -1e4), dim=-1) for s in (teacher, student))
    per_query = (log_p.exp() * (log_p - log_q)).sum(dim=-1)  # (batch, heads, tokens)
    mask = valid[:, None, :].to(per_query.dtype).expand_as(per_query)
    return (per_query * mask).sum() / mask.sum()


class Distillation:
    """Objective of a distillation phase. Terms of weight zero are not computed.

    Args:
        recorded: the teacher's answers on the rows that batches number; asked of the teacher itself where None, or
            where attention is followed.
        relative: hidden states in units of the teacher's energy, layer by layer, so that one weight serves all models.
        attention: what of it is followed: maps (KL), scores (MSE), or outputs (as hidden states are).
        likelihood: how outputs are compared.
        parts: which rows of a batch run together; all where None. The gradient is that of the whole batch.
    """

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        family: Family,
        *,
        weights: Mapping[str, float],
        temperature: float,
        layer_map: str,
        relative: bool = False,
        attention: Attention = "scores",
        recorded: Recorded | None = None,
        likelihood: Likelihood | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.parts = parts or Parts()
        self.student, self.teacher = student, teacher
        self.weights, self.temperature = weights, temperature
        self.relative, self.attention = relative, attention
        self.likelihood = likelihood or Likelihood()
        self.recorded = None if weights["attention"] else recorded
        self.depth = depth(teacher, family)
        self.pairs = layer_pairs(depth(student, family), self.depth, layer_map)
        both = (student, teacher) if weights["attention"] else ()
        self.scores = [ScoreTap(model, family) for model in both if attention != "outputs"]
        self.outputs = [OutputTap(model, family) for model in both if attention == "outputs"]
        self.taps: list[ScoreTap] | list[OutputTap] = self.scores or self.outputs

    def step(self, batch: Mapping[str, torch.Tensor], backward: Backward) -> Metrics:
        parts = self.parts.of(batch)
        logged: dict[str, float] = {}
        for part, share in zip(parts, self._shares(parts), strict=True):
            terms = self._terms(part, self._theirs(part), share)
            loss = torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()
            backward(loss)
            for name, term in {"loss": loss, **terms}.items():
                logged[name] = logged.get(name, 0.0) + float(term.detach())
        return logged

    def halve(self) -> int | None:
        return self.parts.halve()

    def _terms(self, batch: Batch, theirs: Answers, share: Share) -> dict[str, torch.Tensor]:
        """Of these rows, each as its part of the mean over the whole batch."""
        want_hidden = bool(self.weights["hidden"])
        with self.taps[0] if self.taps else nullcontext():
            ours = self.student(**inputs(batch), output_hidden_states=want_hidden)
        said = logits_of(ours)
        valid = batch["attention_mask"].to(said.dtype)  # (batch, tokens)
        terms: dict[str, torch.Tensor] = {}
        if self.weights["logits"]:
            terms["logits"] = share.choices * self.likelihood.loss(said, theirs.logits, valid, self.temperature)
        if want_hidden:
            terms["hidden"] = self._hidden(ours.hidden_states, theirs.hidden, valid, share)
        if self.scores:
            terms["attention"] = self._scores(theirs.projected, valid, share)
        if self.outputs:
            terms["attention"] = self._outputs(theirs.attention, valid, share)
        return terms

    @torch.no_grad()
    def _theirs(self, batch: Batch) -> Answers:
        want_hidden = bool(self.weights["hidden"])
        if self.recorded is not None:
            ids = batch["input_ids"]
            return self.recorded.answers(batch["rows"].tolist(), ids.shape[1], ids.device)
        with self.taps[1] if self.taps else nullcontext():
            out = self.teacher(**inputs(batch), output_hidden_states=want_hidden)
        projected = self.scores[1].take() if self.scores else ()
        attention = self.outputs[1].take() if self.outputs else {}
        return Answers(logits_of(out), out.hidden_states if want_hidden else (), projected, attention)

    @torch.no_grad()
    def _shares(self, parts: Sequence[Batch]) -> list[Share]:
        """What the sums of each part are of those of all, so that the parts' means add up to the batch's.

        Of several parts the teacher's answers are asked for twice: those of all would not get smaller with the parts.
        """
        if len(parts) == 1:
            return [Share(1.0, 1.0, 1.0, *self._even())]
        valid = [part["attention_mask"].to(torch.float32) for part in parts]
        choices = _shared([self.likelihood.chooses(each) for each in valid])
        tokens = _shared([each.sum() for each in valid])
        pairs = _shared([each.sum(dim=1).square().sum() for each in valid])
        found = [Share(*one, *self._even()) for one in zip(choices, tokens, pairs, strict=True)]
        if not (self.relative and (self.weights["hidden"] or self.outputs)):
            return found
        energies, outputs = [], []
        for part, mask in zip(parts, valid, strict=True):
            theirs = self._theirs(part)
            energies.append([energy(state, mask[:, :, None]) for state in theirs.hidden])
            outputs.append([energy(theirs.attention[t], mask[:, :, None]) for t in sorted(theirs.attention)])
        each = zip(found, _shared_by_layer(energies), _shared_by_layer(outputs), strict=True)
        return [replace(share, energy=energy, outputs=outputs) for share, energy, outputs in each]

    def _even(self) -> tuple[list[float], list[float]]:
        """Of hidden states and of attention's outputs, where energies do not matter."""
        return [1.0] * (1 + self.depth), [1.0] * self.depth

    def _hidden(
        self, ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], valid: torch.Tensor, share: Share
    ) -> torch.Tensor:
        # Index 0 is the output of the embedding; layer m's output is at m + 1.
        pairs = [(0, 0), *((m + 1, t + 1) for m, t in self.pairs)]
        return self._errors([(ours[m], theirs[t], share.energy[t]) for m, t in pairs], valid, share)

    def _outputs(self, theirs: Mapping[int, torch.Tensor], valid: torch.Tensor, share: Share) -> torch.Tensor:
        """Of the layers whose attention both have; of a teacher without one elsewhere there is nothing to follow."""
        ours = self.outputs[0].take()
        places = {layer: place for place, layer in enumerate(sorted(theirs))}
        here = [(m, t) for m, t in self.pairs if m in ours and t in theirs]
        return self._errors([(ours[m], theirs[t], share.outputs[places[t]]) for m, t in here], valid, share)

    def _errors(self, pairs: Sequence[Pair], valid: torch.Tensor, share: Share) -> torch.Tensor:
        """Summed over pairs of states, ours and the teacher's, and the share of its energy that these rows have."""
        mask = valid[:, :, None]
        if self.relative:
            found = [part * relative_mse(ours, theirs, mask) for ours, theirs, part in pairs]
        else:
            found = [share.tokens * masked_mse(ours, theirs, mask) for ours, theirs, _ in pairs]
        return torch.stack([valid.new_zeros(()), *found]).sum()

    def _scores(self, projected: Sequence[Projected], valid: torch.Tensor, share: Share) -> torch.Tensor:
        student, teacher = self.scores
        ours = student.take()
        mask = (valid[:, :, None] * valid[:, None, :])[:, None]  # (batch, 1, tokens, tokens)
        errors = []
        for m, t in self.pairs:
            scores = student.scores(*ours[m]), teacher.scores(*projected[t])
            errors.append(map_kl(*scores, valid) if self.attention == "maps" else masked_mse(*scores, mask))
        return (share.tokens if self.attention == "maps" else share.pairs) * torch.stack(errors).sum()


def _shared(sums: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each over their sum."""
    whole = torch.stack([*sums]).sum()
    return [each / whole for each in sums]


def _shared_by_layer(parts: Sequence[Sequence[torch.Tensor]]) -> list[list[torch.Tensor]]:
    """The same of each layer, by part."""
    by_layer = [_shared(sums) for sums in zip(*parts, strict=True)]
    return [[of_parts[place] for of_parts in by_layer] for place in range(len(parts))]
