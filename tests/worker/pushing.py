"""An artifact that is ready to be pushed, and a pusher without a process around it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select, update

from jobs import service
from jobs.clock import db_now
from jobs.registries import Registries
from jobs.requests import PushRequest
from jobs.settings import Settings
from jobs.signing import SigningKey
from jobs.stores import open_store
from jobs.tables import Artifact, Push
from tests.client.artifacts import PLAIN, sealed
from tests.jobs.world import World
from worker.pushes import Pusher

TOKEN = "hf_2f1ThisIsASecret9Zq"
README = b"---\ntags: [ladapress]\n---\n# A model\n"
KEY = SigningKey.fresh()


def artifact_files(**fields: bytes) -> dict[str, bytes]:
    """A signed artifact's files; `fields` are more of them, by name without suffix."""
    plain = {**PLAIN, "README.md": README, **{f"{name}.txt": content for name, content in fields.items()}}
    return {**plain, **sealed(plain, KEY)}


@dataclass
class PushScene:
    """A world that publishes and pushes."""

    world: World
    settings: Settings
    stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def make(cls, folder: Path, database_url: str, registry: str, **settings: Any) -> PushScene:
        """`registry` is the file's text; its token_file is `token` beside it."""
        (folder / "token").write_text(TOKEN + "\n")
        (folder / "registries.toml").write_text(registry)
        fields = {"data_dir": folder, "database_url": database_url, "registries_file": folder / "registries.toml"}
        made = Settings(**{**fields, "push_retry_s": 0.01, "tick_s": 0.05, "lease_s": 4, **settings})
        from jobs.db import connect

        return cls(World(connect(made), made, itertools.count(1)), made)

    def artifact(self, files: Mapping[str, bytes] | None = None) -> str:
        """Publish these files as a job's only point."""
        held, store, published = self.world.claimed(), open_store(self.settings), []
        for path, content in (files or artifact_files()).items():
            blob = store.put_stream(held.project_id, [content], max_bytes=1 << 30)
            published.append(service.PublishedFile(path, blob.size, blob.sha256, "application/octet-stream"))
        with self.world.db.sessions.begin() as s:
            point = service.PublishedPoint(published, {"retention": 0.99, "bytes_ratio": 4.0, "target_met": True})
            assert service.publish(s, held.job_id, held.fence, {"target_met": True}, [point])
            return s.scalars(select(Artifact.id).where(Artifact.job_id == held.job_id)).one()

    def ask(self, artifact_id: str, **asked: str) -> str:
        request = PushRequest.model_validate({"registry": "hub", "to": "acme/small", **asked})
        Registries.load(self.settings).find(self.world.scope.project_id, request)
        with self.world.db.sessions.begin() as s:
            return service.request_push(s, self.world.scope, artifact_id, request)[0].id

    def once(self) -> bool:
        """One look of a fresh pusher, at a time when every wait is over."""
        with self.world.db.sessions.begin() as s:
            s.execute(update(Push).values(not_before=db_now() - 1))
        return Pusher(self.settings).push_one(self.stop)

    def row(self, push_id: str) -> Push:
        with self.world.db.readers() as s:
            return s.get_one(Push, push_id)

    def push(self, artifact_id: str, **asked: str) -> Push:
        """Ask, make, look."""
        push = self.ask(artifact_id, **asked)
        assert self.once()
        return self.row(push)
