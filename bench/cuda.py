"""`python -m bench.cuda --data F --teacher F`: one job of a preset on a GPU, in seconds by the clock, stage by stage.

The library alone, without the service: a GPU machine need hold nothing else. Rows as `bench.graded` takes them,
graded on validation and test together; the delivered files are verified and timed as always, on the CPU. One JSON
file in `bench/results/cuda/`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from bench import rows
from bench.systems import SYSTEMS, prepare
from core.data import Data, digest
from core.pipeline import compress
from core.progress import Silent
from core.recipe import Ladder

RESULTS = rows.RESULTS / "cuda"


def row(data: Path, teacher: Path, name: str, seed: int, device: str, scratch: Path) -> rows.Row:
    """One job, all its points."""
    system = SYSTEMS[name]
    task = prepare(data, scratch, seed, system.rows)
    recipe, target = system.asked()
    ladder = Ladder.model_validate(system.ladder_of() or {})
    begun = perf_counter()
    result = compress(
        teacher, recipe, Data(task.train, task.eval, select=task.select), Silent(), target=target, ladder=ladder,
        metric=task.metric, seed=seed, device=device, out=scratch / name,
    )  # fmt: skip
    reports = [point.report.model_dump(mode="json") for point in result.points]
    return {
        "system": name,
        "task": task.name,
        "seed": seed,
        "git_sha": rows.git_sha(),
        "teacher_digest": digest(teacher / "model.safetensors"),
        "wall_s": perf_counter() - begun,
        "hardware": reports[0]["hardware"],
        "points": [{key: report[key] for key in ("target", "point", "stages", "warnings")} for report in reports],
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.cuda", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--systems", nargs="+", default=["hybrid"], choices=[*SYSTEMS])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda")
    given = parser.parse_args()
    for name in given.systems:
        with TemporaryDirectory(prefix="bench-") as folder:
            found = row(given.data, given.teacher, name, given.seed, given.device, Path(folder))
        rows.write(RESULTS / f"{given.data.name}.{name}.seed{given.seed}.json", found)
        print(f"{name}: {found['wall_s']:.0f} s", flush=True)
        for point in found["points"]:
            seconds = {stage["name"]: round(stage["seconds"], 1) for stage in point["stages"]}
            print(f"  {point['target']}: retention {point['point']['retention']:.4f} {seconds}", flush=True)


if __name__ == "__main__":
    main()
