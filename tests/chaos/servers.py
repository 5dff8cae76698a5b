"""PostgreSQL and Redis that come back after `kill -9`, as an operator's supervisor would have it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo import ephemeral
from tests.test_ephemeral import data_directory


@dataclass(frozen=True)
class Server:
    """`folder` is where it lives; `url` stays the same over all of its lives."""

    url: str
    folder: Path

    def kill(self, *, away_s: float | None = None) -> None:
        """SIGKILL, if it lives at this moment. It is started again after this pause, or the one that it was given."""
        (self.folder / "pause").unlink(missing_ok=True)
        if away_s is not None:
            (self.folder / "pause").write_text(str(away_s))
        try:
            os.kill(int((self.folder / "server.pid").read_text()), signal.SIGKILL)
        except (ProcessLookupError, ValueError):  # between two lives
            return


@contextmanager
def postgresql(*, away_s: float) -> Iterator[Server]:
    """A server that is away for about so many seconds when it was killed."""
    binaries = ephemeral.postgresql_binaries(os.environ.get("PATH", ""), ephemeral.DEBIAN_POSTGRESQL)
    with ephemeral.start_postgresql(binaries, again_s=away_s) as url:
        yield Server(url, data_directory(url))


@contextmanager
def redis(*, away_s: float) -> Iterator[Server]:
    """The same; whatever it held is lost."""
    with ephemeral.start_redis(ephemeral.redis_binary(os.environ.get("PATH", "")), again_s=away_s) as url:
        yield Server(url, data_directory(url))
