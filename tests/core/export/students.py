"""Tiny students in each state that a recipe may leave: dense, factorized, factorized and masked, embedding masked."""

from __future__ import annotations

from itertools import cycle

import torch
from transformers import BertForSequenceClassification

from core.codes import DIGITS
from core.family import FAMILIES
from core.grid import Half, Values, fit
from core.surgery import factorize, narrow, share_rows
from tests import tiny

Masks = dict[str, torch.Tensor]
KINDS = (
    "dense",
    "factorized",
    "factorized and masked",
    "embedding masked",
    "quantised",
    "factorized, masked and quantised",
    "narrow",
    "skipped",
    "factorized and narrow, quantised",
    "shared rows",
    "factorized, shared rows, quantised",
)
EMBEDDING = "bert.embeddings.word_embeddings"


def student(
    kind: str, *, layers: int = 1, seed: int = 0
) -> tuple[BertForSequenceClassification, Masks, dict[str, Values]]:
    """A model in eval mode, its masks and its grids. Weights are random; one layer, hidden 32."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification(tiny.config(labels=3, layers=layers)).eval()
    masks: Masks = {}
    for block in FAMILIES["bert"].blocks if "narrow" in kind or kind == "skipped" else ():
        one = block.at("0")
        weight = model.get_parameter(f"{one.reader}.weight").detach()
        columns = torch.arange(0 if kind == "skipped" else 16)
        narrow(model, one, columns, weight[:, columns] * 1.5, torch.randn(len(weight)))
    if "shared rows" in kind:
        every = torch.arange(model.config.vocab_size)
        share_rows(model, EMBEDDING, every[::2], (every // 2).to(torch.int16))
    if kind.startswith("factorized"):
        for name in list(FAMILIES["bert"].compressible(model)):
            rows, cols = model.get_parameter(f"{name}.weight").shape
            factorize(model, name, torch.randn(rows, 8) / 6, torch.randn(8, cols) / 6)
    if kind.startswith("factorized") and "masked" in kind:
        for name in FAMILIES["bert"].compressible(model):
            for part in ("left", "right"):
                mask(model, masks, f"{name}.{part}")
    if kind == "embedding masked":
        mask(model, masks, f"{EMBEDDING}.weight")
    return model, masks, quantised(model, masks) if kind.endswith("quantised") else {}


def quantised(model: torch.nn.Module, masks: Masks) -> dict[str, Values]:
    """Put every matrix on a grid, with another number of levels each, and every vector in half precision."""
    values: dict[str, Values] = {}
    numbers = cycle(sorted(DIGITS))
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            values[name] = fit(parameter.detach(), torch.ones(1), masks.get(name), next(numbers), 7)
        else:
            values[name] = Half()
        with torch.no_grad():
            parameter.copy_(values[name].round(parameter))
            if name in masks:
                parameter.mul_(masks[name])
    return values


def mask(model: torch.nn.Module, masks: Masks, name: str, keep: float = 0.5) -> None:
    """Zero a random part of a parameter and note which."""
    parameter = model.get_parameter(name)
    masks[name] = torch.rand(parameter.shape) < keep
    with torch.no_grad():
        parameter *= masks[name]


def batch(rows: int, tokens: int) -> dict[str, torch.Tensor]:
    """Random token ids in two segments; the last row is padded from its middle on."""
    ids = torch.randint(0, 60, (rows, tokens))
    attention, types = torch.ones_like(ids), torch.zeros_like(ids)
    attention[-1, tokens // 2 + 1 :] = 0
    types[:, tokens // 3 :] = 1
    return {"input_ids": ids, "attention_mask": attention, "token_type_ids": types}
