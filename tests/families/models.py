"""A small model of every family with its tokenizer: two layers, width 32, four heads, about 200 tokens; seeded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import nn

from core.family import FAMILIES
from core.task import SEQUENCE
from tests import tiny

VOCABULARY, LAYERS, HIDDEN, HEADS, NEURONS = 200, 2, 32, 4, 64
SHAPE = {
    "vocab_size": VOCABULARY, "num_hidden_layers": LAYERS, "hidden_size": HIDDEN, "num_attention_heads": HEADS,
    "intermediate_size": NEURONS, "max_position_embeddings": 140,
}  # fmt: skip
# What a config has beside its shape: as published models have it, windows and buckets scaled to texts of a test.
ROBERTA = {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3}
BESIDE: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "camembert": ROBERTA,
    "electra": {"embedding_size": 16},
    "deberta-v2": {
        "relative_attention": True, "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 8,
        "norm_rel_ebd": "layer_norm", "position_biased_input": False, "type_vocab_size": 0,
    },
    "distilbert": {"hidden_dim": NEURONS},  # its one size that no other name leads to
    "mpnet": {"pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3},
    "modernbert": {
        "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3,
        "local_attention": 12, "global_attn_every_n_layers": 2,
    },
}  # fmt: skip


NAMES = [*BESIDE]


def pad_id(name: str) -> int:
    return int(BESIDE[name].get("pad_token_id", 0))


def config(name: str, **changed: Any) -> Any:
    found = transformers.AutoConfig.for_model(name, **{**SHAPE, **BESIDE[name], **changed})
    found.id2label, found.label2id = dict(tiny.LABELS), {label: i for i, label in tiny.LABELS.items()}
    return found


def build(name: str, seed: int = 0, **changed: Any) -> nn.Module:
    """In evaluation mode."""
    kind: Any = getattr(transformers, FAMILIES[name].stem + SEQUENCE)
    return loud(kind(config(name, **changed)).eval(), seed)


def loud(model: nn.Module, seed: int = 0) -> nn.Module:
    """The same with weights that are large enough that whatever is wrong shows in the outputs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            matrix = parameter.dim() == 2
            table = matrix and isinstance(model.get_submodule(path.rpartition(".")[0]), nn.Embedding)
            scale = 0.5 if table else parameter.shape[1] ** -0.5 if matrix else 0.1
            parameter.copy_(scale * noise + (0 if matrix or path.endswith("bias") else 1))
    return model


def tokenizer(name: str) -> Tokenizer:
    """That of `tests.tiny`, the padding token at the number that the family has for it."""
    specials = [*tiny.SPECIALS]
    specials.insert(pad_id(name), specials.pop(0))
    words = [*specials, *tiny.FILLERS, *tiny.ANIMALS, *tiny.TOOLS]
    made = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return made


def write(folder: Path, name: str, model: nn.Module) -> Path:
    """A Transformers directory."""
    transformer: Any = model
    transformer.save_pretrained(folder)
    tokenizer(name).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    return folder


def taught(name: str, steps: int = 60) -> nn.Module:
    """A model that knows the task of `tests.tiny`."""
    torch.manual_seed(0)
    kind: Any = getattr(transformers, FAMILIES[name].stem + SEQUENCE)
    model: nn.Module = kind(config(name))
    made = tokenizer(name)
    made.enable_padding(pad_id=pad_id(name), pad_token="[PAD]")
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(steps):
        texts, labels = zip(*tiny.sentences(32, seed=1000 + step), strict=True)
        encoded = made.encode_batch(list(texts))
        ids, mask = (torch.tensor([getattr(one, part) for one in encoded]) for part in ("ids", "attention_mask"))
        loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor(labels)).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def rows(name: str, lengths: tuple[int, ...] = (23, 9, 31, 2), seed: int = 0) -> dict[str, torch.Tensor]:
    """A padded batch of random tokens. Some texts are longer than windows and buckets."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    return {"input_ids": ids.where(mask, torch.tensor(pad_id(name))), "attention_mask": mask.long()}


@torch.no_grad()
def logits(model: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    found: torch.Tensor = model(**batch).logits
    return found
