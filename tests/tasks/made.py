"""Of every task: labelled rows that a small model learns in seconds, and a model of any family that has learnt them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn import functional as F

from core.batches import Split, inputs, load_tokenizer
from core.data import Columns, read
from core.family import FAMILIES
from core.pooling import Pooling, pooled
from core.task import TASKS
from core.tasks import answers_of
from tests import tiny
from tests.families import models

Row = dict[str, Any]
KINDS = {"animal": tiny.ANIMALS, "tool": tiny.TOOLS}
TAGS = ("O", "B-animal", "I-animal", "B-tool", "I-tool")
LABELS: dict[str, tuple[str, ...]] = {
    "classification": ("animal", "tool"),
    "multi_label": ("animal", "tool", "barn"),
    "regression": ("score",),
    "token_classification": TAGS,
    "question_answering": (),
    "sentence_embedding": (),
}
ASKED = {"old": "animal", "new": "tool"}  # a question is one word


def _words(rng: random.Random, *things: str) -> list[str]:
    words = rng.choices(tiny.FILLERS, k=rng.randrange(3, 9))
    for thing in things:
        words.insert(rng.randrange(len(words)), thing)
    return words


def _thing(rng: random.Random, kind: str) -> str:
    return rng.choice(KINDS[kind][:4])  # few words are learnt in few steps


def _multi_label(rng: random.Random) -> Row:
    held = [kind for kind in KINDS if rng.random() < 0.5]
    words = _words(rng, *(_thing(rng, kind) for kind in held))
    return {"text": " ".join(words), "label": [*held, *(["barn"] if "barn" in words else [])]}


def _regression(rng: random.Random) -> Row:
    count = rng.randrange(4)
    return {"text": " ".join(_words(rng, *(_thing(rng, "animal") for _ in range(count)))), "label": count / 2}


def _token_classification(rng: random.Random) -> Row:
    words: list[str] = []
    tags: list[str] = []
    for _ in range(rng.randrange(3, 8)):
        kind = rng.choice([*KINDS, "filler", "filler"])
        if kind == "filler":
            words, tags = [*words, rng.choice(tiny.FILLERS)], [*tags, "O"]
            continue
        length = rng.choice((1, 1, 2))
        words += [_thing(rng, kind) for _ in range(length)]
        tags += [f"B-{kind}", f"I-{kind}"][:length]
    return {"tokens": words, "tags": tags}


def _question_answering(rng: random.Random) -> Row:
    question, kind = rng.choice([*ASKED.items()])
    both = {kind: _thing(rng, kind) for kind in KINDS}
    if rng.random() < 0.2:  # no answer
        del both[kind]
    context = " ".join(_words(rng, *both.values()))
    found = both.get(kind)
    answers: Row = {"text": [], "answer_start": []}
    if found is not None:
        answers = {"text": [found], "answer_start": [f" {context} ".index(f" {found} ")]}
    return {"question": question, "context": context, "answers": answers}


def _sentence_embedding(rng: random.Random) -> Row:
    kinds = [rng.choice([*KINDS]) for _ in range(2)]
    texts = [" ".join(_words(rng, _thing(rng, kind))) for kind in kinds]
    return {"text": texts[0], "text_pair": texts[1], "label": float(kinds[0] == kinds[1]) + rng.random() / 10}


MAKE: dict[str, Callable[[random.Random], Row]] = {
    "classification": lambda rng: dict(
        zip(("text", "label"), tiny.sentences(1, rng.randrange(1 << 30))[0], strict=True)
    ),
    "multi_label": _multi_label,
    "regression": _regression,
    "token_classification": _token_classification,
    "question_answering": _question_answering,
    "sentence_embedding": _sentence_embedding,
}


def rows(task: str, count: int, seed: int) -> list[Row]:
    rng = random.Random(seed)
    return [MAKE[task](rng) for _ in range(count)]


def write_rows(path: Path, task: str, count: int, seed: int) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows(task, count, seed)), encoding="utf-8")
    return path


def build(name: str, task: str, **changed: Any) -> nn.Module:
    """A model of a family with random weights."""
    config = models.config(name, **changed)
    labels = LABELS[task] or tiny.LABELS.values()
    config.id2label, config.label2id = dict(enumerate(labels)), {label: i for i, label in enumerate(labels)}
    config.problem_type = TASKS[task].problem or None
    kind: Any = getattr(transformers, FAMILIES[name].stem + TASKS[task].head)
    if task == "question_answering":
        config.num_labels = 2
    if task == "sentence_embedding":
        kind = pooled(kind, Pooling(normalize=True))
    torch.manual_seed(0)
    model: nn.Module = kind(config)
    return model


def write(folder: Path, name: str, task: str, steps: int = 100) -> Path:
    """A Transformers directory of a model that knows the rows of `rows`; of large random weights where steps are 0."""
    model = build(name, task)
    folder.mkdir(parents=True, exist_ok=True)
    models.tokenizer(name).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "[PAD]"}))
    if task == "sentence_embedding":
        (folder / "modules.json").write_text(json.dumps([{"type": f"sentence_transformers.models.{kind}"} for kind in
                                                         ("Transformer", "Pooling", "Normalize")]))  # fmt: skip
        (folder / "pooling_config.json").write_text(json.dumps({"pooling_mode_mean_tokens": True}))
    if steps:
        _teach(model, split_of(folder, name, task, 32 * steps, 1000), task, steps)
    transformer: Any = model.eval() if steps else models.loud(model.eval())
    transformer.save_pretrained(folder)
    return folder


def split_of(folder: Path, name: str, task: str, count: int, seed: int) -> Split:
    path = write_rows(folder.parent / f"{task}-{seed}.jsonl", task, count, seed)
    found = read(path, "eval", Columns(), dict(enumerate(LABELS[task])), task=TASKS[task])
    segments = name in ("bert", "electra")
    encoded = Split.encode(
        load_tokenizer(folder), found, max_tokens=64, pad_id=models.pad_id(name), segments=segments, task=task
    )
    path.unlink()
    return encoded if task != "sentence_embedding" else _Pairs.of(encoded, found.labels)


class _Pairs(Split):
    """Texts with the scores of their pairs."""

    scores: list[float]

    @classmethod
    def of(cls, split: Split, scores: list[float]) -> Split:
        object.__setattr__(split, "scores", scores)
        return split


def _teach(model: nn.Module, split: Split, task: str, steps: int) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    size = len(split) // steps
    for step in range(steps):
        chosen = range(step * size, (step + 1) * size)
        batch = split.collate(chosen, torch.device("cpu"))
        loss = _loss(model, split, task, [*chosen], inputs(batch))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def _loss(model: nn.Module, split: Split, task: str, chosen: list[int], given: dict[str, torch.Tensor]) -> torch.Tensor:
    labels = split.rows.labels
    if task == "sentence_embedding":
        found = model(**given).sentence_embedding
        scores = torch.tensor([split.scores[row // 2] for row in chosen[::2]])  # type: ignore[attr-defined]
        return F.mse_loss((found[0::2] * found[1::2]).sum(1), scores)
    if task == "question_answering":
        places = torch.from_numpy(answers_of(task, split.rows, split.places).chosen.reshape(-1, 2)[chosen].clip(min=0))  # type: ignore[attr-defined]
        return torch.as_tensor(model(**given, start_positions=places[:, 0], end_positions=places[:, 1]).loss)
    if task == "token_classification":
        wanted = torch.full(given["input_ids"].shape, -100)
        for place, row in enumerate(chosen):
            begins = split.places[row]
            wanted[place, : len(begins)][torch.from_numpy(begins >= 0)] = torch.tensor(labels[row])
    elif task == "multi_label":
        wanted = torch.zeros(len(chosen), len(LABELS[task]))
        for place, row in enumerate(chosen):
            wanted[place, list(labels[row])] = 1.0
    else:
        wanted = torch.tensor([labels[row] for row in chosen])
    return torch.as_tensor(model(**given, labels=wanted).loss)
