"""One run of an MLflow server for one job: parameters, curves while they come, and how it ended.

Sent again after an answer that was lost, nothing is there twice: the run is found by the job's id, equal points of a
curve are one, and a parameter keeps its value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from jobs.service import Due
from jobs.states import State
from worker.registries.mlflow import Rest, experiment_id

TAG = "ladapress.job"
MOST_METRICS, MOST_PARAMS = 500, 90  # of one call; MLflow takes 1000 and 100
ODD = re.compile(r"[^\w./ -]")
ENDS = {State.SUCCEEDED: "FINISHED", State.FAILED: "FAILED", State.CANCELLED: "KILLED"}
FIGURES = ("parameter_ratio", "bytes_ratio", "latency_ratio", "teacher", "student", "retention")
ASKED = ("task", "metric", "preset", "seed", "model")

Metric = dict[str, Any]


def send(client: httpx2.Client, experiment: str, due: Due) -> str:
    """Send what is due; the run's id.

    Raises:
        PushFailed: the server refuses, or does not answer as MLflow does.
        httpx2.TransportError: see `worker.registries.order.failure`.
    """
    rest = Rest(client)
    run_id = due.run_id or _run(rest, experiment, due)
    if due.run_id is None:
        _params(rest, run_id, {**{name: due.spec.get(name) for name in ASKED}, "target": due.spec.get("target")})
    metrics = [*_curves(due), *(_figures(due) if due.last else ())]
    for first in range(0, len(metrics), MOST_METRICS):
        rest.call("POST", "runs/log-batch", {"run_id": run_id, "metrics": metrics[first : first + MOST_METRICS]})
    if (stage := _stage(due)) is not None:
        rest.call("POST", "runs/set-tag", {"run_id": run_id, "key": "ladapress.stage", "value": stage})
    if due.last:
        _params(rest, run_id, {"recipe": (due.report or {}).get("recipe") or due.spec.get("recipe")})
        if due.error is not None:
            code = {"run_id": run_id, "key": "ladapress.error", "value": str(due.error.get("code"))}
            rest.call("POST", "runs/set-tag", code)
        ended = {"run_id": run_id, "status": ENDS[due.state], "end_time": _ms(due.finished_at or 0.0)}
        rest.call("POST", "runs/update", ended)
    return run_id


def _run(rest: Rest, experiment: str, due: Due) -> str:
    """The job's run: the one that an earlier attempt to send has made, or a new one."""
    found = experiment_id(rest, experiment)
    asked = {"experiment_ids": [found], "filter": f"tags.`{TAG}` = '{due.job_id}'", "max_results": 1}
    runs: list[dict[str, Any]] = rest.call("POST", "runs/search", asked).get("runs", [])
    if not runs:
        begun = {"experiment_id": found, "start_time": _ms(due.started_at), "run_name": due.name or due.job_id}
        runs = [rest.call("POST", "runs/create", {**begun, "tags": [{"key": TAG, "value": due.job_id}]})["run"]]
    return str(runs[0]["info"]["run_id"])


def _params(rest: Rest, run_id: str, values: Mapping[str, Any]) -> None:
    params = [{"key": key[:250], "value": value[:500]} for key, value in _flat("", values)]
    for first in range(0, len(params), MOST_PARAMS):
        rest.call("POST", "runs/log-batch", {"run_id": run_id, "params": params[first : first + MOST_PARAMS]})


def _flat(at: str, value: Any) -> Iterator[tuple[str, str]]:
    """Names with dots and texts; what is null says nothing."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{at}.{key}" if at else str(key), inner)
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from _flat(f"{at}.{number}", inner)
    elif value is not None:
        yield ODD.sub("_", at), str(value)


def _curves(due: Due) -> Iterator[Metric]:
    for _, at, kind, data in due.events:
        if kind == "metric":
            yield from _metric(data.get("name"), data.get("value"), at, data.get("step"))
        elif kind == "progress":
            yield from _metric("progress", data.get("fraction"), at, data.get("step"))


def _figures(due: Due) -> Iterator[Metric]:
    """The report's, of its first point; those of a ladder's others are with the artifacts."""
    point = (due.report or {}).get("point") or {}
    for name in FIGURES:
        yield from _metric(name, point.get(name), due.finished_at or 0.0, 0)


def _metric(name: Any, value: Any, at: float, step: Any) -> Iterator[Metric]:
    if isinstance(value, int | float) and math.isfinite(value):
        key = ODD.sub("_", str(name))[:250]
        yield {"key": key, "value": float(value), "timestamp": _ms(at), "step": int(step or 0)}


def _stage(due: Due) -> str | None:
    return next((str(data.get("stage")) for *_, kind, data in reversed(due.events) if kind == "stage"), None)


def _ms(seconds: float) -> int:
    return int(seconds * 1000)
