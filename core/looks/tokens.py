"""What the tokenizer makes of the text, and whether it is one that the model can have been trained with."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from core.data import Rows
from core.findings import Finding, Lengths, found
from core.looks.budget import Budget
from core.looks.guarded import guarded
from core.task import Task

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SAMPLE = 256  # texts of a role
CHUNK, CHUNK_CHARACTERS = 32, 65_536  # texts, and of what length together, between two looks at the clock
CUT_SHARE, UNKNOWN_SHARE, UNUSED_SHARE = 0.01, 0.1, 0.1
UNUSED = 256  # rows of an embedding that padding to a round number explains
KINDS = {
    "bert": ("WordPiece",),
    "distilbert": ("WordPiece",),
    "electra": ("WordPiece",),
    "mpnet": ("WordPiece",),
    "roberta": ("BPE",),
    "modernbert": ("BPE",),
    "xlm-roberta": ("Unigram",),
    "camembert": ("Unigram", "WordPiece"),  # version 2 has WordPiece
    "deberta-v2": ("Unigram",),
}
PAD_NAMES = ("[PAD]", "<pad>")


def look_at_tokenizer(tokenizer: Tokenizer, config: Mapping[str, Any]) -> Iterator[Finding]:
    """The tokenizer against config.json. That ids fit into the embedding is known."""
    kind, usual = type(tokenizer.model).__name__, KINDS[config["model_type"]]
    if kind not in usual:
        detail = f"tokenizer.json is {kind}; models of family {config['model_type']} come with {' or '.join(usual)}"
        yield found("tokenizer_unusual", detail, "/model")
    known, rows = tokenizer.get_vocab_size(with_added_tokens=True), int(config["vocab_size"])
    if rows - known > max(UNUSED, UNUSED_SHARE * rows):
        yield found("tokenizer_small", f"tokenizer.json knows {known} tokens, the embedding has {rows} rows", "/model",
                    counts={"tokens": known, "rows": rows})  # fmt: skip
    if tokenizer.num_special_tokens_to_add(is_pair=False) == 0:
        yield found("special_tokens_missing", "tokenizer.json adds no special tokens to a text", "/model")
    pad = config.get("pad_token_id")
    theirs = next((number for name in PAD_NAMES if (number := tokenizer.token_to_id(name)) is not None), None)
    if pad is not None and theirs is not None and pad != theirs:
        yield found("pad_token_differs", f"config.json pad_token_id is {pad}, the tokenizer's is {theirs}", "/model",
                    counts={"config": pad, "tokenizer": theirs})  # fmt: skip


def look_at_lengths(
    tokenizer: Tokenizer, roles: Mapping[str, Rows], task: Task, max_tokens: int, budget: Budget
) -> tuple[dict[str, Lengths], list[Finding]]:
    """Percentiles by role, and which texts are cut or unknown."""
    tokenizer.no_padding()
    tokenizer.no_truncation()
    unknown = _unknown_id(tokenizer)
    lengths: dict[str, Lengths] = {}
    findings: list[Finding] = []
    for role, rows in roles.items():
        chosen = range(len(rows))
        numbers = sorted(random.Random(0).sample(chosen, SAMPLE)) if len(rows) > SAMPLE else list(chosen)  # noqa: S311
        counts, strange = _count(tokenizer, rows, numbers, task, unknown, budget)
        if len(counts) < len(numbers):
            detail = f"{role}: {len(counts)} texts of a sample of {len(numbers)} were tokenised"
            findings.append(
                found("not_looked_at", detail, f"/data/{role}", counts={"rows": len(numbers) - len(counts)})
            )
        if counts:
            lengths[role] = _lengths(counts, max_tokens)
            findings += _found(role, numbers, counts, strange, max_tokens)
    return lengths, findings


def _count(
    tokenizer: Tokenizer, rows: Rows, numbers: Sequence[int], task: Task, unknown: int | None, budget: Budget
) -> tuple[list[int], int]:
    """Tokens of each text as far as the time reaches, and unknown ones of all."""
    counts: list[int] = []
    strange = 0
    for chosen in _chunks(rows, numbers):
        if budget.over():
            break
        some = rows.take(chosen)
        if task.name == "sentence_embedding" and some.pairs is not None:  # each text is read alone
            inputs: Any = [max(pair, key=len) for pair in zip(some.texts, some.pairs, strict=True)]
        else:
            inputs = some.texts if some.pairs is None else list(zip(some.texts, some.pairs, strict=True))
        words = task.name == "token_classification"
        for encoding in guarded("cannot be used", tokenizer.encode_batch, inputs, is_pretokenized=words):
            counts.append(len(encoding))
            strange += encoding.ids.count(unknown) if unknown is not None else 0
    return counts, strange


def _chunks(rows: Rows, numbers: Sequence[int]) -> Iterator[list[int]]:
    """The numbers in pieces that take about the same time, so that one which does not end is noticed."""
    chunk: list[int] = []
    size = 0
    for number in numbers:
        chunk.append(number)
        size += len(rows.texts[number]) + (len(rows.pairs[number]) if rows.pairs else 0)
        if len(chunk) == CHUNK or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _found(
    role: str, numbers: Sequence[int], counts: Sequence[int], strange: int, max_tokens: int
) -> Iterator[Finding]:
    cut = [number + 1 for number, count in zip(numbers, counts, strict=False) if count > max_tokens]
    if len(cut) >= CUT_SHARE * len(counts) and cut:
        share = len(cut) / len(counts)
        detail = f"{role}: {share:.0%} of {len(counts)} texts looked at are cut to the model's {max_tokens} tokens"
        yield found("text_truncated", detail, f"/data/{role}", rows=cut, counts={"share": share, "of": len(counts)})
    total = sum(counts)
    if strange > UNKNOWN_SHARE * total:
        detail = f"{role}: {strange / total:.0%} of the tokens are unknown to the tokenizer"
        yield found("tokens_unknown", detail, f"/data/{role}", counts={"share": strange / total})


def _unknown_id(tokenizer: Tokenizer) -> int | None:
    model = tokenizer.model
    name = getattr(model, "unk_token", None)
    if name is not None:
        return int(found_id) if (found_id := tokenizer.token_to_id(name)) is not None else None
    return next((number for one in ("[UNK]", "<unk>") if (number := tokenizer.token_to_id(one)) is not None), None)


def _lengths(counts: Sequence[int], max_tokens: int) -> Lengths:
    ordered = sorted(counts)

    def at(share: float) -> int:
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    return Lengths(
        sampled=len(counts),
        mean=sum(counts) / len(counts),
        p50=at(0.5),
        p90=at(0.9),
        p99=at(0.99),
        longest=ordered[-1],
        max_tokens=max_tokens,
        cut=sum(count > max_tokens for count in counts),
    )
