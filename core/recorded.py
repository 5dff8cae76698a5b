"""What a teacher says of every training row, computed once and kept in files that are mapped into memory.

Every point of a ladder and every pass over the rows reads the same answers, so a teacher's forward is paid once.
Hidden states are stored in half precision: a relative error of 5e-4 beside a student that is off by percents.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from core.batches import Split, inputs
from core.forward import logits_of
from core.memory import by_halves

MOST_BYTES = 32 * 2**30
ROWS = 64  # of one forward


Projected = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Answers:
    """Outputs on one batch: logits (rows, width) or (rows, tokens, width), hidden states (rows, tokens,
    width) from the embedding up; where attention is followed queries and keys (rows, tokens, width) of each layer, or
    what its attention adds (rows, tokens, width), by layer."""

    logits: torch.Tensor
    hidden: Sequence[torch.Tensor]
    projected: Sequence[Projected] = ()
    attention: Mapping[int, torch.Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Recorded:
    """logits (rows, width) or, of tokens, (tokens of all rows, width), fp32; hidden (tokens of all rows, layers + 1,
    width) fp16; row i starts at starts[i]."""

    logits: npt.NDArray[np.float32]
    hidden: npt.NDArray[np.float16]
    starts: npt.NDArray[np.int64]
    per_token: bool = False

    def answers(self, rows: Sequence[int], width: int, device: torch.device) -> Answers:
        """Of these rows in this order, padded with zeros to `width` tokens."""
        states = torch.from_numpy(self._padded(self.hidden, rows, width)).to(device).float().unbind(dim=2)
        logits = self._padded(self.logits, rows, width) if self.per_token else self.logits[list(rows)]
        return Answers(torch.from_numpy(logits).to(device), states)

    def _padded(self, of_tokens: npt.NDArray[Any], rows: Sequence[int], width: int) -> npt.NDArray[Any]:
        padded = np.zeros((len(rows), width, *of_tokens.shape[1:]), dtype=of_tokens.dtype)
        for place, row in enumerate(rows):
            start, stop = self.starts[row], self.starts[row + 1]
            padded[place, : stop - start] = of_tokens[start:stop]
        return padded


def size_of(split: Split, layers: int, width: int) -> int:
    """Bytes that the hidden states of a split take."""
    return 2 * sum(map(len, split.ids)) * (layers + 1) * width


def fits(folder: Path, size: int) -> bool:
    """Whether so many bytes may be recorded there: at most half of what is free, and never more than 32 GiB."""
    return size <= min(MOST_BYTES, shutil.disk_usage(folder).free // 2)


@torch.no_grad()
def record(teacher: nn.Module, split: Split, device: torch.device, folder: Path) -> Recorded | None:
    """Run the teacher over all rows, rows of like length together. None where a state is beyond half precision."""
    starts = np.concatenate([[0], np.cumsum([len(row) for row in split.ids])]).astype(np.int64)
    hidden: Any = None
    logits: Any = None
    per_token = False

    def ask(some: Sequence[int]) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.float32]]:
        """Hidden states (rows, tokens, layers + 1, width), and logits."""
        out = teacher(**inputs(split.collate(some, device)), output_hidden_states=True)
        return torch.stack(out.hidden_states, dim=2).half().cpu().numpy(), logits_of(out).float().cpu().numpy()

    answered = (pair for given in split.by_length(ROWS) for pair in by_halves(given, ask))
    for rows, (states, said) in answered:
        if hidden is None:
            shape = (int(starts[-1]), *states.shape[2:])
            hidden = np.lib.format.open_memmap(folder / "hidden.npy", mode="w+", dtype=np.float16, shape=shape)
            per_token = said.ndim == 3
            count = int(starts[-1]) if per_token else len(split)
            logits = np.zeros((count, said.shape[-1]), dtype=np.float32)
        if not np.isfinite(states).all():
            return None
        for place, row in enumerate(rows):
            hidden[starts[row] : starts[row + 1]] = states[place, : len(split.ids[row])]
            if per_token:
                logits[starts[row] : starts[row + 1]] = said[place, : len(split.ids[row])]
        if not per_token:
            logits[list(rows)] = said
    return Recorded(logits, hidden, starts, per_token)
