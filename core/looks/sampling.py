"""The teacher run on some training rows. Heavy: torch and Transformers are imported here."""

from __future__ import annotations

import random
import time
from pathlib import Path

import torch

from core.batches import Split, load_tokenizer, predict
from core.data import Data, read
from core.findings import Finding
from core.looks.teacher import Sample, judge
from core.model import load

ROWS, BATCH, TOKENS = 128, 16, 128
SAMPLE_S = 8.0  # CPU-seconds of forward passes


def sample_teacher(model: Path, data: Data) -> list[Finding]:
    """What the answers of a classifier say on a seeded sample of `train`, as far as the time reaches.

    Raises:
        CompressionError: what only loading shows to be wrong with the model.
    """
    torch.set_num_threads(1)
    loaded = load(model, "classification")
    rows = read(data.train, "train", data.columns, loaded.labels, data.formats.get("train"), loaded.task)
    chosen = random.Random(0).sample(range(len(rows)), min(ROWS, len(rows)))  # noqa: S311 - a sample, not a secret
    encoding = {**loaded.encoding, "max_tokens": min(TOKENS, loaded.max_tokens)}
    ends = time.process_time() + SAMPLE_S
    truth: list[int] = []
    guess: list[int] = []
    for start in range(0, len(chosen), BATCH):
        some = Split.encode(load_tokenizer(model), rows.take(chosen[start : start + BATCH]), **encoding)
        truth += some.rows.labels
        guess += predict(loaded.model, some, torch.device("cpu"), BATCH).argmax(axis=1).tolist()
        if time.process_time() >= ends:
            break
    return judge(Sample(truth, guess, [loaded.labels[number] for number in sorted(loaded.labels)]))
