"""A training batch in parts that run one after the other, where all its rows at once need more memory than there is.

The gradient is that of the whole batch: an objective weighs the loss of each part by its share of what the whole
loss is a mean over. Halved until a part fits; what is learnt of one batch holds for the next ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from core.batches import Batch, Split
from core.estimate import row_bytes
from core.memory import free_bytes

if TYPE_CHECKING:
    from core.phase import Build

TRAINED_BYTES = 12  # of a parameter: its gradient and the two moments of AdamW
SPARED = 0.9  # of what is free: the rest is for what no formula counts


class Parts:
    """tokens: at most so many together, padding counted, or one row; None is all of a batch."""

    def __init__(self, tokens: int | None = None) -> None:
        self.tokens = tokens
        self._tried = (0, 0)

    def of(self, batch: Mapping[str, torch.Tensor]) -> list[Batch]:
        """The batch itself, or parts of about equal numbers of rows, each as wide as its own longest row."""
        count, width = batch["input_ids"].shape
        rows = count if self.tokens is None else min(count, max(1, self.tokens // width))
        pieces = -(-count // rows)
        self._tried = (-(-count // pieces), width)
        return [dict(batch)] if pieces == 1 else [trimmed(batch, rows) for rows in _spread(count, pieces)]

    def halve(self) -> int | None:
        """Make parts smaller than those of the last batch. Tokens that now go together; None where it was one row."""
        rows, width = self._tried
        if rows <= 1:
            return None
        self.tokens = rows * width // 2
        return self.tokens


def _spread(count: int, pieces: int) -> list[slice]:
    edges = [count * piece // pieces for piece in range(pieces + 1)]
    return [slice(*pair) for pair in pairwise(edges)]


def trimmed(batch: Mapping[str, torch.Tensor], rows: slice | torch.Tensor) -> Batch:
    """Some rows of a batch, as wide as the longest of them."""
    width = int(batch["attention_mask"][rows].sum(dim=1).max())  # padding is on the right (core.batches)
    return {name: held[rows, :width] if held.dim() > 1 else held[rows] for name, held in batch.items()}


def parts_for(build: Build, text: Split, batch_size: int, *, maps: bool) -> tuple[Parts, list[tuple[str, str]]]:
    """Parts that the memory of the device has room for, and a warning where a batch is more than one.

    Args:
        maps: whether attention maps are compared, and so kept.
    """
    config, family = build.model.config, build.family
    layers, hidden, heads = (int(getattr(config, name)) for name in (family.layers, family.hidden, family.heads))
    longest = max(map(len, text.ids))
    row = row_bytes(layers, hidden, longest, heads=2 * heads if maps else 0)
    trained = TRAINED_BYTES * sum(parameter.numel() for parameter in build.model.parameters())
    free = max(0, int(SPARED * (free_bytes(build.device) - trained)))
    fit = free * longest // row
    if fit >= batch_size * longest:
        return Parts(), []
    tokens = 1 << max(fit, 1).bit_length() - 1  # a power of two: the next attempt most likely finds the same
    takes = batch_size * row
    detail = f"{tokens} tokens run together: {batch_size} rows of {longest} take {takes:,} bytes, {free:,} are free"
    return Parts(tokens), [("batch_in_parts", detail)]
