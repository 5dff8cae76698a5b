"""`python -m bench.targets --data F --teacher F --front FILE ... --kind bytes --seed 3 --device cuda --out FILE`

Does a job meet what it is asked for? Targets are drawn by seed inside a front that an earlier commit stored
(`bench.direct` lines of `small-front` and `fast-front`, or graded rows of `small` and `fast`), uniform in the
logarithm of the ratio:

- bytes, latency: a ratio 5 % inside the drawn one, of the preset that spends bytes or milliseconds;
- retention: half a point below what the front retains there, and the preset finds the ratio;
- unreachable: a ratio near the front's furthest together with the teacher's own score.

One line of JSON each: target, what was forecast from the job's own profile, what the report says.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from bench.direct import made, stamp
from bench.rows import family
from bench.systems import ROWS, SYSTEMS, prepare
from core.errors import CompressionError
from core.forecast import forecast
from core.inspect import shape_of
from core.profile import Profile
from core.progress import cpu_seconds
from core.recipe import PRESETS, Ladder, Target

Kind = Literal["bytes", "latency", "retention", "unreachable"]
AXES = {name: SYSTEMS[name].axis for name in ("small", "fast")}
INSIDE, HALF_A_POINT = 0.95, 0.005


def front(files: Sequence[Path], task: str, preset: str) -> list[tuple[float, float]]:
    """(ratio, mean retention over seeds) of a preset's points, by rising ratio; retention never rises."""
    found: dict[float, list[float]] = {}
    for line in (json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()):
        point = line["report"]["point"]
        if line["task"] == task and family(line["system"]) in (preset, f"{preset}-front"):
            found.setdefault(point["target"][AXES[preset]], []).append(point["retention"])
    means = [(ratio, sum(each) / len(each)) for ratio, each in sorted(found.items())]
    return [(ratio, max(mean for other, mean in means if other >= ratio)) for ratio, _ in means]


def drawn(kind: Kind, known: Mapping[str, list[tuple[float, float]]], seed: int) -> tuple[str, dict[str, float]]:
    """A preset and its target."""
    chance = random.Random(seed)
    preset = {"bytes": "small", "latency": "fast"}.get(kind) or chance.choice(sorted(known))
    points = known[preset]
    low, high = math.log(points[0][0]), math.log(points[-1][0])
    ratio = math.exp(chance.uniform(low, high))
    if kind == "unreachable":
        return preset, {AXES[preset]: round(points[-1][0] * chance.uniform(0.8, 1.0), 3), "min_retention": 1.0}
    if kind == "retention":
        return preset, {"min_retention": round(_at(points, ratio) - HALF_A_POINT, 4)}
    return preset, {AXES[preset]: round(max(1.05, INSIDE * ratio), 3)}


def _at(points: Sequence[tuple[float, float]], ratio: float) -> float:
    """Retention of the front at a ratio, linear in its logarithm."""
    for (x, y), (x1, y1) in pairwise(points):
        if ratio <= x1:
            return y + (y1 - y) * math.log(ratio / x) / math.log(x1 / x)
    return points[-1][1]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.targets", description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--front", type=Path, nargs="+", required=True)
    parser.add_argument("--kind", choices=["bytes", "latency", "retention", "unreachable"], required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    known = {name: front(given.front, given.data.name, name) for name in AXES}
    preset, asked = drawn(given.kind, {name: points for name, points in known.items() if points}, given.seed)
    recipe, target = PRESETS[preset].recipe, Target.model_validate(asked)
    line = {"kind": given.kind, "preset": preset, "target": asked}
    with TemporaryDirectory() as name:
        task = prepare(given.data, Path(name), given.seed, ROWS)
        line |= stamp(task, given.seed, given.device)
        begun, wall = cpu_seconds(), time.monotonic()
        try:
            result = made(given.teacher, task, recipe, target, Ladder(), given.seed, given.device, Path(name) / "out")
        except CompressionError as error:
            line |= {"error": error.as_dict()}
        else:
            report = result.report
            told = forecast(recipe, target, shape_of(given.teacher)[0], result.profile or Profile(), result.report.rows)
            line |= {
                "cpu_s": cpu_seconds() - begun,
                "seconds": time.monotonic() - wall,
                "forecast": told.model_dump(mode="json", exclude={"recipe"}),
                "report": report.model_dump(mode="json"),
            }
            print(task.name, line["kind"], preset, asked, report.point.target_met, report.point.shortfall, flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    with given.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
