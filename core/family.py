"""One row per model family: where its layers are and what they are called. Nothing else knows names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from core.errors import ModelUnsupported

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Block:
    """Units that a layer computes side by side, of which any may be left out: attention heads, or neurons.

    The rows of every writer are the columns of the reader, which sums over the units.
    """

    what: Literal["heads", "neurons"]
    writers: tuple[str, ...]
    reader: str
    inside: str  # the module that holds the writers and is skipped where no unit stays

    def at(self, layer: str) -> Block:
        """The block of one layer."""
        writers = tuple(name.replace("*", layer) for name in self.writers)
        return replace(
            self,
            writers=writers,
            reader=self.reader.replace("*", layer),
            inside=self.inside.replace("*", layer),
        )

    def read_by(self, name: str) -> Block | None:
        """The block whose reader is called so, if it is one of these."""
        before, _, after = self.reader.partition("*")
        layer = name.removeprefix(before).removesuffix(after)
        return self.at(layer) if layer.isdigit() and name == f"{before}{layer}{after}" else None


@dataclass(frozen=True)
class Family:
    """Names are module paths; `*` stands for the layer index."""

    model_type: str  # config.json `model_type`
    architectures: dict[str, str]  # config.json `architectures[0]` -> task
    embedding: str  # the word embedding
    linears: tuple[str, ...]  # every encoder linear
    query: str
    key: str
    blocks: tuple[Block, ...] = ()
    heads: str = "num_attention_heads"  # config fields
    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"

    def compressible(self, model: nn.Module) -> Iterator[str]:
        """Word embedding and encoder linears that `model` has, in its own order, dense or factorized."""
        patterns = (self.embedding, *self.linears)
        for name, module in model.named_modules():
            # Of a linear that reads nothing any more only the bias is left.
            matrix = any(parameter.dim() == 2 for parameter in module.parameters(recurse=False))
            if matrix and any(fnmatchcase(name, pattern) for pattern in patterns):
                yield name

    def block(self, reader: str) -> Block | None:
        """The block that the linear called `reader` reads."""
        return next((found for one in self.blocks if (found := one.read_by(reader))), None)


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
            blocks=(
                Block(
                    "heads",
                    writers=(
                        "bert.encoder.layer.*.attention.self.query",
                        "bert.encoder.layer.*.attention.self.key",
                        "bert.encoder.layer.*.attention.self.value",
                    ),
                    reader="bert.encoder.layer.*.attention.output.dense",
                    inside="bert.encoder.layer.*.attention.self",
                ),
                Block(
                    "neurons",
                    writers=("bert.encoder.layer.*.intermediate.dense",),
                    reader="bert.encoder.layer.*.output.dense",
                    inside="bert.encoder.layer.*.intermediate",
                ),
            ),
        ),
    )
}


def block_of(reader: str) -> Block | None:
    """The block that a linear reads, by the name that it has in its family."""
    return next((found for family in FAMILIES.values() if (found := family.block(reader))), None)


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
