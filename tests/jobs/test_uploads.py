"""Models and datasets: rows about bytes, and the sweep that removes bytes without rows."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from jobs import service
from jobs.garbage import sweep
from jobs.local_store import LocalStore
from jobs.problem import Refused
from jobs.scope import get
from jobs.store import Blob
from jobs.tables import Audit, Dataset, Model, ModelFile
from tests.jobs.world import MOST, World

ONE, TWO = Blob("1" * 64, 10), Blob("2" * 64, 20)


def refused(world: World, call: object, *args: object) -> str:
    with pytest.raises(Refused) as caught, world.db.sessions.begin() as s:
        call(s, world.scope, *args)  # type: ignore[operator]
    return caught.value.problem.code


def declare(world: World, *files: service.DeclaredFile) -> str:
    with world.db.sessions.begin() as s:
        return service.create_model(s, world.scope, "m", files).id


def arrive(world: World, model_id: str, path: str, blob: Blob) -> Model:
    with world.db.sessions.begin() as s:
        return service.file_arrived(s, world.scope, model_id, path, blob, MOST)


def test_a_model_is_ready_when_its_last_file_has_arrived(world: World) -> None:
    model_id = declare(world, service.DeclaredFile("a.json"), service.DeclaredFile("b.safetensors"))
    assert (arrive(world, model_id, "b.safetensors", TWO).status) == "open"
    model = arrive(world, model_id, "a.json", ONE)
    assert (model.status, model.size_bytes) == ("ready", 30)
    assert refused(world, service.file_arrived, model_id, "a.json", TWO, MOST) == "model_complete"


def test_only_what_was_declared_arrives(world: World) -> None:
    """Another name, another size, another sha256: each is refused by its own code and changes nothing."""
    model_id = declare(world, service.DeclaredFile("a", size=10), service.DeclaredFile("b", sha256="2" * 64))
    assert refused(world, service.file_arrived, model_id, "c", ONE, MOST) == "not_found"
    assert refused(world, service.file_arrived, model_id, "a", TWO, MOST) == "size_mismatch"
    assert refused(world, service.file_arrived, model_id, "b", ONE, MOST) == "sha256_mismatch"
    with world.db.readers() as s:
        assert not any(file.present for file in service.model_files(s, world.scope, model_id))
        assert service.declared_file(s, world.scope, model_id, "a").size == 10


def test_what_a_job_needs_is_not_deleted_before_it_has_ended(world: World) -> None:
    request = world.judged()
    world.submit(request)
    assert refused(world, service.delete_model, request.model) == "in_use"
    assert refused(world, service.delete_dataset, request.data.eval) == "in_use"
    held = world.claim()
    assert held is not None
    assert refused(world, service.delete_dataset, request.data.train) == "in_use"
    world.publish(held)
    with world.db.sessions.begin() as s:
        service.delete_model(s, world.scope, request.model)
        service.delete_dataset(s, world.scope, request.data.train)
        service.delete_dataset(s, world.scope, request.data.eval)
    with world.db.readers() as s:
        for table in (Model, ModelFile, Dataset):
            assert s.scalars(select(table)).all() == []
        deletes = s.scalars(select(Audit.object).where(Audit.action.endswith(".delete"))).all()
    assert set(deletes) == {request.model, request.data.train, request.data.eval}
    assert refused(world, service.submit, request, None) == "not_found"


def test_what_is_being_inspected_is_not_deleted(world: World) -> None:
    """The worker reads it now. Queued is no hindrance: the inspection then finds nothing."""
    request = world.request()
    with world.db.sessions.begin() as s:
        inspection = service.request_inspection(s, world.scope, request.inspection()).id
        held = service.claim_inspection(s, "judge", 60)
    assert held is not None
    assert refused(world, service.delete_model, request.model) == "in_use"
    with world.db.sessions.begin() as s:
        assert service.release_inspection(s, inspection, held.fence)
        service.delete_model(s, world.scope, request.model)
    with world.db.sessions.begin() as s:
        again = service.claim_inspection(s, "judge", 60)
        assert again is not None
        with pytest.raises(Refused, match="no model"):
            service.order(s, again.project_id, again.spec)


def test_the_sweep_takes_bytes_without_rows_and_nothing_else(world: World, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store")
    project, elsewhere = world.scope.project_id, world.other().scope.project_id
    kept, gone, fresh = (store.put_stream(project, [data], max_bytes=10) for data in (b"kept", b"gone", b"fresh"))
    store.put_stream(elsewhere, [b"kept"], max_bytes=10)  # no row there: the row of one project keeps no other's bytes
    for owner, sha in [(project, kept.sha256), (project, gone.sha256), (elsewhere, kept.sha256)]:
        os.utime(store.path(owner, sha), (time.time() - 5000,) * 2)
    with world.db.sessions.begin() as s:
        dataset = service.create_dataset(s, world.scope, None, "csv", kept)
        assert sweep(s, store, grace_s=3600) == 2
    assert set(store.blobs()) == {(project, kept.sha256), (project, fresh.sha256)}
    with world.db.sessions.begin() as s:
        service.delete_dataset(s, world.scope, dataset.id)
        assert sweep(s, store, grace_s=3600) == 1
    assert list(store.blobs()) == [(project, fresh.sha256)]
    with world.db.readers() as s, pytest.raises(Refused):
        get(s, world.scope, Dataset, dataset.id)


def test_files_without_a_declared_size_share_the_limit_of_the_model(world: World) -> None:
    """The one that would pass it is refused and stays missing; a smaller one may come in its place."""
    model_id = declare(world, service.DeclaredFile("a.json"), service.DeclaredFile("b.json"))
    arrive(world, model_id, "a.json", Blob("a" * 64, MOST - 10))
    assert refused(world, service.file_arrived, model_id, "b.json", Blob("b" * 64, 11), MOST) == "payload_too_large"
    with world.db.readers() as s:
        assert [file.present for file in service.model_files(s, world.scope, model_id)] == [True, False]
    assert arrive(world, model_id, "b.json", Blob("b" * 64, 10)).status == "ready"
