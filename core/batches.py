"""Tokenised rows and the batches that training reads: seeded, bucketed by length, padded to the longest row."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer

from core.data import Rows

Batch = dict[str, torch.Tensor]
FLOAT = npt.NDArray[np.float32]
BUCKET = 50  # batches whose rows are sorted together: short rows meet short rows, order stays random


def inputs(batch: Mapping[str, torch.Tensor]) -> Batch:
    """The part of a batch that a model takes."""
    return {name: value for name, value in batch.items() if name not in ("labels", "rows")}


@dataclass(frozen=True)
class Split:
    """Rows as token ids and segment ids, each cut to `max_tokens`.

    segments: whether the model tells two texts apart; batches hold segment ids only then.
    """

    tokenizer: Tokenizer
    rows: Rows
    max_tokens: int
    pad_id: int
    ids: Sequence[npt.NDArray[np.int32]]
    types: Sequence[npt.NDArray[np.int32]]
    segments: bool = True

    @classmethod
    def encode(cls, tokenizer: Tokenizer, rows: Rows, *, max_tokens: int, pad_id: int, segments: bool = True) -> Split:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        inputs = rows.texts if rows.pairs is None else list(zip(rows.texts, rows.pairs, strict=True))
        encodings = tokenizer.encode_batch(inputs)
        return cls(
            tokenizer,
            rows,
            max_tokens,
            pad_id,
            [np.array(encoding.ids, dtype=np.int32) for encoding in encodings],
            [np.array(encoding.type_ids, dtype=np.int32) for encoding in encodings],
            segments,
        )

    def __len__(self) -> int:
        return len(self.ids)

    def sample(self, count: int | None, seed: int) -> Split:
        """A seeded sample of `count` rows in file order, or all of them."""
        if count is None or count >= len(self):
            return self
        chosen = [int(i) for i in np.sort(np.random.default_rng(seed).permutation(len(self))[:count])]
        return replace(
            self,
            rows=self.rows.take(chosen),
            ids=[self.ids[i] for i in chosen],
            types=[self.types[i] for i in chosen],
        )

    def cut(self, max_tokens: int) -> Split:
        """The same rows, cut shorter. Tokenised again, so that closing separators stay."""
        if all(len(row) <= max_tokens for row in self.ids):
            return self
        return Split.encode(
            self.tokenizer, self.rows, max_tokens=max_tokens, pad_id=self.pad_id, segments=self.segments
        )

    def by_length(self, batch_size: int) -> Iterator[list[int]]:
        """Numbers of all rows, those of like length together."""
        order = np.argsort([len(row) for row in self.ids], kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]

    def collate(self, indices: Sequence[int], device: torch.device) -> Batch:
        """Tensors (rows, tokens) of ids, mask and segments, if any; (rows,) of labels and of the rows' own numbers."""
        width = max(len(self.ids[i]) for i in indices)
        ids = np.full((len(indices), width), self.pad_id, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, i in enumerate(indices):
            length = len(self.ids[i])
            ids[row, :length], types[row, :length], mask[row, :length] = self.ids[i], self.types[i], 1
        labels = np.array([self.rows.labels[i] for i in indices], dtype=np.int64)
        named = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        if self.segments:
            named["token_type_ids"] = types
        named["rows"] = np.array(indices, dtype=np.int64)
        return {name: torch.from_numpy(value).to(device) for name, value in named.items()}


class Batches:
    """Iterable of shuffled batches; each pass over it has an order of its own, given by seed and pass number."""

    def __init__(self, split: Split, batch_size: int, *, seed: int, device: torch.device) -> None:
        self.split, self.batch_size, self.seed, self.device = split, batch_size, seed, device
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        rng = np.random.default_rng([self.seed, self.epoch])
        self.epoch += 1
        lengths = np.array([len(row) for row in self.split.ids])
        order = rng.permutation(len(self.split))
        batches: list[list[int]] = []
        for start in range(0, len(order), BUCKET * self.batch_size):
            bucket = order[start : start + BUCKET * self.batch_size]
            bucket = bucket[np.argsort(lengths[bucket], kind="stable")]
            batches += [bucket[i : i + self.batch_size].tolist() for i in range(0, len(bucket), self.batch_size)]
        for index in rng.permutation(len(batches)):
            yield self.split.collate(batches[index], self.device)


@torch.no_grad()
def predict(model: torch.nn.Module, split: Split, device: torch.device, batch_size: int = 64) -> FLOAT:
    """Logits (rows, classes) of a model in memory, in row order; rows of like length run together."""
    return answers(split, device, batch_size, lambda batch: model(**inputs(batch)).logits.float().cpu().numpy())


def answers(split: Split, device: torch.device, batch_size: int, answer: Callable[[Batch], FLOAT]) -> FLOAT:
    """What `answer` gives for each row, in row order, whatever runs the model."""
    places = list(split.by_length(batch_size))
    in_order = np.concatenate([answer(split.collate(rows, device)) for rows in places])
    result = np.empty_like(in_order)
    result[np.concatenate(places)] = in_order
    return result


def load_tokenizer(folder: Path) -> Tokenizer:
    """The upload's own fast tokenizer; never code from the upload."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
