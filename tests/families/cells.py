"""What each family can lose, and what of it is refused. One line a family; tests go through all cells."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """readers: of layer 1's blocks whose units may go. kept: of those whose units stay."""

    readers: dict[str, str]
    kept: dict[str, str]
    own_scores: bool = True  # tapped attention scores are all that the model adds up before softmax
    columns: int = 8  # of a head


def _as_bert(encoder: str, *, own_scores: bool = True) -> Cell:
    layer = f"{encoder}.encoder.layer.1"
    return Cell({"heads": f"{layer}.attention.output.dense", "neurons": f"{layer}.output.dense"}, {}, own_scores)


CELLS = {
    "bert": _as_bert("bert"),
    "roberta": _as_bert("roberta"),
    "xlm-roberta": _as_bert("roberta"),
    "camembert": _as_bert("roberta"),
    "electra": _as_bert("electra"),
    "deberta-v2": _as_bert("deberta", own_scores=False),  # two terms of relative positions
    "distilbert": Cell(
        {
            "heads": "distilbert.transformer.layer.1.attention.out_lin",
            "neurons": "distilbert.transformer.layer.1.ffn.lin2",
        },
        {},
    ),
    "mpnet": Cell(
        {"neurons": "mpnet.encoder.layer.1.output.dense"},
        {"heads": "mpnet.encoder.layer.1.attention.attn.o"},  # one bias of positions, a number a head, for all layers
        own_scores=False,
    ),
    "modernbert": Cell({"heads": "model.layers.1.attn.Wo", "neurons": "model.layers.1.mlp.Wo"}, {}),
}
