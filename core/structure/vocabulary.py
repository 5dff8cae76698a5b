"""Vocabulary trimming: the word embedding keeps the rows that the text needs; each other token reads the nearest one.

Of a vocabulary made for all text, a task reads a part. The `tokens` most frequent ones of the training rows stay, the
special ones first; where the text has fewer, those of the lowest ids follow, which vocabularies built by frequency hold
their common words in. Every other token reads the row that lies nearest to its own (Euclidean), so that no token is
unknown: a rare word means what its neighbour means. A table of two bytes a token says which row that is; tokenizer and
ids stay as they are. To leave out rows that a text does not need is Abdaoui et al. 2020 (arXiv 2010.05609), who make
what is left out unknown and write another tokenizer.

Saves bytes where the embedding is much of the model: more than half of all-MiniLM-L6-v2. No time. Text unlike that of
the training loses most; `python -m bench.shift` measures how much. Before `gptq` with bits "auto", bits and ranks are
planned for the rows that stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from core.method import Method, Tensor, place_bits

if TYPE_CHECKING:
    import torch

    from core.batches import Split
    from core.phase import Build, Phase

AT_ONCE = 2048  # tokens whose distances are held in memory


class Vocabulary(Method):
    profiled_after: ClassVar[bool] = True

    method: Literal["vocabulary"] = "vocabulary"
    tokens: int = Field(8192, ge=16, le=10_000_000, description="Rows of the word embedding that stay.")

    def stored(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Fewer rows, and a table that says which row a token reads."""
        found = []
        for tensor in tensors:
            if tensor.kind != "embedding" or self.tokens >= tensor.rows:
                found.append(tensor)
                continue
            kept = self.tokens * tensor.cols
            found.append(replace(tensor, rows=self.tokens, kept=kept))
            bits = place_bits(self.tokens)
            every = tensor.rows
            found.append(Tensor(f"{tensor.name}.row", 1, every, every, "fixed", bits=bits, counted=False))
        return found

    def compile(self, build: Build) -> Iterable[Phase]:
        from core.surgery import place_type, share_rows

        table = build.weight(build.family.embedding)
        if self.tokens < len(table):
            kept = frequent(build.shared.train, self.tokens, len(table))
            row = nearest(table, kept).to(place_type(self.tokens))
            share_rows(build.model, build.family.embedding, kept, row)
            build.left[build.family.embedding] = (kept, None)
        return ()


def frequent(text: Split, tokens: int, every: int) -> torch.Tensor:
    """The tokens that keep their row, of `every` one, in rising order: special ones, then the most frequent."""
    counts = text.counts(every)
    special = [id_ for id_, token in text.tokenizer.get_added_tokens_decoder().items() if token.special]
    counts[[id_ for id_ in (*special, text.pad_id) if id_ < every]] = int(counts.sum()) + 1
    found: torch.Tensor = counts.argsort(descending=True, stable=True)[:tokens]
    return found.sort().values


def nearest(table: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """For each row of `table` (tokens, width) the place in `kept` of the nearest that is kept: its own, if it is."""
    import torch

    rows = table[kept]
    energy = rows.square().sum(dim=1)
    found = torch.cat([(energy - 2 * part @ rows.T).argmin(dim=1) for part in torch.split(table, AT_ONCE)])
    found[kept] = torch.arange(len(kept), device=found.device)
    return found
