"""A tiny BERT classifier with a real tokenizer and labelled text for it, made in a second and never downloaded.

The task: does a sentence speak of an animal or of a tool? The teacher is trained for real, a few dozen steps.
"""

from __future__ import annotations

import csv
import random
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification

ANIMALS = ["cat", "dog", "horse", "cow", "sheep", "goat", "hen", "duck", "mouse", "fox", "wolf", "bear"]
TOOLS = ["saw", "hammer", "drill", "wrench", "pliers", "chisel", "file", "rasp", "vice", "axe", "spade", "rake"]
FILLERS = [
    "the",
    "a",
    "this",
    "that",
    "old",
    "new",
    "big",
    "small",
    "red",
    "blue",
    "was",
    "is",
    "sat",
    "lay",
    "stood",
    "near",
    "under",
    "on",
    "by",
    "table",
    "barn",
    "shed",
    "field",
]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LABELS = {0: "animal", 1: "tool"}


def sentences(count: int, seed: int) -> list[tuple[str, int]]:
    """(text, label) rows; the label follows from one word among fillers."""
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        label = rng.randrange(2)
        words = rng.choices(FILLERS, k=rng.randrange(3, 9))
        words.insert(rng.randrange(len(words)), rng.choice((ANIMALS, TOOLS)[label]))
        rows.append((" ".join(words), label))
    return rows


def write_csv(path: Path, rows: list[tuple[str, int]], header: tuple[str, ...] = ("text", "label")) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def config(layers: int = 2, hidden: int = 32, heads: int = 4, labels: int = 2) -> BertConfig:
    words = [*SPECIALS, *FILLERS, *ANIMALS, *TOOLS]
    return BertConfig(
        vocab_size=len(words) + 20,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=2 * hidden,
        max_position_embeddings=128,
        id2label={i: LABELS.get(i, f"class {i}") for i in range(labels)},
        label2id={LABELS.get(i, f"class {i}"): i for i in range(labels)},
    )


def tokenizer() -> Tokenizer:
    words = [*SPECIALS, *FILLERS, *ANIMALS, *TOOLS]
    built = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    built.normalizer = normalizers.BertNormalizer(lowercase=True)
    built.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    built.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return built


def write_model(folder: Path, *, steps: int = 0, seed: int = 0, **shape: int) -> Path:
    """A Transformers directory; `steps` > 0 trains it until it knows the task (60 are enough)."""
    torch.manual_seed(seed)
    model = BertForSequenceClassification(config(**shape))
    tok = tokenizer()
    if steps:
        tok.enable_padding()
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for step in range(steps):
            texts, labels = zip(*sentences(32, seed=1000 + step), strict=True)
            encoded = tok.encode_batch(list(texts))
            ids = torch.tensor([e.ids for e in encoded])
            mask = torch.tensor([e.attention_mask for e in encoded])
            loss = model(input_ids=ids, attention_mask=mask, labels=torch.tensor(labels)).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        tok.no_padding()
    model.eval().save_pretrained(folder)
    tok.save(str(folder / "tokenizer.json"))
    return folder
