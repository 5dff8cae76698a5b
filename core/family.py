"""One row per model family: where its layers are and what they are called. Nothing else knows names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from core.errors import ModelUnsupported

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Family:
    """Names are module paths; `*` stands for the layer index."""

    model_type: str  # config.json `model_type`
    architectures: dict[str, str]  # config.json `architectures[0]` -> task
    embedding: str  # the word embedding
    linears: tuple[str, ...]  # every encoder linear
    query: str
    key: str
    heads: str = "num_attention_heads"  # config fields
    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"

    def compressible(self, model: nn.Module) -> Iterator[str]:
        """Word embedding and encoder linears that `model` has, in its own order, dense or factorized."""
        patterns = (self.embedding, *self.linears)
        for name, _ in model.named_modules():
            if any(fnmatchcase(name, pattern) for pattern in patterns):
                yield name


FAMILIES = {
    family.model_type: family
    for family in (
        Family(
            model_type="bert",
            architectures={"BertForSequenceClassification": "classification"},
            embedding="bert.embeddings.word_embeddings",
            linears=(
                "bert.encoder.layer.*.attention.self.query",
                "bert.encoder.layer.*.attention.self.key",
                "bert.encoder.layer.*.attention.self.value",
                "bert.encoder.layer.*.attention.output.dense",
                "bert.encoder.layer.*.intermediate.dense",
                "bert.encoder.layer.*.output.dense",
            ),
            query="bert.encoder.layer.*.attention.self.query",
            key="bert.encoder.layer.*.attention.self.key",
        ),
    )
}


def family_of(model_type: object, architecture: object) -> tuple[Family, str]:
    """The family and task of a config, or ModelUnsupported naming the legal forms."""
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ModelUnsupported(
            f"config.json model_type {model_type!r} is not supported: one of {', '.join(FAMILIES)}",
            param="/model",
        )
    if not isinstance(architecture, str) or architecture not in family.architectures:
        raise ModelUnsupported(
            f"config.json architectures[0] {architecture!r} is not supported: one of {', '.join(family.architectures)}",
            param="/model",
        )
    return family, family.architectures[architecture]
