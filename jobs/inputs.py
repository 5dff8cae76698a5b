"""From ids to bytes: the files that a worker must lay out for a job or an inspection."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from jobs.problem import refuse
from jobs.requests import InspectionRequest
from jobs.scope import Scope, get, scoped
from jobs.tables import Dataset, Model, ModelFile

ROLES = ("train", "eval", "select", "unlabelled")


@dataclass(frozen=True)
class InputFile:
    """One file of the model folder; its blob lies in the project's part of the store."""

    path: str
    sha256: str
    size: int


@dataclass(frozen=True)
class InputData:
    """One dataset by role; `format` is csv, jsonl or parquet."""

    sha256: str
    size: int
    format: str


@dataclass(frozen=True)
class Order:
    """All that a worker needs to lay out the folder of a child. `data` is keyed by role, see ROLES."""

    project_id: str
    spec: dict[str, Any]
    model: tuple[InputFile, ...]
    data: Mapping[str, InputData]


def order(s: Session, project_id: str, spec: Mapping[str, Any]) -> Order:
    """Resolve the ids in the spec of a job or an inspection.

    Raises:
        Refused: not_found, when an object has been deleted; model_not_ready.
    """
    model_id, data = str(spec["model"]), spec["data"]
    scope = Scope(project_id, who="worker")
    require_ready(get(s, scope, Model, model_id, param="/model"))
    files = s.scalars(
        select(ModelFile)
        .where(ModelFile.model_id == model_id, ModelFile.project_id == project_id)
        .order_by(ModelFile.path)
    )
    datasets = {
        role: get(s, scope, Dataset, data[role], param=f"/data/{role}") for role in ROLES if data.get(role) is not None
    }
    return Order(
        project_id=project_id,
        spec=dict(spec),
        model=tuple(InputFile(file.path, file.sha256 or "", file.size or 0) for file in files),
        data={role: InputData(row.sha256, row.size, row.format) for role, row in datasets.items()},
    )


def contents(
    s: Session, scope: Scope, request: InspectionRequest
) -> tuple[list[tuple[str, str | None]], dict[str, Dataset]]:
    """What a request is about, whatever ids it was uploaded under: (path, sha256) of the model's files in order, and
    the datasets by role."""
    files = s.scalars(scoped(ModelFile, scope).where(ModelFile.model_id == request.model))
    given = request.data.ids()
    rows = {row.id: row for row in s.scalars(scoped(Dataset, scope).where(Dataset.id.in_(given.values())))}
    return sorted((file.path, file.sha256) for file in files), {role: rows[id_] for role, id_ in given.items()}


def require(s: Session, scope: Scope, request: InspectionRequest) -> None:
    """Hold the model and the datasets of a request against deletion until the transaction ends.

    Raises:
        Refused: not_found, model_not_ready.
    """
    require_ready(get(s, scope, Model, request.model, lock=True, param="/model"))
    for role, dataset_id in sorted(request.data.ids().items(), key=lambda item: item[1]):  # one order: no deadlock
        get(s, scope, Dataset, dataset_id, lock=True, param=f"/data/{role}")


def require_ready(model: Model) -> None:
    """Raises Refused (model_not_ready)."""
    if model.status != "ready":
        raise refuse("model_not_ready", "files of this model are still missing; upload them first", param="/model")
