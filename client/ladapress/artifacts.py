"""Delivered models: `client.artifacts`."""

from __future__ import annotations

import os
from pathlib import Path

from ladapress import types
from ladapress.download import fetch
from ladapress.modes import Mode, operation
from ladapress.resource import Moved, Resource, nobody
from ladapress.transport import place


class Artifacts(Resource[Mode]):
    """Delivered models."""

    @operation
    async def get(self, artifact_id: str) -> types.Artifact:
        """One artifact with its files, their sizes and digests."""
        return await self._ask(types.Artifact, "GET", place("artifacts", artifact_id))

    @operation
    async def download(
        self, artifact_id: str, folder: str | os.PathLike[str], *, moved: Moved = nobody
    ) -> tuple[Path, ...]:
        """Fetch all files into `folder`, each checked by its sha256 before any of them gets its name.

        Raises:
            LadapressError: `damaged_download`; see `ladapress.download.fetch`.
        """
        return await fetch(self._transport, await Artifacts.get(self, artifact_id), Path(folder), moved)
