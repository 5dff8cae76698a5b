"""`python -m bench.tables`: `docs/results.md`, every row of `bench/results` as a table. A test compares the two."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.plots import interval
from bench.rows import RESULTS, Row, by_system, family

GRADED = "system, seeds, parameters, bytes, latency, teacher, student, retention, CPU-s, CPU-s of the job"
PAGE = Path(__file__).parents[1] / "docs" / "results.md"
HEAD = """# Results

Made by `python -m bench.tables` from the JSON rows in `bench/results/`, which hold git sha, hardware, versions,
stages and each prediction. Rows are made by `make bench DATA=<folder> TEACHER=<folder> ARGS="--systems ..."`.

Graded on validation and test together, on the delivered file. Ratios are teacher / student: `parameters` counts
non-zero stored parameters; `bytes` is 4 bytes a parameter of the teacher / `model.onnx`; `latency` compares medians at
batch 1 x 128 tokens on one thread of ONNX Runtime (nncf: both in OpenVINO). Retention is student / teacher, its
interval 95 % by bootstrap over graded rows. CPU-s are user + system seconds from claim to export, calibration and the
teacher's answers included, scaled to the reference machine (`bench/reference.json`); points of a ladder share
what all of them need, so the job costs less than the sum. CPU-s are from a machine of two virtual cores with another
single-threaded run beside; rows of git a445497 also count the teacher's own grading, some 35 CPU-s a job.
"""


def _mean(rows: Sequence[Row], *path: str) -> float:
    def value(row: Any) -> float:
        for key in path:
            row = row[key]
        return float(row)

    return float(np.mean([value(row) for row in rows]))


def graded(systems: Mapping[str, Sequence[Row]]) -> str:
    """A table of graded rows, one line a system, the mean over its seeds."""
    return _table(GRADED, list(_graded(systems)))


def _graded(systems: Mapping[str, Sequence[Row]]) -> Iterator[str]:
    order = sorted(systems, key=lambda name: (family(name), _mean(systems[name], "report", "point", "bytes_ratio")))
    for name in order:
        rows, point = systems[name], ("report", "point")
        low, high = 100 * np.mean([interval(row) for row in rows], axis=0)
        yield (
            f"| {name} | {', '.join(str(row['seed']) for row in rows)} | {_mean(rows, *point, 'parameter_ratio'):.2f} "
            f"| {_mean(rows, *point, 'bytes_ratio'):.2f} | {_mean(rows, *point, 'latency_ratio'):.2f} "
            f"| {_mean(rows, *point, 'teacher'):.4f} | {_mean(rows, *point, 'student'):.4f} "
            f"| {100 * _mean(rows, *point, 'retention'):.1f} % ({low:.1f} to {high:.1f}) "
            f"| {_mean(rows, 'cpu_s_scaled'):.0f} | {_mean(rows, 'job_cpu_s_scaled'):.0f} |"
        )


def _step(step: Mapping[str, Any]) -> str:
    """A step by its name and the size that it was given: plans change, rows do not."""
    size = step.get("keep", step.get("bits"))
    said = f"{size:.3g}" if isinstance(size, float) else size
    return f"{step['method']} {said}" if size else str(step["method"])


def swept(path: Path) -> Iterator[str]:
    """One line a combination, on rows cut from the training rows."""
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        changes = ", ".join(f"{key} = {value}" for key, value in row["changes"].items()) or "nothing"
        steps = ", ".join(_step(step) for step in row["recipe"]["steps"])
        size = ", ".join(f"{name} {value:g}" for name, value in row["target"].items())
        yield (
            f"| {path.stem} | {steps} | {size} | {row['rows']} | {changes} "
            f"| {row['kl']:.4f} | {100 * row['agreement']:.1f} % | {row['cpu_s']:.0f} | {row.get('device', 'cpu')} |"
        )


def raced(path: Path) -> Iterator[str]:
    """Ours, then the best of each learning rate from nothing."""
    race = json.loads(path.read_text(encoding="utf-8"))
    for run in race["ours"]:
        yield f"| {path.stem} | {race['ratio']:g} | ours | {run['cpu_s']:.0f} | {100 * run['retention']:.1f} % |"
    for rate, curve in race["from_nothing"].items():
        for run in curve:
            which = f"random weights, rate {rate}"
            yield f"| {path.stem} | {race['ratio']:g} | {which} | {run['cpu_s']:.0f} | {100 * run['retention']:.1f} % |"


def _table(columns: str, lines: Sequence[str]) -> str:
    names = columns.split(", ")
    return "\n".join([f"| {' | '.join(names)} |", "|---" * len(names) + "|", *lines]) + "\n"


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    tasks = sorted({path.parent.name for path in RESULTS.glob("*/*.seed*.json")})
    parts += [f"## {task}\n\n{graded(by_system(task))}" for task in tasks]
    if lines := [line for path in sorted((RESULTS / "race").glob("*.json")) for line in raced(path)]:
        about = (
            "Retention on `select` after so many CPU-seconds; each line is a run of its own (`python -m bench.race`)."
        )
        parts.append(f"## Time to 90 %\n\n{about}\n\n{_table('task, parameters, start, CPU-s, retention', lines)}")
    if lines := [line for path in sorted((RESULTS / "sweeps").glob("*.jsonl")) for line in swept(path)]:
        about = (
            "KL to the teacher on `select` rows, lower is better (`python -m bench.sweep`); CPU-s of the point alone; "
            "cuda is an H100 beside 16 CPU cores, eight runs at a time."
        )
        names = "task, steps, size, rows, changed, KL, agreement, CPU-s, device"
        parts.append(f"## Sweeps behind the defaults\n\n{about}\n\n{_table(names, lines)}")
    return "\n".join(parts)


def main() -> None:
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
