"""Resumable uploads: rows that say what is wanted and how many bytes of it are safe on disk (docs/decisions/0017).

The bytes lie in `jobs.staging` until the last one has come; then they become a dataset or a file of a model as if they
had been sent in one piece. `received` never passes what was synced, and reaches `length` only in the transaction that
makes the object: who reads the whole length has his object.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from jobs import quotas
from jobs.clock import db_now, now
from jobs.ids import new_id
from jobs.problem import refuse
from jobs.scope import Scope, audit, get
from jobs.store import Blob
from jobs.tables import Project, Upload
from jobs.uploads import create_dataset, file_arrived

PER_TICK = 100
QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class Wanted:
    """What an upload is to become. `spec`: {"name", "format"} of a dataset, or {"model", "path"} of a model's file."""

    purpose: str
    spec: dict[str, Any]
    length: int
    sha256: str


def start_upload(
    s: Session, scope: Scope, wanted: Wanted, *, ttl_s: float, most: int, place: Callable[[str], None]
) -> Upload:
    """A new upload without bytes. Whether its object would be legal is the caller's to find out.

    Args:
        most: uploads that the project may have open.
        place: makes room for the bytes of an id; what it raises leaves no row.

    Raises:
        Refused: too_many_requests, quota_used_up.
    """
    quotas.foresee_bytes(s, scope, wanted.length)
    s.scalars(select(Project.id).where(Project.id == scope.project_id).with_for_update()).one()  # one counts at a time
    opened = select(func.count()).select_from(Upload).where(Upload.project_id == scope.project_id)
    if s.scalars(opened.where(Upload.state == "open", Upload.expires_at > db_now())).one() >= most:
        detail = f"the project has {most} uploads open, the most it may; finish or delete one first"
        raise refuse("too_many_requests", detail, retryable=True)
    row = Upload(
        id=new_id("upl"),
        project_id=scope.project_id,
        purpose=wanted.purpose,
        spec=wanted.spec,
        sha256=wanted.sha256,
        length=wanted.length,
        expires_at=db_now() + ttl_s,
    )
    s.add(row)
    audit(s, scope, "upload.create", row.id)
    s.flush()
    s.refresh(row)
    place(row.id)
    return row


def get_upload(s: Session, scope: Scope, upload_id: str, *, lock: bool = False) -> Upload:
    """An upload that has not expired. Raises Refused (not_found)."""
    row = get(s, scope, Upload, upload_id, lock=lock)
    if now(s) >= row.expires_at:
        raise refuse("not_found", "this upload has expired: no byte came for too long")
    return row


def advance(s: Session, scope: Scope, upload_id: str, before: int, received: int, ttl_s: float) -> None:
    """Note bytes that are safe on disk; the upload lives on from now.

    Raises:
        Refused: not_found where it was deleted meanwhile, upload_offset where somebody else has moved it.
    """
    moved = s.execute(
        update(Upload)
        .where(
            Upload.id == upload_id,
            Upload.project_id == scope.project_id,
            Upload.state == "open",
            Upload.received == before,
        )
        .values(received=received, expires_at=db_now() + ttl_s),
        execution_options=QUIET,
    )
    if moved.rowcount != 1:  # type: ignore[attr-defined]
        row = get_upload(s, scope, upload_id)
        raise wrong_offset(row, before)


def complete_upload(
    s: Session,
    scope: Scope,
    upload_id: str,
    blob: Blob,
    *,
    ttl_s: float,
    max_model_bytes: int,
    keep_s: float | None = None,
) -> None:
    """Make the dataset, which goes after `keep_s`, or the model's file, of bytes that are in the store.

    Raises:
        Refused: what `create_dataset` and `file_arrived` refuse; not_found.
    """
    row = get_upload(s, scope, upload_id, lock=True)
    if row.purpose == "dataset":
        row.dataset_id = create_dataset(s, scope, row.spec["name"], row.spec["format"], blob, keep_s=keep_s).id
    else:
        file_arrived(s, scope, row.spec["model"], row.spec["path"], blob, max_model_bytes)
    row.state, row.received = "complete", row.length
    s.execute(update(Upload).where(Upload.id == upload_id).values(expires_at=db_now() + ttl_s), execution_options=QUIET)
    s.flush()


def delete_upload(s: Session, scope: Scope, upload_id: str) -> None:
    """Forget an upload; the caller removes its bytes after the commit. What it became stays. Raises Refused."""
    s.delete(get(s, scope, Upload, upload_id, lock=True))
    audit(s, scope, "upload.delete", upload_id)


def expire_uploads(s: Session) -> Sequence[str]:
    """Forget uploads whose time is over, of all projects; their ids, for the caller to remove the bytes."""
    over = select(Upload.id).where(Upload.expires_at < db_now()).order_by(Upload.expires_at).limit(PER_TICK)
    ids = s.scalars(over.with_for_update(skip_locked=True)).all()
    s.execute(delete(Upload).where(Upload.id.in_(ids)), execution_options=QUIET)
    return ids


def without_bytes(s: Session, ids: Sequence[str]) -> set[str]:
    """Those of these ids whose bytes nobody needs any more: there is no such upload, or it is complete."""
    wanted = s.scalars(select(Upload.id).where(Upload.id.in_(ids), Upload.state == "open"))
    return set(ids) - set(wanted)


def wrong_offset(row: Upload, asked: int) -> Exception:
    """To be raised where a request does not go on where the upload stands."""
    return refuse("upload_offset", f"Upload-Offset is {asked}; the upload stands at {row.received}")
