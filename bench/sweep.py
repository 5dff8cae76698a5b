"""`python -m bench.sweep --data F --teacher F --preset hybrid --target parameter_ratio=10 --set distill.hidden=3,10`

Where defaults come from: every combination of the values runs the preset's recipe without export, and is judged on
`select` rows cut from the training rows; graded rows are not read. One line of JSON each in `bench/results/sweeps/`.
A combination that stands there already, made by the same mechanisms' versions, is not run again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from bench import rows
from core import data as data_files
from core.batches import Split, load_tokenizer, predict
from core.catalogue import METHODS
from core.data import Columns
from core.export import onnx
from core.inspect import shape_of
from core.metrics import agreement, divergence
from core.model import load
from core.plan import fill
from core.profile import VERSION
from core.progress import Meter, Silent, cpu_seconds
from core.recipe import PRESETS, Recipe, Target
from core.resolve import Profiler
from core.shared import Shared
from core.train import train

RESULTS = rows.RESULTS / "sweeps"
CPU = torch.device("cpu")


class Bench:
    """A teacher with the training rows of one task; `run` compresses it by one recipe."""

    def __init__(
        self, data: Path, teacher: Path, most: int, seed: int, folder: Path, device: torch.device = CPU
    ) -> None:
        self.shape, labels = shape_of(teacher)
        self.loaded, tokenizer = load(teacher), load_tokenizer(teacher)
        every = data_files.read(data / "train.parquet", "train", Columns(), labels)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(every))[:most]).tolist()
        train_rows, select = data_files.split_select(every.take(chosen), seed)
        encode = self.loaded.encoding
        # What may stop a training early never judges it.
        watched, judged = (select.take(list(range(half, len(select), 2))) for half in (0, 1))
        self.select = Split.encode(tokenizer, judged, **encode)
        teacher_model = self.loaded.model.to(device).requires_grad_(False)
        split = Split.encode(tokenizer, train_rows, **encode)
        self.shared = Shared(
            teacher_model, self.loaded.family, split, seed, device, folder, Split.encode(tokenizer, watched, **encode)
        )
        self.followed = predict(teacher_model, self.select, device)
        self.folder = folder

    def exported(self) -> Path:
        """The teacher's model.onnx, where milliseconds are asked for."""
        path = self.folder / "teacher.onnx"
        if not path.exists():
            onnx.write(self.loaded.model, {}, path)
        return path

    def cold(self) -> Shared:
        """The same teacher and text, nothing made of them yet."""
        return replace(self.shared, _made={})

    def profiler(self, recipe: Recipe, target: Target) -> Profiler:
        """One for each set of open steps."""
        exported = self.exported() if target.times() else None
        key = ("profiler", json.dumps(recipe.profiled()), exported)
        return self.shared.once(key, lambda: Profiler(self.shared, self.shape, exported))

    def run(self, recipe: Recipe, target: Target) -> dict[str, float]:
        """Agreement with the teacher and KL on select, and the CPU-seconds of this point alone."""
        torch.manual_seed(self.shared.seed)
        for step in recipe.steps:  # what points share is made before the clock starts
            if (count := getattr(step, "calibration_rows", None)) is not None:
                self.shared.moments(count)
            if step.trains:
                asked = [getattr(step, name) for name in ("max_rows", "max_length", "augment_to")]
                self.shared.recorded(self.shared.text(*asked))
        planned = None
        if recipe.open_for(target):
            (planned,) = self.profiler(recipe, target).plan([(recipe, target)])
            recipe = planned.recipe
        start = cpu_seconds()
        build = self.shared.student()
        for step in recipe.steps:
            for phase in step.compile(build):
                train(phase, Meter(Silent()), device=self.shared.device)
        spent = cpu_seconds() - start
        logits = predict(build.model, self.select, self.shared.device)
        kl = divergence(logits, self.followed)
        loss = {} if planned is None or planned.loss is None else {"planned_loss": planned.loss}
        return {"agreement": agreement(logits, self.followed), "kl": kl, "cpu_s": spent, **loss}


def varied(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """The recipe with `method.field` set to other values."""
    steps = []
    for step in recipe.steps:
        own = {key.split(".")[1]: value for key, value in changes.items() if key.split(".")[0] == step.name()}
        steps.append({**step.model_dump(), **own})
    return Recipe.model_validate({"steps": steps})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.sweep", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--preset", default="hybrid")
    parser.add_argument("--steps", help="methods in order, at their defaults, instead of a preset: obs,distill")
    parser.add_argument("--target", default="parameter_ratio=10", metavar="SIZE=V,V", help="sizes, one run each")
    parser.add_argument("--rows", type=int, default=16_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--set", action="append", default=[], metavar="METHOD.FIELD=V,V", dest="sets")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    axes = [(key, _values(values)) for key, _, values in (one.partition("=") for one in given.sets)]
    with TemporaryDirectory() as folder:
        device = torch.device(given.device)
        bench = Bench(given.data, given.teacher, given.rows, given.seed, Path(folder), device)
        axis, _, sizes = given.target.partition("=")
        targets = [Target.model_validate({axis: float(size)}) for size in sizes.split(",")]
        for target, values in itertools.product(targets, itertools.product(*(values for _, values in axes))):
            changes = {key: value for (key, _), value in zip(axes, values, strict=True)}
            _row(bench, given, target, changes)


def _row(bench: Bench, given: argparse.Namespace, target: Target, changes: dict[str, Any]) -> None:
    plain = [{"method": name} for name in given.steps.split(",")] if given.steps else []
    base = Recipe.model_validate({"steps": plain}) if plain else PRESETS[given.preset].recipe
    recipe = fill(varied(base, changes), target, bench.shape)
    what = {
        "task": given.data.name,
        "preset": given.steps or given.preset,
        "target": target.given(),
        "rows": given.rows,
        "seed": given.seed,
        "recipe": recipe.model_dump(mode="json"),
        "versions": {step.name(): METHODS[step.name()].version for step in recipe.steps},
        **({"profile": VERSION} if recipe.open_for(target) else {}),
    }
    path = RESULTS / f"{given.data.name}.jsonl"
    before = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if any({key: row.get(key) for key in what} == what for row in map(json.loads, before)):
        return
    row = {**what, "changes": changes, **bench.run(recipe, target), "device": given.device, "git_sha": rows.git_sha()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    figures = f"agreement {row['agreement']:.4f} kl {row['kl']:.4f} {row['cpu_s']:.0f} CPU-s"
    print(f"{given.data.name} {what['preset']} {target.given()} {changes}: {figures}", flush=True)


def _values(text: str) -> list[Any]:
    """JSON with commas between, or else words."""
    try:
        return list(json.loads(f"[{text}]"))
    except ValueError:
        return text.split(",")


if __name__ == "__main__":
    main()
