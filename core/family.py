"""One row per model family: where its layers are and what they are called. Nothing else knows names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ModelUnsupported

if TYPE_CHECKING:
    from torch import nn

Units = Literal["heads", "neurons"]


@dataclass(frozen=True)
class Block:
    """Units that a layer computes side by side, of which any may be left out: attention heads, or neurons.

    The rows of every writer are the columns of the reader, which sums over the units.
    """

    what: Units
    writers: tuple[str, ...]
    reader: str
    inside: str  # the module that holds the writers, and the reader where that is a part; skipped where no unit stays
    # How many times a writer's rows repeat the reader's columns: 2 for a gate beside its input, 3 for fused Q, K and V.
    stacked: int = 1
    count: str = ""  # attribute of `inside` that says how many units there are

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

    @property
    def part(self) -> str:
        """The reader's path within `inside`; nothing where it stands outside."""
        within = self.reader.removeprefix(f"{self.inside}.")
        return "" if within == self.reader else within


@dataclass(frozen=True)
class Family:
    """Names are module paths; `*` stands for the layer index."""

    model_type: str  # config.json `model_type`
    architectures: dict[str, str]  # config.json `architectures[0]` -> task
    embedding: str  # the word embedding
    attention: Block
    feed_forward: Block
    classifier: str = "classifier"  # the linear that gives the logits
    stays: tuple[Units, ...] = ()  # units of which none can be removed
    untimed: tuple[Units, ...] = ()  # units that no variant of a graph has fewer of: milliseconds do not choose them
    rotary: str = ""  # argument of the attention that holds cosines and sines of positions, where they turn Q and K
    after_padding: bool = False  # positions are counted from the number of the padding token on (fairseq)
    demands: tuple[tuple[str, object], ...] = ()  # config fields and the only value that is known of each
    # Config fields.
    heads: str = "num_attention_heads"
    layers: str = "num_hidden_layers"
    hidden: str = "hidden_size"
    neurons: str = "intermediate_size"
    positions: str = "max_position_embeddings"

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Those of which units can be removed."""
        return tuple(block for block in (self.attention, self.feed_forward) if block.what not in self.stays)

    @property
    def timed(self) -> tuple[Block, ...]:
        """Those of which milliseconds, or bytes beside them, may choose the units."""
        return tuple(block for block in self.blocks if block.what not in self.untimed)

    @property
    def linears(self) -> tuple[str, ...]:
        """Every encoder linear."""
        return tuple(name for block in (self.attention, self.feed_forward) for name in (*block.writers, block.reader))

    @property
    def query(self) -> str:
        """The linear that gives queries, the first third of its rows where it gives keys and values too."""
        return self.attention.writers[0]

    @property
    def key(self) -> str:
        """The linear that gives keys; where it is that of the queries, the second third of its rows."""
        return self.attention.writers[0 if self.attention.stacked > 1 else 1]

    def max_tokens(self, config: Mapping[str, Any]) -> int:
        """The longest text, in tokens, that a model of this configuration takes."""
        return int(config[self.positions]) - (1 + int(config["pad_token_id"]) if self.after_padding else 0)

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


def _heads(layer: str, writers: str, reader: str, inside: str, **fields: Any) -> Block:
    """Attention heads; the names are those within a layer."""
    return Block("heads", tuple(f"{layer}.{name}" for name in writers.split()), f"{layer}.{reader}",
                 f"{layer}.{inside}", **fields)  # fmt: skip


def _neurons(layer: str, writer: str, reader: str, inside: str, **fields: Any) -> Block:
    """Feed-forward neurons; the names are those within a layer."""
    return Block("neurons", (f"{layer}.{writer}",), f"{layer}.{reader}", f"{layer}.{inside}", **fields)


def _as_bert(model_type: str, architecture: str, encoder: str, *, suffix: str = "", **fields: Any) -> Family:
    """A family whose modules are called as BERT's.

    Args:
        encoder: the name under which a model holds it.
        suffix: of query, key and value.
    """
    layer = f"{encoder}.encoder.layer.*"
    writers = " ".join(f"attention.self.{name}{suffix}" for name in ("query", "key", "value"))
    return Family(
        model_type=model_type,
        architectures={architecture: "classification"},
        embedding=f"{encoder}.embeddings.word_embeddings",
        attention=_heads(layer, writers, "attention.output.dense", "attention.self", count="num_attention_heads"),
        feed_forward=_neurons(layer, "intermediate.dense", "output.dense", "intermediate"),
        **fields,
    )


AS_ROBERTA: dict[str, Any] = {"encoder": "roberta", "classifier": "classifier.out_proj", "after_padding": True}

FAMILIES = {
    family.model_type: family
    for family in (
        _as_bert("bert", "BertForSequenceClassification", "bert"),
        _as_bert("roberta", "RobertaForSequenceClassification", **AS_ROBERTA),
        _as_bert("xlm-roberta", "XLMRobertaForSequenceClassification", **AS_ROBERTA),
        _as_bert("camembert", "CamembertForSequenceClassification", **AS_ROBERTA),
        _as_bert("electra", "ElectraForSequenceClassification", "electra", classifier="classifier.out_proj"),
        # Query and key project the table of relative positions too, so that fewer heads are fewer there as well.
        _as_bert(
            "deberta-v2",
            "DebertaV2ForSequenceClassification",
            "deberta",
            suffix="_proj",
            untimed=("heads",),  # their number stands in the shapes of its graph
            demands=(("relative_attention", True), ("share_att_key", True)),
        ),
        Family(
            model_type="distilbert",
            architectures={"DistilBertForSequenceClassification": "classification"},
            embedding="distilbert.embeddings.word_embeddings",
            attention=_heads(
                "distilbert.transformer.layer.*",
                "attention.q_lin attention.k_lin attention.v_lin",
                "attention.out_lin",
                "attention",
            ),
            feed_forward=_neurons("distilbert.transformer.layer.*", "ffn.lin1", "ffn.lin2", "ffn"),
            heads="n_heads",
            layers="n_layers",
            hidden="dim",
            neurons="hidden_dim",
        ),
        Family(
            model_type="mpnet",
            architectures={"MPNetForSequenceClassification": "classification"},
            embedding="mpnet.embeddings.word_embeddings",
            attention=_heads(
                "mpnet.encoder.layer.*",
                "attention.attn.q attention.attn.k attention.attn.v",
                "attention.attn.o",
                "attention.attn",
            ),
            feed_forward=_neurons("mpnet.encoder.layer.*", "intermediate.dense", "output.dense", "intermediate"),
            classifier="classifier.out_proj",
            stays=("heads",),  # all layers add one bias of relative positions, a number for each head
            after_padding=True,
            demands=(("pad_token_id", 1),),  # its code counts positions from 1 whatever the config says
        ),
        Family(
            model_type="modernbert",
            architectures={"ModernBertForSequenceClassification": "classification"},
            embedding="model.embeddings.tok_embeddings",
            attention=_heads("model.layers.*", "attn.Wqkv", "attn.Wo", "attn", stacked=3),
            feed_forward=_neurons("model.layers.*", "mlp.Wi", "mlp.Wo", "mlp", stacked=2),
            rotary="position_embeddings",
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
