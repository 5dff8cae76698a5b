"""One service for all submissions of a file."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.settings import Settings
from tests.corpus.desk import Desk
from tests.corpus.desk import desk as opened


@pytest.fixture(scope="module")
def desk(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """SQLite; patient, so that a busy machine answers as a quick one does."""
    folder = tmp_path_factory.mktemp("corpus")
    shutil.copyfile(sqlite_template, folder / "ladapress.db")
    url = f"sqlite:///{folder / 'ladapress.db'}"
    with opened(Settings(data_dir=folder, database_url=url, inspect_wait_s=60)) as made:
        yield made
