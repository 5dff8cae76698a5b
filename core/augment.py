"""More text from little: copies of rows in which some tokens are replaced by others of the same text.

The teacher answers on them as on any row, so no label has to be right: TinyBERT's augmentation (Jiao et al. 2020,
arXiv 1909.10351, section 4.2) without its language model. Tokens are drawn as they occur in the rows.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from core.batches import Split

SHARE = 0.3  # of a row's tokens that are replaced


def augmented(split: Split, count: int, seed: int) -> Split:
    """`split` followed by changed copies of its rows, each row in turn, until there are `count`; or as it is."""
    missing = count - len(split)
    if missing <= 0:
        return split
    rng = np.random.default_rng([seed, len(split)])
    framing = np.array(sorted({*split.tokenizer.encode("", "").ids, split.pad_id}))
    tokens = np.concatenate(split.ids)
    tokens = tokens[~np.isin(tokens, framing)]
    sources = [i for turn in range(-(-missing // len(split))) for i in rng.permutation(len(split))][:missing]
    copies = [_changed(split.ids[i], tokens, framing, rng) for i in sources]
    return replace(
        split,
        rows=split.rows + split.rows.take(sources),  # the texts that the copies were made from
        ids=[*split.ids, *copies],
        types=[*split.types, *(split.types[i] for i in sources)],
        places=[*split.places, *(split.places[i] for i in sources)] if split.places else (),
    )


def _changed(
    row: npt.NDArray[np.int32], tokens: npt.NDArray[np.int32], framing: npt.NDArray[np.int64], rng: np.random.Generator
) -> npt.NDArray[np.int32]:
    if not len(tokens):
        return row
    free = ~np.isin(row, framing) & (rng.random(len(row)) < SHARE)
    return np.where(free, rng.choice(tokens, size=len(row)), row).astype(np.int32)
