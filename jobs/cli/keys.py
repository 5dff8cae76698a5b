"""`ladapress keys`: API keys of every project, for the operator. Talks to the database, not to the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from jobs.cli.database import DataDir, say, shown, transaction
from jobs.scope import DEFAULT_PROJECT

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from jobs.scope import Scope
    from jobs.tables import ApiKey

app = typer.Typer(
    help="Make, list, rotate and revoke API keys of any project.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
ProjectName = Annotated[
    str, typer.Option("--project", "-p", help="Name or id. [default: the default project]", show_default=False)
]
KeyId = Annotated[str, typer.Argument(help="key_..., as `ladapress keys list` shows it.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="For people: who or what holds the key.")],
    project: ProjectName = DEFAULT_PROJECT,
    scope: Annotated[list[str] | None, typer.Option(help="Repeatable. [default: read, write]")] = None,
    days: Annotated[float | None, typer.Option(min=0, help="It ends after so many days. [default: never]")] = None,
    data_dir: DataDir = None,
) -> None:
    """Make a key. Its token is printed this once, alone on standard output."""
    from jobs.clock import now
    from jobs.keys import create_key

    with transaction(data_dir, "keys") as s:
        ends = None if days is None else now(s) + days * 86_400
        key, token = create_key(s, _scope(s, project), name, scope or ("read", "write"), ends)
    print(token)
    ending = "" if ends is None else f", until {shown(ends)}"
    say("keys", f"made {key.id} ({', '.join(key.scopes)}{ending}); from now on every request needs a key")


@app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option("--project", "-p", help="Only this one's.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Every key, oldest first."""
    from sqlalchemy import select

    from jobs.clock import now
    from jobs.projects import find_project
    from jobs.tables import ApiKey, Project

    with transaction(data_dir, "keys") as s:
        query = select(ApiKey, Project.name).join(Project, Project.id == ApiKey.project_id).order_by(ApiKey.id)
        if project is not None:
            query = query.where(ApiKey.project_id == find_project(s, project).id)
        rows, time = s.execute(query).all(), now(s)
    for key, of in rows:
        used = "never used" if key.last_used_at is None else f"used {shown(key.last_used_at)}"
        print(f"{key.id}  {of}  {key.name}  {','.join(key.scopes)}  {_state(key, time)}  {used}")


@app.command()
def rotate(
    key_id: KeyId,
    grace_hours: Annotated[float, typer.Option(min=0, max=720, help="So long the old secret still works.")] = 24,
    data_dir: DataDir = None,
) -> None:
    """Give a key a new secret, printed this once; the old one works for a while."""
    from jobs.keys import rotate_key

    with transaction(data_dir, "keys") as s:
        _, token = rotate_key(s, _scope_of_key(s, key_id), key_id, grace_hours * 3600)
    print(token)
    say("keys", f"{key_id} has a new secret; the old one works for {grace_hours:g} hours")


@app.command()
def revoke(key_id: KeyId, data_dir: DataDir = None) -> None:
    """End a key for good, from the next request on."""
    from jobs.keys import revoke_key

    with transaction(data_dir, "keys") as s:
        revoke_key(s, _scope_of_key(s, key_id), key_id)
    print(f"{key_id} lets nobody in any more")


def _scope(s: Session, project: str) -> Scope:
    from jobs.projects import OPERATOR, find_project
    from jobs.scope import Scope

    return Scope(find_project(s, project).id, who=OPERATOR)


def _scope_of_key(s: Session, key_id: str) -> Scope:
    """The operator names a key alone; its project follows."""
    from jobs.problem import refuse
    from jobs.projects import OPERATOR
    from jobs.scope import Scope
    from jobs.tables import ApiKey

    key = s.get(ApiKey, key_id)
    if key is None:
        raise refuse("not_found", f"no key has the id {key_id!r}")
    return Scope(key.project_id, who=OPERATOR)


def _state(key: ApiKey, now: float) -> str:
    if key.revoked_at is not None:
        return f"revoked {shown(key.revoked_at)}"
    if key.expires_at is None:
        return "active"
    return f"{'expired' if key.expires_at <= now else 'active until'} {shown(key.expires_at)}"
