"""`python -m bench.plots [TASK ...]`: retention against size and time, from the rows in `bench/results`, as SVG.

One file per task and axis in `docs/plots/`. A point is the mean over seeds, its bar the 95 % interval of the ratio by
a paired bootstrap over graded rows (teacher's accuracy held fixed). Points of one preset are joined.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

from bench.rows import RESULTS, Row, by_system, family
from core.metrics import Metric, class_score

PLOTS = Path(__file__).parents[1] / "docs" / "plots"
AXES = {
    "bytes_ratio": "bytes: teacher's 4 bytes a parameter / model.onnx",
    "parameter_ratio": "non-zero parameters: teacher / student",
    "latency_ratio": "time: teacher / student, batch 1 x 128 tokens, one thread, ONNX Runtime",
}
DRAWS = 2_000


def interval(row: Row) -> tuple[float, float]:
    """95 % interval of the retention of one row, by bootstrap over its graded rows, in the metric of its task."""
    point, labels, guesses = row["report"]["point"], np.array(row["labels"]), np.array(row["predictions"])
    metric: Metric = point.get("metric", "accuracy")
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(labels), (DRAWS, len(labels)))
    if metric == "accuracy":
        figures = np.equal(guesses, labels)[drawn].mean(axis=1)
    else:
        figures = np.array([class_score(metric, labels[chosen], guesses[chosen]) for chosen in drawn])
    low, high = np.percentile(figures / point["teacher"], [2.5, 97.5])
    return float(low), float(high)


def rows_of(task: str) -> dict[str, list[list[Row]]]:
    """Family of systems -> the rows of each of its sizes."""
    found: dict[str, list[list[Row]]] = defaultdict(list)
    for system, rows in by_system(task).items():
        found[family(system)].append(rows)
    return found


def draw(task: str, axis: str) -> Path:
    """One picture; returns its path."""
    figure, axes = pyplot.subplots(figsize=(8.4, 4.2), layout="constrained")
    for name, sizes in rows_of(task).items():
        points = []
        for rows in sizes:
            figures = [row["report"]["point"] for row in rows]
            bars = np.mean([interval(row) for row in rows], axis=0)
            points.append((np.mean([f[axis] for f in figures]), np.mean([f["retention"] for f in figures]), *bars))
        points.sort()
        x, y, low, high = (
            100 * np.array(column) if i else np.array(column) for i, column in enumerate(zip(*points, strict=True))
        )
        axes.errorbar(x, y, yerr=[y - low, high - y], marker="o", capsize=2, linewidth=1, label=name)
    axes.axhline(100, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel=AXES[axis], ylabel="retention, %", title=f"{task}: accuracy kept", xscale="log")
    ticks = [t for t in (1, 1.5, 2, 2.5, 3, 4, 5, 7, 10, 15, 20, 30) if axes.get_xlim()[0] <= t <= axes.get_xlim()[1]]
    axes.set_xticks(ticks, [f"{t:g}x" for t in ticks])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    PLOTS.mkdir(parents=True, exist_ok=True)
    path = PLOTS / f"{task}-{axis.removesuffix('_ratio')}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.plots", description=__doc__)
    parser.add_argument("tasks", nargs="*", default=sorted(p.name for p in RESULTS.iterdir() if any(p.glob("*.seed*"))))
    mpl.use("svg")
    mpl.rcParams.update({"svg.hashsalt": "ladapress", "font.size": 9})  # the same rows give the same bytes
    for task in parser.parse_args().tasks:
        for axis in AXES:
            print(draw(task, axis))


if __name__ == "__main__":
    main()
