"""The distillation objective: the outputs (`core.likelihood`), hidden states and attention scores, padding left out.

Attention scores are rebuilt from the outputs of the query and key projections (forward hooks on the names in the
family's row), so every attention implementation serves and no probability matrix is materialised by the model. They
are what tokens say of one another: turned by position where the model does so (RoPE), without the terms of a table of
relative positions (MPNet, DeBERTa), and of all pairs also where a layer looks no further than a window.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from core.batches import Batch, inputs
from core.errors import RecipeInvalid
from core.family import Family
from core.forward import logits_of
from core.likelihood import Likelihood
from core.parts import Parts
from core.phase import Backward, Metrics
from core.recorded import Answers, Projected, Recorded


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


class Distillation:
    """Objective of a distillation phase. Terms of weight zero are not computed.

    Args:
        recorded: the teacher's answers on the rows that batches number; asked of the teacher itself where None, or
            where attention is followed.
        relative: hidden states in units of the teacher's energy, layer by layer, so that one weight serves all models.
        maps: follow attention maps (KL) instead of raw scores (MSE).
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
        maps: bool = False,
        recorded: Recorded | None = None,
        likelihood: Likelihood | None = None,
        parts: Parts | None = None,
    ) -> None:
        self.parts = parts or Parts()
        self.student, self.teacher = student, teacher
        self.weights, self.temperature = weights, temperature
        self.relative, self.maps = relative, maps
        self.likelihood = likelihood or Likelihood()
        self.recorded = None if weights["attention"] else recorded
        self.layers = family.layers
        depths = [int(getattr(model.config, family.layers)) for model in (student, teacher)]
        self.pairs = layer_pairs(depths[0], depths[1], layer_map)
        self.taps = [ScoreTap(model, family) for model in (student, teacher)] if weights["attention"] else []

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
        if self.taps:
            terms["attention"] = self._attention(theirs.projected, valid, share)
        return terms

    @torch.no_grad()
    def _theirs(self, batch: Batch) -> Answers:
        want_hidden = bool(self.weights["hidden"])
        if self.recorded is not None:
            ids = batch["input_ids"]
            return self.recorded.answers(batch["rows"].tolist(), ids.shape[1], ids.device)
        with self.taps[1] if self.taps else nullcontext():
            out = self.teacher(**inputs(batch), output_hidden_states=want_hidden)
        projected = self.taps[1].take() if self.taps else ()
        return Answers(logits_of(out), out.hidden_states if want_hidden else (), projected)

    @torch.no_grad()
    def _shares(self, parts: Sequence[Batch]) -> list[Share]:
        """What the sums of each part are of those of all, so that the parts' means add up to the batch's.

        Of several parts the teacher's answers are asked for twice: those of all would not get smaller with the parts.
        """
        if len(parts) == 1:
            return [Share(energy=[1.0] * (1 + int(getattr(self.teacher.config, self.layers))))]
        valid = [part["attention_mask"].to(torch.float32) for part in parts]
        choices = _shared([self.likelihood.chooses(each) for each in valid])
        tokens = _shared([each.sum() for each in valid])
        pairs = _shared([each.sum(dim=1).square().sum() for each in valid])
        of_layers: list[list[torch.Tensor]] = []
        if self.weights["hidden"] and self.relative:
            of_parts = [
                [energy(state, mask[:, :, None]) for state in self._theirs(part).hidden]
                for part, mask in zip(parts, valid, strict=True)
            ]
            of_layers = [_shared(sums) for sums in zip(*of_parts, strict=True)]
        energies = zip(*of_layers, strict=True) if of_layers else [()] * len(parts)
        return [Share(*each) for each in zip(choices, tokens, pairs, energies, strict=True)]

    def _hidden(
        self, ours: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor], valid: torch.Tensor, share: Share
    ) -> torch.Tensor:
        # Index 0 is the output of the embedding; layer m's output is at m + 1.
        pairs = [(0, 0), *((m + 1, t + 1) for m, t in self.pairs)]
        mask = valid[:, :, None]
        if self.relative:
            return torch.stack([share.energy[t] * relative_mse(ours[m], theirs[t], mask) for m, t in pairs]).sum()
        return share.tokens * torch.stack([masked_mse(ours[m], theirs[t], mask) for m, t in pairs]).sum()

    def _attention(self, projected: Sequence[Projected], valid: torch.Tensor, share: Share) -> torch.Tensor:
        student, teacher = self.taps
        ours = student.take()
        mask = (valid[:, :, None] * valid[:, None, :])[:, None]  # (batch, 1, tokens, tokens)
        errors = []
        for m, t in self.pairs:
            scores = student.scores(*ours[m]), teacher.scores(*projected[t])
            errors.append(map_kl(*scores, valid) if self.maps else masked_mse(*scores, mask))
        return (share.tokens if self.maps else share.pairs) * torch.stack(errors).sum()


def _shared(sums: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Each over their sum."""
    whole = torch.stack([*sums]).sum()
    return [each / whole for each in sums]
