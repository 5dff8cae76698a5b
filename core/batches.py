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
from core.forward import logits_of
from core.memory import by_halves
from core.verify import scoring

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
    places: what each token is to the task, row by row (`core.verify.scoring.places`); nothing where that is no matter.
    Rows of sentence embedding are single texts: of two in a row each is one.
    """

    tokenizer: Tokenizer
    rows: Rows
    max_tokens: int
    pad_id: int
    ids: Sequence[npt.NDArray[np.int32]]
    types: Sequence[npt.NDArray[np.int32]]
    segments: bool = True
    task: str = "classification"
    places: Sequence[npt.NDArray[np.int32]] = ()

    @classmethod
    def encode(
        cls,
        tokenizer: Tokenizer,
        rows: Rows,
        *,
        max_tokens: int,
        pad_id: int,
        segments: bool = True,
        task: str = "classification",
    ) -> Split:
        tokenizer.no_padding()
        tokenizer.enable_truncation(max_tokens)
        rows = rows.sequences() if task == "sentence_embedding" else rows
        inputs = rows.texts if rows.pairs is None else list(zip(rows.texts, rows.pairs, strict=True))
        encodings = tokenizer.encode_batch(inputs, is_pretokenized=task == "token_classification")
        found = [scoring.places(task, encoding) for encoding in encodings]
        return cls(
            tokenizer,
            rows,
            max_tokens,
            pad_id,
            [np.array(encoding.ids, dtype=np.int32) for encoding in encodings],
            [np.array(encoding.type_ids, dtype=np.int32) for encoding in encodings],
            segments,
            task,
            () if found[0] is None else found,
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
            places=[self.places[i] for i in chosen] if self.places else (),
        )

    def cut(self, max_tokens: int) -> Split:
        """The same rows, cut shorter. Tokenised again, so that closing separators stay."""
        if all(len(row) <= max_tokens for row in self.ids):
            return self
        return Split.encode(
            self.tokenizer,
            self.rows,
            max_tokens=max_tokens,
            pad_id=self.pad_id,
            segments=self.segments,
            task=self.task,
        )

    def counts(self, vocabulary: int) -> torch.Tensor:
        """How often each token of so many stands in the rows, (vocabulary,)."""
        return torch.bincount(torch.cat([torch.from_numpy(ids) for ids in self.ids]).long(), minlength=vocabulary)

    def by_length(self, batch_size: int) -> Iterator[list[int]]:
        """Numbers of all rows, those of like length together."""
        order = np.argsort([len(row) for row in self.ids], kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]

    def collate(self, indices: Sequence[int], device: torch.device) -> Batch:
        """Tensors (rows, tokens) of ids, mask and segments, if any; (rows,) of the rows' own numbers and classes."""
        width = max(len(self.ids[i]) for i in indices)
        ids = np.full((len(indices), width), self.pad_id, dtype=np.int64)
        mask, types = np.zeros_like(ids), np.zeros_like(ids)
        for row, i in enumerate(indices):
            length = len(self.ids[i])
            ids[row, :length], types[row, :length], mask[row, :length] = self.ids[i], self.types[i], 1
        named = {"input_ids": ids, "attention_mask": mask}
        if self.task == "classification":
            named["labels"] = np.array([self.rows.labels[i] for i in indices], dtype=np.int64)
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
    """Outputs of a model in memory, in row order: (rows, width), or (tokens of all rows, width).

    Rows of like length run together.
    """
    return answers(split, device, batch_size, lambda batch: logits_of(model(**inputs(batch))).float().cpu().numpy())


def answers(split: Split, device: torch.device, batch_size: int, answer: Callable[[Batch], FLOAT]) -> FLOAT:
    """What `answer` gives for each row, in row order, whatever runs the model; of tokens without padding."""
    found: list[FLOAT] = [np.zeros(0, np.float32)] * len(split)
    for given in split.by_length(batch_size):
        for rows, out in by_halves(given, lambda some: answer(split.collate(some, device))):
            for place, row in enumerate(rows):
                found[row] = out[place : place + 1] if out.ndim == 2 else out[place, : len(split.ids[row])]
    return np.concatenate(found)


def load_tokenizer(folder: Path) -> Tokenizer:
    """The upload's own fast tokenizer; never code from the upload."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))
