"""Reports that a page must hold: a real one, and what can stand in one, made from it."""

from __future__ import annotations

from pathlib import Path

import torch

from core.data import Columns, Data
from core.pipeline import compress
from core.recipe import Recipe, Target
from core.report import ClassChange, Curve, Flip, Layer, Report
from tests import tiny

STEPS = [{"method": "weighted_svd", "keep": 0.6}, {"method": "gptq", "bits": 4}, {"method": "distill", "epochs": 1}]
SCRIPT = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>{{ 7 * 7 }}"
WORD = "Donaudampfschifffahrt" * 40
HEBREW = "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd \u202e 12.5 %"


def artifact(folder: Path) -> Path:
    """Compress a tiny model for real; give the delivered folder, whose report.html was written by no test."""
    torch.set_num_threads(1)
    model = tiny.write_model(folder / "model", steps=60)
    train = tiny.write_csv(folder / "train.csv", tiny.sentences(200, seed=1))
    rows = tiny.write_csv(folder / "eval.csv", [(f"{text} field shed", y) for text, y in tiny.sentences(60, seed=2)])
    data = Data(train, rows, columns=Columns(text="text"))
    recipe = Recipe.model_validate({"steps": STEPS})
    return compress(model, recipe, data, target=Target(latency_ratio=9), out=folder / "out", threads=1).folder


def variants(real: Report) -> dict[str, Report]:
    """Name -> report."""
    return {
        "hostile": _with(real, labels=(SCRIPT, WORD, HEBREW), texts=(SCRIPT, WORD, HEBREW, "\u202e" * 9 + "$x$ \\"))
        .model_copy(update={"warnings": (SCRIPT, WORD), "preset": SCRIPT}),
        "large": _with(real, labels=tuple(f"intent {i}" for i in range(150)), texts=(TEXT,) * 20, blocks=12),
        "no flips": _with(real, labels=("animal", "tool"), texts=()),
        "met": real.model_copy(update={"point": real.point.model_copy(update={"target_met": True, "shortfall": {}})}),
        "no target": real.model_copy(
            update={"target": {}, "point": real.point.model_copy(update={"target": {}, "shortfall": {}})}
        ),
        "of before": real.model_copy(update={"evidence": None, "memory_bytes": None}),
    }  # fmt: skip


TEXT = "a film of some wit and less patience , which is slow -- very , very slow -- and beautiful for all of its length"


def _with(real: Report, labels: tuple[str, ...], texts: tuple[str, ...], blocks: int = 2) -> Report:
    """The same report with other classes, rows that changed sides and as many blocks."""
    evidence = real.evidence
    assert evidence is not None
    flips = [
        Flip(row=97 * i, text=text, label=labels[0], teacher=labels[i % 2], student=labels[1 - i % 2])
        for i, text in enumerate(texts)
    ]
    classes = [
        ClassChange(label=label, rows=30 + i, teacher=0.9, student=0.9 - i / 1000) for i, label in enumerate(labels)
    ]
    compared = evidence.comparison.model_copy(
        update={"classes": tuple(classes), "flips": tuple(flips), "p_value": 0.003, "only_teacher_right": 31}
    )
    steps = tuple(range(0, 4000, 20))
    curves = [
        Curve(phase="distill", name=name, steps=steps, values=tuple(scale / (1 + step / 300) for step in steps))
        for name, scale in (("loss", 1.0), ("logits", 3e-7), ("hidden", 5e4), ("nothing", float("nan")))
    ]
    curves += [Curve(phase="once", name="constant", steps=(0,), values=(0.5,))]
    changed = {"comparison": compared, "curves": tuple(curves), "layers": tuple(_layers(evidence.layers, blocks))}
    return real.model_copy(update={"labels": labels, "evidence": evidence.model_copy(update=changed)})


def _layers(real: tuple[Layer, ...], blocks: int) -> list[Layer]:
    """The embedding, then the first block over and over, as wide as a base model's; the last matrix is gone."""
    first = [layer for layer in real if ".layer.0." in layer.name]
    wide = {"shape": (3072, 768), "left": (1120, 768), "teacher_bytes": 9_437_184, "bytes": 1_234_567}
    made = [
        layer.model_copy(update=wide | {"name": layer.name.replace(".0.", f".{block}.")})
        for block in range(blocks)
        for layer in first
    ]
    made[-1] = made[-1].model_copy(update={"bytes": 0, "left": (0, 0), "rank": None})
    return [layer for layer in real if ".layer." not in layer.name] + made
