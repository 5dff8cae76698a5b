"""A database with one ready model and two datasets, on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from jobs.db import Database, connect
from jobs.settings import Settings
from tests.jobs.world import World


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", database_url=database_url)


@pytest.fixture
def db(settings: Settings) -> Iterator[Database]:
    database = connect(settings)
    yield database
    database.dispose()


@pytest.fixture
def world(db: Database, settings: Settings) -> World:
    """A model and data that an inspection found good."""
    return World(db, settings, itertools.count())
