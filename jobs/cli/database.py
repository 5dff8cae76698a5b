"""How a command of the operator reaches the database: by the settings that the service has (LADAPRESS_*)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.settings import Settings

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.db import Database

DataDir = Annotated[Path | None, typer.Option(help="Home of all data. [default: ladapress-data]")]


def opened(data_dir: Path | None, command: str) -> tuple[Settings, Database]:
    """The settings and their database, at its newest schema. Exits with 1 where it cannot be opened."""
    from sqlalchemy.exc import OperationalError

    from jobs.db import connect, upgrade

    settings = settings_at(data_dir)
    try:
        upgrade(settings)
    except OperationalError as error:
        say(command, f"cannot open the database: {error.orig}")
        raise typer.Exit(1) from None
    return settings, connect(settings)


def settings_at(data_dir: Path | None) -> Settings:
    """The service's settings, in this folder where one is given."""
    return Settings.model_validate({} if data_dir is None else {"data_dir": data_dir})


@contextmanager
def transaction(data_dir: Path | None, command: str) -> Iterator[Session]:
    """One transaction; what the service refuses is one line and exit code 1, and nothing is written."""
    from jobs.problem import Refused

    _, db = opened(data_dir, command)
    try:
        with db.sessions.begin() as s:
            yield s
    except Refused as error:
        say(command, error.problem.detail)
        raise typer.Exit(1) from None
    finally:
        db.dispose()


def shown(seconds: float) -> str:
    """A time for people, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def say(command: str, line: str) -> None:
    """One line beside the answer."""
    print(f"{command}: {line}", file=sys.stderr, flush=True)
