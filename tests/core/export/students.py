"""Tiny students in each state that a recipe may leave: dense, factorized, factorized and masked, embedding masked."""

from __future__ import annotations

import torch
from transformers import BertForSequenceClassification

from core.family import FAMILIES
from core.surgery import factorize
from tests import tiny

Masks = dict[str, torch.Tensor]
KINDS = ("dense", "factorized", "factorized and masked", "embedding masked")
EMBEDDING = "bert.embeddings.word_embeddings"


def student(kind: str, *, layers: int = 1, seed: int = 0) -> tuple[BertForSequenceClassification, Masks]:
    """A model in eval mode and its masks. Weights are random; one layer, hidden 32."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification(tiny.config(labels=3, layers=layers)).eval()
    masks: Masks = {}
    if kind.startswith("factorized"):
        for name in list(FAMILIES["bert"].compressible(model)):
            rows, cols = model.get_parameter(f"{name}.weight").shape
            factorize(model, name, torch.randn(rows, 8) / 6, torch.randn(8, cols) / 6)
    if kind == "factorized and masked":
        for name in FAMILIES["bert"].compressible(model):
            for part in ("left", "right"):
                mask(model, masks, f"{name}.{part}")
    if kind == "embedding masked":
        mask(model, masks, f"{EMBEDDING}.weight")
    return model, masks


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
