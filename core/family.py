"""One row per model family: where its layers are and what they are called. Nothing else knows names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from core.errors import ModelUnsupported
from core.task import HEADS, SEQUENCE, Task, task_of

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

    def within(self, prefix: str) -> Block:
        """The same block in the module that `prefix` leads to."""
        return replace(
            self,
            writers=tuple(name.removeprefix(prefix) for name in self.writers),
            reader=self.reader.removeprefix(prefix),
            inside=self.inside.removeprefix(prefix),
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
    stem: str  # begins the name of each of its classes in Transformers
    base: str  # the module that holds the encoder in a model with a head
    embedding: str  # the word embedding
    attention: Block
    feed_forward: Block
    classifier: str = "classifier"  # the linear that gives the logits of a sequence classifier
    spans: str = "qa_outputs"  # the linear that gives the logits of an answer's start and end
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

    def head(self, task: Task) -> str | None:
        """The linear that gives the outputs of a task; None where the encoder does."""
        named = {SEQUENCE: self.classifier, "ForTokenClassification": "classifier", "ForQuestionAnswering": self.spans}
        return named.get(task.head)

    def bare(self) -> Family:
        """The family of a model that is an encoder alone."""
        found = self
        for block in ("attention", "feed_forward"):
            found = replace(found, **{block: getattr(self, block).within(f"{self.base}.")})
        return replace(found, embedding=self.embedding.removeprefix(f"{self.base}."))

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


def _as_bert(model_type: str, stem: str, encoder: str, *, suffix: str = "", **fields: Any) -> Family:
    """A family whose modules are called as BERT's.

    Args:
        encoder: the name under which a model holds it.
        suffix: of query, key and value.
    """
    layer = f"{encoder}.encoder.layer.*"
    writers = " ".join(f"attention.self.{name}{suffix}" for name in ("query", "key", "value"))
    return Family(
        model_type=model_type,
        stem=stem,
        base=encoder,
        embedding=f"{encoder}.embeddings.word_embeddings",
        attention=_heads(layer, writers, "attention.output.dense", "attention.self", count="num_attention_heads"),
        feed_forward=_neurons(layer, "intermediate.dense", "output.dense", "intermediate"),
        **fields,
    )


AS_ROBERTA: dict[str, Any] = {"encoder": "roberta", "classifier": "classifier.out_proj", "after_padding": True}

FAMILIES = {
    family.model_type: family
    for family in (
        _as_bert("bert", "Bert", "bert"),
        _as_bert("roberta", "Roberta", **AS_ROBERTA),
        _as_bert("xlm-roberta", "XLMRoberta", **AS_ROBERTA),
        _as_bert("camembert", "Camembert", **AS_ROBERTA),
        _as_bert("electra", "Electra", "electra", classifier="classifier.out_proj"),
        # Query and key project the table of relative positions too, so that fewer heads are fewer there as well.
        _as_bert(
            "deberta-v2",
            "DebertaV2",
            "deberta",
            suffix="_proj",
            untimed=("heads",),  # their number stands in the shapes of its graph
            demands=(("relative_attention", True), ("share_att_key", True)),
        ),
        Family(
            model_type="distilbert",
            stem="DistilBert",
            base="distilbert",
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
            stem="MPNet",
            base="mpnet",
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
            stem="ModernBert",
            base="model",
            spans="classifier",
            embedding="model.embeddings.tok_embeddings",
            attention=_heads("model.layers.*", "attn.Wqkv", "attn.Wo", "attn", stacked=3),
            feed_forward=_neurons("model.layers.*", "mlp.Wi", "mlp.Wo", "mlp", stacked=2),
            rotary="position_embeddings",
        ),
    )
}


BARE = {name: family.bare() for name, family in FAMILIES.items()}


def family_named(model_type: str, task: str) -> Family:
    """The family of a model of this type for a task: its encoder stands alone where outputs are embeddings."""
    return (BARE if task == "sentence_embedding" else FAMILIES)[model_type]


def block_of(reader: str) -> Block | None:
    """The block that a linear reads, by the name that it has in its family."""
    every = (*FAMILIES.values(), *BARE.values())
    return next((found for family in every if (found := family.block(reader))), None)


def family_of(config: Mapping[str, Any], asked: str | None = None) -> tuple[Family, Task]:
    """The family and task of a config.json. `asked`: the task that it has to be of.

    Raises:
        ModelUnsupported: naming the legal forms.
        ModelInvalid: see `core.task.task_of`.
    """
    model_type, architecture = config.get("model_type"), (config.get("architectures") or [None])[0]
    family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise ModelUnsupported(
            f"config.json model_type {model_type!r} is not supported: one of {', '.join(FAMILIES)}",
            param="/model",
        )
    heads = {f"{family.stem}{head}": head for head in HEADS}
    if not isinstance(architecture, str) or architecture not in heads:
        raise ModelUnsupported(
            f"config.json architectures[0] {architecture!r} is not supported: one of {', '.join(heads)}",
            param="/model",
        )
    task = task_of(heads[architecture], config, asked)
    return family_named(family.model_type, task.name), task
