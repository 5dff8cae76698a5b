"""Labelled text for the demo: customer messages to a shop, to be routed to one of eight desks.

Rows are made from phrases and frames that we wrote (`phrases/*.toml`); nothing is copied from a data set. Evaluation
rows come from other phrases, other frames and other things than training rows, and many rows also name what the writer
does *not* want. Counting words is therefore not enough; a pre-trained encoder, which knows that "reimbursed" is a word
about refunds, is. The same seed gives the same rows on every machine.
"""

from __future__ import annotations

import csv
import random
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

Split = Literal["train", "eval"]
ROWS: dict[Split, int] = {"train": 6400, "eval": 1000}
CONTRAST: dict[Split, float] = {"train": 0.5, "eval": 0.4}  # share of rows that name a second intent


@dataclass(frozen=True)
class Row:
    """One message, and the two templates that it was made from; `label` is a name in LABELS."""

    text: str
    label: str
    frame: str
    phrase: str


@cache
def phrases(split: Split) -> dict[str, Any]:
    """The parsed phrase file of a split."""
    return tomllib.loads((Path(__file__).parent / "phrases" / f"{split}.toml").read_text(encoding="utf-8"))


LABELS: tuple[str, ...] = tuple(phrases("train")["intents"])


def generate(split: Split, *, seed: int = 0) -> list[Row]:
    """All rows of a split, classes equally often, no text twice, in a shuffled order."""
    draw = random.Random(f"{split}-{seed}")
    rows: dict[str, Row] = {}
    for label in LABELS:
        wanted = len(rows) + ROWS[split] // len(LABELS)
        while len(rows) < wanted:
            row = _row(split, label, draw)
            rows.setdefault(row.text, row)
    shuffled = list(rows.values())
    draw.shuffle(shuffled)
    return shuffled


def write(folder: Path, *, seed: int = 0) -> dict[Split, Path]:
    """Write `train.csv` and `eval.csv` (columns text, label) into an existing folder."""
    paths: dict[Split, Path] = {}
    for split in ROWS:
        paths[split] = folder / f"{split}.csv"
        with paths[split].open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            out.writerow(["text", "label"])
            out.writerows((row.text, row.label) for row in generate(split, seed=seed))
    return paths


def _row(split: Split, label: str, draw: random.Random) -> Row:
    source = phrases(split)
    intents = source["intents"]
    kind = "contrast" if draw.random() < CONTRAST[split] else "plain"
    frame: str = draw.choice(source["frames"][kind])
    other = draw.choice([name for name in LABELS if name != label])
    item = draw.choice(source["items"])  # one thing per message: it must not tell the two intents apart
    phrase: str = draw.choice(intents[label]["acts" if "{own}" in frame else "asks"])
    text = frame.format(own=phrase, ask=phrase, other=draw.choice(intents[other]["acts"])).format(item=item)
    return Row(text, label, frame, phrase)
