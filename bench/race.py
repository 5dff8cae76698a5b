"""`python -m bench.race --data F --teacher F`: CPU-seconds to 90 % retention, ours and the same student from nothing.

Ours: the preset at one ratio with ever longer training, calibration, factors, pruning and the teacher's answers
included in the time of each. From nothing: the same ranks and the same masks with random weights, the same losses
and rows, at several learning rates, each with 12 times our CPU-seconds. Retention is accuracy on
`select` (cut from the training rows) over the teacher's. One JSON file in `bench/results/race/`, written after each
learning rate: a run that was broken off goes on with the next one.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench import rows
from bench.sweep import CPU, Bench, varied
from core.batches import predict
from core.method import Method
from core.metrics import score
from core.phase import Build
from core.plan import fill
from core.progress import Meter, Silent, cpu_seconds
from core.recipe import PRESETS, Recipe, Target
from core.shared import Shared
from core.train import train

RESULTS = rows.RESULTS / "race"
ENOUGH, MOST = 0.90, 12
PROBE = 20  # steps
CLOSE = 1.5  # times: a run that arrived and one that failed this near end the search
ROWS_A_STEP = 32


def retention(bench: Bench, model: torch.nn.Module) -> float:
    labels = bench.select.rows.labels
    theirs, ours = (score("accuracy", z, labels) for z in (bench.followed, predict(model, bench.select, CPU)))
    return ours / theirs


def ours(bench: Bench, recipe: Recipe, steps: int) -> tuple[dict[str, float], Build]:
    """One run of `steps` training steps from a cold start: nothing that it needs was made before."""
    changes = {"distill.max_rows": steps * ROWS_A_STEP, "distill.min_steps": steps, "obs.increments": 5}
    start = cpu_seconds()
    build = bench.cold().student()
    done = 0
    for step in varied(recipe, changes).steps:
        for phase in step.compile(build):
            done += train(phase, Meter(Silent()), device=CPU)
    spent = cpu_seconds() - start
    return {"steps": done, "cpu_s": spent, "retention": retention(bench, build.model)}, build


def emptied(build: Build, shared: Shared) -> Build:
    """The same ranks and masks with random weights: normal of a trained layer's scale, norms at one, biases at zero."""
    fresh = Build(copy.deepcopy(build.model), shared, masks=build.masks)
    with torch.no_grad():
        for name, parameter in fresh.model.named_parameters():
            if parameter.dim() < 2:
                parameter.fill_(float(name.endswith("LayerNorm.weight")))
                continue
            kept = build.masks[name].float().mean() if name in build.masks else torch.tensor(1.0)
            # A product of two factors has unit gain where each has; a mask takes its share of the energy.
            factor = name.endswith((".left", ".right"))
            parameter.normal_(0, float((kept * parameter.shape[-1]) ** -0.5) if factor else 0.02)
            if name in build.masks:
                parameter.mul_(build.masks[name])
    return fresh


def steps_for(shared: Shared, like: Build, last: Method, cpu_s: float) -> int:
    """How many steps so many CPU-seconds give, by PROBE of them; the teacher's answers, made here, are paid for too.

    CPU-seconds and not wall seconds: beside another process the wall would cut the learner short.
    """
    build, start = emptied(like, shared), cpu_seconds()
    (phase,) = _lasting(last, PROBE).compile(build)
    answers = cpu_seconds()
    train(phase, Meter(Silent()), device=CPU)
    return max(1, round((cpu_s - (answers - start)) * PROBE / (cpu_seconds() - answers)))


def _lasting(last: Method, steps: int) -> Method:
    return varied(Recipe(steps=(last,)), {"distill.min_steps": steps, "distill.epochs": 1e-6}).steps[0]


