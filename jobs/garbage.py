"""The sweep: bytes that no row refers to leave the store, hours before the day is over that the docs promise.

Rows go at once when a user deletes; bytes stay for a grace period, because an upload or a publish that runs now has
put its bytes already and will commit its row in a moment.
"""

from __future__ import annotations

from itertools import groupby

from sqlalchemy import select, union
from sqlalchemy.orm import Session

from jobs.store import Store
from jobs.tables import ArtifactFile, Checkpoint, Dataset, ModelFile

GRACE_S = 6 * 3600
EVERY_S = 3600  # a look at every name in the store


def sweep(s: Session, store: Store, grace_s: float = GRACE_S) -> int:
    """Remove blobs without a row that nobody has put for `grace_s`, and half-written files; how many."""
    removed = store.drop_parts(grace_s)
    for project, blobs in groupby(list(store.blobs()), key=lambda blob: blob[0]):
        wanted = referenced(s, project)
        removed += sum(store.delete_stale(project, sha, grace_s) for _, sha in blobs if sha not in wanted)
    return removed


def referenced(s: Session, project_id: str) -> set[str]:
    """The sha256 of every blob that a row of the project names."""
    tables = (ModelFile, Dataset, ArtifactFile)
    rows = union(*(select(table.sha256).where(table.project_id == project_id) for table in tables))
    listed = s.scalars(select(Checkpoint.files).where(Checkpoint.project_id == project_id))
    return {sha for sha in s.scalars(rows) if sha is not None} | {sha for files in listed for sha in files.values()}
