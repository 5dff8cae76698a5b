"""`ladapress backup` and `ladapress restore`: a whole service into a folder, and back into an empty one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.database import DataDir, say, settings_at

if TYPE_CHECKING:
    from collections.abc import Callable

    from jobs.backup import Copied


def backup(
    folder: Annotated[
        Path, typer.Argument(help="Where to; may hold an earlier backup, then only what is new is copied.")
    ],
    data_dir: DataDir = None,
) -> None:
    """Copy the database and every stored file while the service runs.

    Not the keys: keep the signing key and the webhook key apart, as secret as passwords. Exits with 1 where a file is
    damaged or the copy could not be made.
    """
    from jobs.backup import back_up

    settings = settings_at(data_dir)
    copied = _run("backup", lambda: back_up(settings, folder))
    say("backup", f"not in it: {settings.signing_key_file} and {settings.webhook_key_file}; keep them elsewhere")
    _end("backup", copied)


def restore(
    folder: Annotated[Path, typer.Argument(help="A folder that `ladapress backup` has filled.")],
    data_dir: DataDir = None,
) -> None:
    """Bring a backup back into a service that is empty and does not run.

    Exits with 1, and has changed nothing, where the service is not empty.
    """
    from jobs.backup import restore as bring_back

    settings = settings_at(data_dir)
    copied = _run("restore", lambda: bring_back(settings, folder))
    if not settings.webhook_key_file.exists():
        say("restore", f"{settings.webhook_key_file} is not there: webhooks that exist cannot be signed without it")
    if not settings.signing_key_file.exists():
        say("restore", f"{settings.signing_key_file} is not there: a worker makes a new key, which nobody has pinned")
    _end("restore", copied)


def _run(command: str, copy: Callable[[], Copied]) -> Copied:
    from sqlalchemy.exc import SQLAlchemyError

    from jobs.backup import BackupError
    from jobs.problem import Refused

    try:
        return copy()
    except (BackupError, OSError) as error:
        say(command, str(error))
    except Refused as error:
        say(command, error.problem.detail)
    except SQLAlchemyError as error:
        say(command, f"the database does not answer: {getattr(error, 'orig', None) or error}")
    raise typer.Exit(1)


def _end(command: str, copied: Copied) -> None:
    print(f"{copied.files} files copied, {copied.bytes / 1e6:.1f} MB; {copied.there} were there")
    for sha256 in copied.damaged:
        say(command, f"damaged, left out: {sha256}")
    for sha256 in copied.missing:
        say(command, f"named by a row, but not in the backup: {sha256}")
    if not copied.whole:
        raise typer.Exit(1)
