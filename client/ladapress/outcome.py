"""How a job ended, for programs: one JSON line with fixed keys, and the exit code of the command."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ladapress.errors import Problem, of_job
from ladapress.types import Job

DONE, FAILED, USAGE, MISSED, CANCELLED = 0, 1, 2, 3, 130
FIGURES = ("bytes_ratio", "parameter_ratio", "metric", "teacher", "student", "retention", "latency_ratio")


def exit_code(job: Job) -> int:
    """0 done, 3 done but a target was missed, 1 failed, 130 cancelled."""
    if job.status == "succeeded":
        return MISSED if job.target_met is False else DONE
    return CANCELLED if job.status in ("cancelled", "cancelling") else FAILED


def point_folders(job: Job, out: Path) -> list[Path]:
    """Where each point of a job is downloaded: `out` itself for a single one, else `out/0`, `out/1`, ..."""
    return [out] if len(job.points) == 1 else [out / str(index) for index in range(len(job.points))]


def headline(job: Job) -> int | None:
    """Index of the point whose figures stand for the job: the first that meets the target, else the most accurate."""
    if not job.points:
        return None
    met = [index for index, point in enumerate(job.points) if point.target_met]
    return met[0] if met else max(range(len(job.points)), key=lambda index: job.points[index].retention)


def summary(job: Job | None, folders: Sequence[Path] = (), error: Problem | None = None) -> dict[str, Any]:
    """The result as `--json` prints it; the keys are always all there.

    `folders` are those of the job's points, where they were downloaded. `error` is the problem that ended the command
    before or after the job; the job's own error takes its place.
    """
    points: list[dict[str, Any]] = []
    for index, point in enumerate(job.points if job else ()):
        row = {name: getattr(point, name) for name in (*FIGURES, "target_met", "target", "shortfall")}
        where = str(folders[index]) if index < len(folders) else None
        points.append({"artifact_id": point.artifact_id, **row, "artifact_dir": where})
    chosen = headline(job) if job else None
    best: dict[str, Any] = points[chosen] if chosen is not None else {}
    problem = (of_job(job) if job else None) or error
    return {
        "job_id": job.id if job else None,
        "status": job.status if job else "failed",
        "target_met": job.target_met if job else None,
        "cache_hit": job.cache_hit if job else None,
        **{name: best.get(name) for name in FIGURES},
        "artifact_dir": best.get("artifact_dir"),
        "points": points,
        "error": problem.model_dump(mode="json") if problem is not None else None,
    }


def line(result: dict[str, Any]) -> str:
    """One line of strict JSON."""
    return json.dumps(result, allow_nan=False)