def from_nothing(
    bench: Bench, like: Build, recipe: Recipe, rate: float, most_s: float, curve: list[dict[str, float]] | None = None
) -> list[dict[str, float]]:
    """Random weights trained for the whole budget, then, while ENOUGH is reached, for half of the last one; then
    between the longest that failed and the shortest that arrived, until these are CLOSE.

    Every length is a run of its own whose learning rate goes down to zero: none is judged half way.
    """
    (last,) = [step for step in varied(recipe, {"distill.learning_rate": rate}).steps if step.trains]
    curve = [] if curve is None else curve
    while (budget_s := next_budget(curve, most_s)) is not None:
        torch.manual_seed(bench.shared.seed)
        # What a step costs is known after a run of its own; a probe beside another process may be far off.
        known = curve[-1]["steps"] / curve[-1]["cpu_s"] if curve else None
        steps = round(budget_s * known) if known else steps_for(bench.cold(), like, last, budget_s)
        build, start = emptied(like, bench.cold()), cpu_seconds()
        for phase in _lasting(last, steps).compile(build):
            train(phase, Meter(Silent()), device=CPU)
        run = {"steps": steps, "cpu_s": cpu_seconds() - start, "retention": retention(bench, build.model)}
        curve.append(run)
        print(f"  from nothing, rate {rate:g}: {run}", flush=True)
    return curve


def next_budget(curve: Sequence[Mapping[str, float]], most_s: float) -> float | None:
    """CPU-seconds of the next run of a learner; None where its curve says enough."""
    if not curve:
        return most_s
    failed = [run["cpu_s"] for run in curve if run["retention"] < ENOUGH]
    arrived = [run["cpu_s"] for run in curve if run["retention"] >= ENOUGH]
    if not failed:
        return min(arrived) / 2 if curve[-1]["steps"] > 1 else None
    if not arrived or min(arrived) < CLOSE * max(failed):
        return None
    return math.sqrt(min(arrived) * max(failed))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.race", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=10.0)
    parser.add_argument("--rates", type=float, nargs="+", default=[2e-4, 5e-4, 1e-3])
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with TemporaryDirectory() as folder:
        bench = Bench(given.data, given.teacher, 16_000, 0, Path(folder))
        recipe = fill(PRESETS["hybrid"].recipe, Target(parameter_ratio=given.ratio), bench.shape)
        path = RESULTS / f"{given.data.name}.json"
        found = begun(path, {"task": given.data.name, "ratio": given.ratio, "recipe": recipe.model_dump(mode="json")})
        runs, curves = found["ours"], found["from_nothing"]
        build: Build | None = None  # of the last of our runs
        for steps in (15, 30, 60, 120, 240, 480) if not runs else ():
            run, build = ours(bench, recipe, steps)
            runs.append(run)
            print(f"  ours: {run}", flush=True)
            if runs[-1]["retention"] >= ENOUGH:
                break
        rows.write(path, found)
        for rate in given.rates:
            curve = curves.setdefault(f"{rate:g}", [])
            if next_budget(curve, 1.0) is None:
                continue
            build = build or ours(bench, recipe, int(runs[-1]["steps"]))[1]
            from_nothing(bench, build, recipe, rate, MOST * runs[-1]["cpu_s"], curve)
            rows.write(path, found | verdict(found))
    print(json.dumps(verdict(found)))


def begun(path: Path, what: rows.Row) -> rows.Row:
    """What an earlier run of the same race left, or an empty one."""
    old = rows.read(path) if path.exists() else {}
    if any(old.get(key) != value for key, value in what.items()):
        old = {"git_sha": rows.git_sha(), "ours": [], "from_nothing": {}}
    return {**old, **what}


def verdict(found: rows.Row) -> dict[str, float | None]:
    """How many times our CPU-seconds the quickest learner from nothing took, or at least, where none arrived."""
    ours_s = found["ours"][-1]["cpu_s"]
    runs = [run for curve in found["from_nothing"].values() for run in curve]
    arrived = [run["cpu_s"] for run in runs if run["retention"] >= ENOUGH]
    most = max((run["cpu_s"] for run in runs), default=0.0)
    return {
        "times": min(arrived) / ours_s if arrived else None,
        "at_least": None if arrived else most / ours_s,
    }


if __name__ == "__main__":
    main()
