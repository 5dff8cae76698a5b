"""Models and datasets: rows about bytes that lie in the store. Bytes first, then the row that makes them visible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Text, cast, delete, func, select
from sqlalchemy.orm import Session

from jobs import quotas
from jobs.clock import after
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.profiles import forget
from jobs.scope import Scope, audit, get, scoped
from jobs.states import TERMINAL
from jobs.store import Blob
from jobs.tables import Dataset, Inspection, Job, JobInput, Model, ModelFile


@dataclass(frozen=True)
class DeclaredFile:
    """A file that the user will send. `size` in bytes and `sha256` in hex are checked where they are given."""

    path: str
    size: int | None = None
    sha256: str | None = None


def create_model(
    s: Session, scope: Scope, name: str | None, files: Sequence[DeclaredFile], *, keep_s: float | None = None
) -> Model:
    """An open model with its list of files. Which names are allowed is the caller's rule; it goes after `keep_s`."""
    model = Model(id=new_id("model"), project_id=scope.project_id, name=name, expires_at=after(keep_s))
    s.add(model)
    s.flush()
    s.add_all(
        ModelFile(model_id=model.id, path=file.path, project_id=scope.project_id, size=file.size, sha256=file.sha256)
        for file in files
    )
    audit(s, scope, "model.create", model.id)
    s.flush()
    return model


def declared_file(
    s: Session, scope: Scope, model_id: str, path: str, *, size: int | None = None, sha256: str | None = None
) -> ModelFile:
    """What was declared about a file, to know its limits before its bytes are read.

    Args:
        size, sha256: of what is sent, as far as it is known. A model that is ready takes a file that it has once more:
            the answer to the first time may have been lost.

    Raises:
        Refused: not_found (model, or a file that was not declared), model_complete.
    """
    model = get(s, scope, Model, model_id)
    file = s.scalars(scoped(ModelFile, scope).where(ModelFile.model_id == model_id, ModelFile.path == path)).first()
    if file is None:
        raise refuse("not_found", "the model declares no file of this name", param="/path")
    again = size == file.size and sha256 in (None, file.sha256)
    if model.status == "ready" and not again:
        raise refuse("model_complete", "the model is ready; its files do not change any more", param="/path")
    return file


def file_limits(
    s: Session, scope: Scope, model_id: str, path: str, announced: int | None, max_bytes: int
) -> tuple[int, str | None]:
    """What the bytes of a declared file may be: their largest size and their sha256, if that is known.

    Args:
        announced: bytes that are to come, if that is known.
        max_bytes: of the whole model.

    Raises:
        Refused: not_found, model_complete, size_mismatch, quota_used_up.
    """
    file = declared_file(s, scope, model_id, path, size=announced)
    quotas.foresee_bytes(s, scope, 0 if file.present else file.size or announced or 0)
    others = sum(one.size or 0 for one in model_files(s, scope, model_id) if one.path != path)
    if file.size is not None:
        if announced is not None and announced != file.size:
            raise refuse("size_mismatch", f"{path}: {announced} bytes are sent; {file.size} were declared")
        done = get(s, scope, Model, model_id).status == "ready"  # then other bytes are refused for that
        return file.size, None if done else file.sha256
    return max(0, max_bytes - others), file.sha256


def file_arrived(s: Session, scope: Scope, model_id: str, path: str, blob: Blob, max_bytes: int) -> Model:
    """Note a file's bytes; the model is `ready` when no file is missing.

    Args:
        max_bytes: of the whole model. Checked here too: files without a declared size may arrive at the same moment.

    Raises:
        Refused: not_found, model_complete, size_mismatch, sha256_mismatch, payload_too_large, quota_used_up.
    """
    model = get(s, scope, Model, model_id, lock=True)
    file = declared_file(s, scope, model_id, path, size=blob.size, sha256=blob.sha256)
    # What arrived once may be replaced by what was announced, and only by that.
    if file.size is not None and file.size != blob.size:
        raise refuse("size_mismatch", f"{blob.size} bytes were sent; {file.size} were announced", param="/path")
    if file.sha256 is not None and file.sha256.lower() != blob.sha256:
        raise refuse("sha256_mismatch", f"sha256 {blob.sha256} was sent; {file.sha256} was announced", param="/path")
    file.size, file.sha256, file.present = blob.size, blob.sha256, True
    s.flush()
    files = model_files(s, scope, model_id)
    model.size_bytes = sum(file.size or 0 for file in files if file.present)
    if model.size_bytes > max_bytes:
        detail = f"with {path} the model has {model.size_bytes} bytes; a model has at most {max_bytes}"
        raise refuse("payload_too_large", detail, param="/path")
    quotas.check_bytes(s, scope)
    if all(file.present for file in files):
        model.status = "ready"
    s.flush()
    return model


def model_files(s: Session, scope: Scope, model_id: str) -> list[ModelFile]:
    """The files of a model by name."""
    return list(s.scalars(scoped(ModelFile, scope).where(ModelFile.model_id == model_id).order_by(ModelFile.path)))


def create_dataset(
    s: Session, scope: Scope, name: str | None, format_: str, blob: Blob, *, keep_s: float | None = None
) -> Dataset:
    """A dataset from bytes in the store; it goes after `keep_s`. Raises Refused (quota_used_up)."""
    dataset = Dataset(
        id=new_id("data"),
        project_id=scope.project_id,
        name=name,
        format=format_,
        size=blob.size,
        sha256=blob.sha256,
        expires_at=after(keep_s),
    )
    s.add(dataset)
    audit(s, scope, "dataset.create", dataset.id)
    s.flush()
    quotas.check_bytes(s, scope)
    return dataset


def delete_model(s: Session, scope: Scope, model_id: str) -> None:
    """Forget a model; its bytes go with the next sweep (`jobs.garbage`). Raises Refused (not_found, in_use)."""
    get(s, scope, Model, model_id, lock=True)
    _refuse_in_use(s, scope, model_id)
    s.execute(delete(ModelFile).where(ModelFile.model_id == model_id, ModelFile.project_id == scope.project_id))
    forget(s, scope, model_id)
    s.execute(delete(Model).where(Model.id == model_id, Model.project_id == scope.project_id))
    audit(s, scope, "model.delete", model_id)


def delete_dataset(s: Session, scope: Scope, dataset_id: str) -> None:
    """Forget a dataset; its bytes go with the next sweep (`jobs.garbage`). Raises Refused (not_found, in_use)."""
    get(s, scope, Dataset, dataset_id, lock=True)
    _refuse_in_use(s, scope, dataset_id)
    s.execute(delete(Dataset).where(Dataset.id == dataset_id, Dataset.project_id == scope.project_id))
    audit(s, scope, "dataset.delete", dataset_id)


def _refuse_in_use(s: Session, scope: Scope, object_id: str) -> None:
    jobs = s.scalars(
        select(Job.id)
        .join(JobInput, JobInput.job_id == Job.id)
        .where(Job.project_id == scope.project_id, JobInput.object_id == object_id, Job.state.not_in(sorted(TERMINAL)))
        .order_by(Job.id)
        .limit(3)
    ).all()
    if jobs:
        raise refuse("in_use", f"these jobs need it: {', '.join(jobs)}; cancel them first")
    inspecting = s.scalars(
        select(func.count())
        .select_from(Inspection)
        .where(
            Inspection.project_id == scope.project_id,
            Inspection.state == "running",
            cast(Inspection.spec, Text).contains(object_id, autoescape=True),
        )
    ).one()
    if inspecting:
        raise refuse("in_use", "it is being inspected; try again in a moment", retryable=True)
