"""Delivered models: `client.artifacts`."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Unpack

from ladapress import types
from ladapress.download import fetch
from ladapress.modes import Mode, operation
from ladapress.pages import Asked, Window, listing
from ladapress.resource import Moved, Resource, nobody
from ladapress.transport import place


class Artifacts(Resource[Mode]):
    """Delivered models."""

    @operation
    async def get(self, artifact_id: str) -> types.Artifact:
        """One artifact with its files, their sizes and digests."""
        return await self._ask(types.Artifact, "GET", place("artifacts", artifact_id))

    @listing
    def list(
        self,
        *,
        job_id: str | None = None,
        **window: Unpack[Window],
    ) -> Asked[types.Artifact]:
        """Newest first, `limit` a page; those of one job where it is named."""
        return self._list(types.Artifact, place("artifacts"), window, job_id=job_id)

    @operation
    async def keep(self, artifact_id: str, *, expires_at: datetime | str | None) -> types.Artifact:
        """Say when its files go by themselves; None: never."""
        return await self._keep(types.Artifact, place("artifacts", artifact_id), expires_at)

    @operation
    async def delete(self, artifact_id: str) -> None:
        """Have its files be gone; its figures stay, with `expired_at`."""
        await self._delete(place("artifacts", artifact_id))

    @operation
    async def download(
        self, artifact_id: str, folder: str | os.PathLike[str], *, moved: Moved = nobody
    ) -> tuple[Path, ...]:
        """Fetch all files into `folder`, each checked by its sha256 before any of them gets its name.

        Raises:
            LadapressError: `expired` where the files are gone; `damaged_download`; see `ladapress.download.fetch`.
        """
        return await fetch(self._transport, await Artifacts.get(self, artifact_id), Path(folder), moved)
