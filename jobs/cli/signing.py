"""`ladapress signing`: the keys that sign artifacts. Wants the settings that the workers have (LADAPRESS_*)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from jobs.cli.database import DataDir, opened, say, shown
from jobs.settings import Settings

if TYPE_CHECKING:
    from jobs.signing import SigningKey

app = typer.Typer(
    help="List and rotate the keys that sign artifacts.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command("list")
def list_keys(data_dir: DataDir = None) -> None:
    """Every key that ever signed here, oldest first; a star marks the one in the key file."""
    from jobs.signing_keys import known

    settings, db = opened(data_dir, "signing")
    in_file = _in_file(settings)
    with db.readers() as s:
        rows = known(s)
    db.dispose()
    for row in rows:
        mark = "*" if in_file is not None and row.id == in_file.kid else " "
        state = "active" if row.retired_at is None else f"retired {shown(row.retired_at)}"
        endorsed = f", endorsed by {row.endorsed_by}" if row.endorsed_by else ""
        print(f"{mark} {row.id}  since {shown(row.created_at)}, {state}{endorsed}")
    if in_file is None or in_file.kid not in {row.id for row in rows}:
        holds = "is not there yet" if in_file is None else f"holds {in_file.kid}, which has signed nothing yet"
        _say(f"{settings.signing_key_file} {holds}")


@app.command()
def rotate(data_dir: DataDir = None) -> None:
    """Put a new key into the key file, endorsed by the old one; workers take it for the next artifact."""
    from jobs.secret_file import replacement
    from jobs.signing import SigningKey
    from jobs.signing_keys import register, retire

    settings, db = opened(data_dir, "signing")
    path, new = settings.signing_key_file, SigningKey.fresh()
    old = _in_file(settings)
    if old is None:
        _say(f"{path} is not there: nothing to rotate; the first worker writes a key, or LADAPRESS_SIGNING_KEY_FILE")
        raise typer.Exit(1)
    try:
        with replacement(path, new.pem()) as place:
            with db.sessions.begin() as s:  # before the new key can sign: nobody could follow it otherwise
                register(s, old)
                register(s, new, endorsed_by=old)
            place()
        with db.sessions.begin() as s:
            retire(s, old.kid)
    except OSError as error:
        _say(f"{path} cannot be replaced: {error.strerror}; the old key stays")
        raise typer.Exit(1) from None
    finally:
        db.dispose()
    print(f"{new.kid} signs from now on, endorsed by {old.kid}, whose artifacts stay valid")


def _in_file(settings: Settings) -> SigningKey | None:
    """The key in the key file; None where there is no file. Makes none."""
    from jobs.signing import SigningKey

    if not settings.signing_key_file.exists():
        return None
    try:
        return SigningKey.load(settings.signing_key_file)
    except (OSError, ValueError) as error:
        _say(str(error))
        raise typer.Exit(1) from None


def _say(line: str) -> None:
    say("signing", line)
