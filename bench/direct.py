"""`python -m bench.direct --data F --teacher F --system fast --seed 0 --device cuda --out FILE`

Points for machines that run no service, a lent GPU among them: the same systems on the same rows, by `core.pipeline`.
One line of JSON a point: what the report says of it, device, git sha. Seconds are of that machine and compare with none
of `bench/results/TASK`; retention does, and intervals are of graded rows in pairs, for predictions are kept.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from bench import rows
from bench.systems import ROWS, SYSTEMS, System, Task, predictions, prepare
from core.catalogue import METHODS
from core.data import Data
from core.pipeline import Result, compress
from core.recipe import Ladder, Recipe, Target

DISTILL = {"method": "distill", "epochs": 1.5, "min_steps": 300, "enough": 0.001, "look_every": 0.1}


def _alone(name: str, axis: str, ladder: tuple[float, ...], *steps: dict[str, Any]) -> System:
    recipe = Recipe.model_validate({"steps": [*steps, DISTILL]})
    return System(name, ladder, ROWS, recipe, axis=axis)


# One axis each, with the training that `small` and `fast` have.
ALONE = {
    "bits": _alone("bits", "bytes_ratio", (8.0, 12.0), {"method": "gptq", "bits": "auto"}),
    "rank": _alone("rank", "bytes_ratio", (8.0, 12.0), {"method": "weighted_svd"}),
    "sparsity": _alone("sparsity", "bytes_ratio", (8.0, 12.0), {"method": "obs"}),
    "structure": _alone("structure", "bytes_ratio", (8.0, 12.0), {"method": "structured"}),
    "structure-ms": _alone("structure-ms", "latency_ratio", (3.0,), {"method": "structured"}),
    "structure-bits": _alone(
        "structure-bits", "bytes_ratio", (8.0, 12.0), {"method": "structured"}, {"method": "gptq", "bits": "auto"}
    ),
    "joint": replace(SYSTEMS["small"], name="joint", preset="small", ladder=(8.0, 12.0)),
    "joint-ms": replace(SYSTEMS["fast"], name="joint-ms", preset="fast", ladder=(3.0,)),
    **{f"{name}-front": replace(SYSTEMS[name], name=f"{name}-front", preset=name) for name in ("small", "fast")},
}


def made(
    teacher: Path, task: Task, recipe: Recipe, target: Target, ladder: Ladder, seed: int, device: str, out: Path
) -> Result:
    """One job, in this process."""
    data = Data(train=task.train, eval=task.eval, select=task.select)
    return compress(
        teacher, recipe, data, target=target, ladder=ladder, out=out, metric=task.metric, seed=seed, device=device,
        threads=1,
    )  # fmt: skip


def stamp(task: Task, seed: int, device: str) -> dict[str, Any]:
    """Where and with what code a line was made."""
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    versions = {name: method.version for name, method in METHODS.items()}
    return {"task": task.name, "seed": seed, "device": name, "git_sha": rows.git_sha(), "versions": versions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.direct", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--system", choices=[*ALONE, *SYSTEMS], required=True)
    parser.add_argument("--ladder", type=float, nargs="+", help="in place of the system's own")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    system = {**SYSTEMS, **ALONE}[given.system]
    system = replace(system, ladder=tuple(given.ladder)) if given.ladder else system
    with TemporaryDirectory() as name:
        scratch = Path(name)
        task = prepare(given.data, scratch, given.seed, system.rows)
        recipe, target = system.asked()
        ladder = Ladder.model_validate(system.ladder_of() or {})
        result = made(given.teacher, task, recipe, target, ladder, given.seed, given.device, scratch / "out")
        lines = []
        for point, called in zip(result.points, system.names, strict=True):
            lines.append(
                {
                    "system": called,
                    **stamp(task, given.seed, given.device),
                    **predictions(point.folder, given.teacher, task),
                    "report": point.report.model_dump(mode="json"),
                }
            )
            figures = point.report.point
            print(task.name, called, given.seed, f"{figures.retention:.4f} {figures.latency_ratio:.2f}x", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


if __name__ == "__main__":
    main()
